"""Training stops where numbers cease to be numbers, and says where; the last checkpoint stays good."""

import gymnasium
import numpy as np
import pytest
import torch
from environments import DictObservations
from gymnasium import spaces
from problems import Match
from stable_baselines3.common.vec_env import DummyVecEnv

from gsac import GSAC, REINFORCE, Checkpoint, resume
from gsac.algorithms.guards import ExperienceGuard

QUICK = {"learning_starts": 20, "batch_size": 16, "buffer_size": 1000, "seed": 0, "device": "cpu"}
SPACE = spaces.Discrete(3)


class Faulty(Match):
    """Gives what it is told to at its 30th step, which is the last of an episode."""

    def __init__(self, **wrong):
        super().__init__(SPACE)
        self.wrong, self.n = wrong, 0

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        self.n += 1
        if self.n == self.wrong.get("at", 30):
            observation = self.wrong.get("observation", observation)
            reward = self.wrong.get("reward", reward)
        return observation, reward, terminated, truncated, info


NOT_A_NUMBER = np.array([0, np.nan, 0], np.float32)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reward": np.nan}, "At step 30, environment 0 gave a reward with nan. Nothing was learned"),
        ({"reward": -np.inf}, "At step 30, environment 0 gave a reward with -inf"),
        (
            {"observation": NOT_A_NUMBER, "at": 25},
            r"At step 25, environment 0 gave an observation with nan in entry \[1\]",
        ),
        ({"observation": NOT_A_NUMBER}, r"At step 30, environment 0 gave an observation with nan in entry \[1\]"),
        ({"observation": np.zeros(4), "at": 25}, r"At step 25, the environment gave an observation that does not fit"),
    ],
)
def test_a_wrong_environment_is_named_with_its_step(wrong, message):
    model = GSAC("MlpPolicy", Faulty(**wrong), **QUICK)
    with pytest.raises(ValueError, match=message):
        model.learn(60)
    assert torch.cat([p.flatten() for p in model.policy.parameters()]).isfinite().all()
    assert np.isfinite(model.replay_buffer.rewards).all()
    assert np.isfinite(model.replay_buffer.next_observations).all()


def test_the_error_names_the_environment_and_the_entry():
    env = DummyVecEnv(
        [lambda: DictObservations(Faulty(at=99)), lambda: DictObservations(Faulty(observation=NOT_A_NUMBER, at=5))]
    )
    with pytest.raises(
        ValueError, match=r"At step 10, environment 1 gave the observation 'vector' with nan in entry \[1\]"
    ):
        GSAC("MultiInputPolicy", env, **QUICK).learn(60)


def test_the_first_observation_is_checked():
    class Wrong(Match):
        def reset(self, **kwargs):
            return super().reset(**kwargs)[0] * np.nan, {}

    with pytest.raises(ValueError, match="At step 0, environment 0 gave an observation with nan"):
        GSAC("MlpPolicy", Wrong(SPACE), **QUICK).learn(60)

    class Longer(Match):
        def reset(self, **kwargs):
            return np.zeros(7, np.float32), {}

    with pytest.raises(ValueError, match="At step 0, the environment gave an observation that does not fit"):
        GSAC("MlpPolicy", Longer(SPACE), **QUICK).learn(60)


@pytest.mark.parametrize(
    ("space", "observation", "message"),
    [
        (spaces.MultiDiscrete([3, 2]), [0, -1], r"with -1 in entry \[1\], not in MultiDiscrete\(\[3 2\]\)"),
        (spaces.MultiDiscrete([3, 2], start=[1, 0]), [0, 0], r"with 0 in entry \[0\], not in MultiDiscrete"),
        (spaces.Discrete(3), 3, r"with 3, not in Discrete\(3\)"),
    ],
    ids=str,
)
def test_classes_that_the_space_does_not_have_are_named(space, observation, message):
    class Wrong(Match):
        def __init__(self):
            super().__init__(SPACE)
            self.observation_space = space

        def reset(self, **kwargs):
            super().reset(**kwargs)
            return space.sample(), {}

        def step(self, action):
            return np.array(observation), *super().step(action)[1:]

    with pytest.raises(ValueError, match=f"At step 1, environment 0 gave an observation {message}"):
        GSAC("MlpPolicy", Wrong(), **QUICK).learn(60)


@pytest.mark.parametrize("wrong", [{"reward": np.inf}, {"observation": NOT_A_NUMBER, "at": 25}], ids=["reward", "nan"])
def test_reinforce_stops_on_nan_before_it_learns(wrong):
    model = REINFORCE("MlpPolicy", Faulty(**wrong), seed=0, device="cpu")
    with pytest.raises(ValueError, match=r"At step (25|30), environment 0 gave"):
        model.learn(400)
    assert torch.cat([p.flatten() for p in model.policy.parameters()]).isfinite().all()


def test_a_diverging_loss_stops_training_and_leaves_the_last_good_checkpoint(tmp_path):
    class Breaks(GSAC):
        def train(self, *args, **kwargs):
            if self.num_timesteps == 45:
                with torch.no_grad():
                    next(self.critic.parameters())[0] = torch.inf
            super().train(*args, **kwargs)

    model = Breaks("MlpPolicy", Match(SPACE), **QUICK)
    with pytest.raises(ValueError, match=r"critic_loss.* not a number between the updates 24 and 25, at step 45"):
        model.learn(60, callback=Checkpoint(tmp_path / "run.ckpt", every=10))
    resumed = resume(tmp_path / "run.ckpt", Match(SPACE), device="cpu")
    assert resumed.num_timesteps == 40
    assert torch.cat([p.flatten() for p in resumed.policy.parameters()]).isfinite().all()


def test_a_broken_model_is_not_written_over_a_good_checkpoint(tmp_path):
    model = GSAC("MlpPolicy", Match(SPACE), **QUICK).learn(30)
    model.updates.metrics.add(
        model.learner.step(model.sample_batch(8)).metrics._replace(critic_loss=torch.tensor(torch.nan))
    )
    model._n_updates += 1
    with pytest.raises(ValueError, match="critic_loss became infinite or not a number"):
        model.learn(1, callback=Checkpoint(tmp_path / "run.ckpt", every=1), reset_num_timesteps=False)
    assert not (tmp_path / "run.ckpt").exists()


def test_learning_needs_an_environment(tmp_path):
    GSAC("MlpPolicy", Match(SPACE), **QUICK).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"learn\(\) needs an environment, and this model has none"):
        GSAC.load(tmp_path / "model").learn(10)


def test_a_buffer_holds_a_batch():
    with pytest.raises(ValueError, match="buffer_size=100 holds less than one batch of batch_size=128"):
        GSAC("MlpPolicy", "CartPole-v1", buffer_size=100)


def test_integer_observations_pass():
    model = GSAC("MlpPolicy", gymnasium.make("FrozenLake-v1"), **QUICK).learn(40)
    assert model.num_timesteps == 40


def test_a_guard_needs_no_algorithm():
    guard = ExperienceGuard(spaces.Dict({"x": spaces.Box(-1, 1, (2,)), "k": spaces.Discrete(3, start=1)}))
    fine = {"x": np.zeros((2, 2), np.float32), "k": np.array([1, 3])}
    guard.check_transition(7, fine, np.zeros(2), np.array([False, False]), [{}, {}])
    with pytest.raises(ValueError, match="At step 7, environment 1 gave the observation 'k' with 0, not in"):
        guard.check_observation(7, fine | {"k": np.array([1, 0])})
    with pytest.raises(ValueError, match=r"environment 1 gave the observation 'x' with inf in entry \[0\]"):
        last = {"x": np.array([np.inf, 0]), "k": np.array(1)}
        guard.check_transition(7, fine, np.zeros(2), np.array([False, True]), [{}, {"terminal_observation": last}])
    with pytest.raises(ValueError, match="At step 3, environment 0 gave a reward with nan"):
        guard.check_rewards(3, np.array([np.nan, 0]))
