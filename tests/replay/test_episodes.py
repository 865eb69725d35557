import numpy as np
import pytest
import torch

from gsac.replay.episodes import Episodes

CPU = torch.device("cpu")


def gathered(episodes, lengths):
    """Fills ``episodes`` from environments whose episodes have these lengths in turn; a reward tells env and step."""
    n_envs = len(lengths)
    played, at = [0] * n_envs, [0] * n_envs
    steps = 0
    while not episodes.complete:
        rewards = np.array([100 * i + 10 * played[i] + at[i] for i in range(n_envs)], np.float32)
        dones = np.array([at[i] + 1 == lengths[i][played[i] % len(lengths[i])] for i in range(n_envs)])
        episodes.add(rewards[:, None], np.arange(n_envs) + 10 * steps, rewards, dones)
        for i in range(n_envs):
            played[i], at[i] = (played[i] + 1, 0) if dones[i] else (played[i], at[i] + 1)
        steps += 1
    return steps


def test_each_environment_brings_its_first_episodes_and_the_rest_is_discarded():
    episodes = Episodes(3, n_envs=2)
    assert episodes.quotas == [2, 1]
    steps = gathered(episodes, [[1, 2], [5]])
    batch = episodes.batch(CPU)
    assert steps == 5
    assert episodes.discarded == 2  # the first environment had made its share after three steps
    assert batch.rewards.tolist() == [[0, 0, 0, 0, 0], [10, 11, 0, 0, 0], [100, 101, 102, 103, 104]]
    assert batch.mask.sum(1).tolist() == [1, 2, 5]
    assert batch.observations.flatten().equal(batch.rewards[batch.mask])
    assert batch.actions.tolist() == [0, 10, 20, 1, 11, 21, 31, 41]


def test_dictionaries_are_gathered_by_key():
    episodes = Episodes(1, n_envs=1)
    for step in range(3):
        observation = {"a": np.full((1, 2), step, np.float32), "b": np.full((1, 1), step, np.uint8)}
        episodes.add(observation, np.zeros(1), np.ones(1), np.array([step == 2]))
    observations = episodes.batch(CPU).observations
    assert observations["a"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert observations["b"].dtype == torch.uint8


@pytest.mark.parametrize("n_envs", [1, 2, 4])
def test_the_lengths_of_the_episodes_are_those_of_the_environment_however_many_run(n_envs):
    """Episodes of 1 or 19 steps, as likely: the first ones to end would nearly all be short."""
    random = np.random.default_rng(0)
    lengths = []
    for _ in range(200):
        episodes = Episodes(4, n_envs)
        gathered(episodes, [random.choice([1, 19], size=300).tolist() for _ in range(n_envs)])
        lengths += episodes.batch(CPU).mask.sum(1).tolist()
    assert np.mean(lengths) == pytest.approx(10.0, abs=4 * 9 / np.sqrt(800))
