"""How LunarLander's episodes end: told apart on the real environment, counted by hand."""

import gymnasium
import landings
import numpy as np
import pytest
from gymnasium.envs.box2d.lunar_lander import heuristic
from gymnasium.wrappers import TimeLimit

from gsac import GSAC
from gsac.experiments.run_file import RunFile


def flown(policy, seed=0):
    """The end of an episode under ``policy(env, observation)``."""
    env = gymnasium.make(landings.PROBLEM)
    observation, _ = env.reset(seed=seed)
    steps, standing, over = 0, 0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy(env, observation))
        steps, standing = steps + 1, standing + bool(np.all(observation[landings.LEGS] > 0))
        over = terminated or truncated
    return landings.end_of(reward, truncated and not terminated, standing / steps)


def never_at_rest(env, observation):
    """Comes down safely, and fires an engine in one step of four once it stands."""
    if not np.all(observation[landings.LEGS] > 0):
        return heuristic(env.unwrapped, observation)
    return 3 * (env.unwrapped.np_random.integers(4) == 0)


def test_the_environments_own_pilot_lands():
    assert flown(lambda env, observation: heuristic(env.unwrapped, observation)) == "landed"


def test_whoever_does_nothing_crashes():
    assert flown(lambda env, observation: 0) == "crashed"


def test_firing_on_the_ground_is_no_landing():
    assert flown(never_at_rest, seed=2) == "on the legs"


def test_the_callback_sees_the_ends_that_the_monitor_sees():
    env = TimeLimit(gymnasium.make(landings.PROBLEM), 100)
    model = GSAC("MlpPolicy", env, learning_starts=1_000, seed=1, device="cpu")
    endings = landings.Endings()
    model.learn(1_000, callback=endings)
    lengths = [episode["l"] for episode in model.ep_info_buffer]
    assert [step for step, _ in endings.endings] == np.cumsum(lengths).tolist()
    assert [end for _, end in endings.endings] == ["in the air" if n == 100 else "crashed" for n in lengths]
    assert {end for _, end in endings.endings} == {"in the air", "crashed"}


def test_the_table_by_hand():
    row = {
        **{"label": "GSAC, preset", "variation": "", "seed": 3, "timesteps": 50},
        "endings": [[1, "crashed"], [10, "landed"], [11, "landed"], [30, "in the air"], [50, "on the legs"]],
    }
    other = row | {"variation": "ent_coef=0.1", "endings": []}
    assert landings.markdown([other, row]).splitlines() == [
        "| settings | seed | landed | crashed | in the air | on the legs |",
        "|---|---|---|---|---|---|",
        "| preset | 3 | 1, 1, 0, 0, 0 | 1, 0, 0, 0, 0 | 0, 0, 1, 0, 0 | 0, 0, 0, 0, 1 |",
        "| preset, ent_coef=0.1 | 3 | 0, 0, 0, 0, 0 | 0, 0, 0, 0, 0 | 0, 0, 0, 0, 0 | 0, 0, 0, 0, 0 |",
    ]
    with pytest.raises(ValueError, match="one length"):
        landings.markdown([row, row | {"timesteps": 60}])


def test_the_counted_runs_are_on_tuning_seeds_each_once_and_the_same_for_all_settings():
    seeds = {}
    for row in RunFile(landings.MEASURE.results).read():
        seeds.setdefault((row["label"], row["variation"]), []).append(row["seed"])
    assert len({tuple(sorted(of_one)) for of_one in seeds.values()}) == 1
    for of_one in seeds.values():
        assert len(set(of_one)) == len(of_one)
        assert min(of_one) >= 100
