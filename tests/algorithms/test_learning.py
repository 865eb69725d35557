"""Small problems are learned, in all three spaces and by every estimator."""

import gymnasium
import pytest
from gymnasium import spaces
from problems import Match, Pairs
from stable_baselines3.common.callbacks import EvalCallback, StopTrainingOnRewardThreshold
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from gsac import ESTIMATORS, GSAC

pytestmark = pytest.mark.slow


def returns(model, env):
    mean, _ = evaluate_policy(model, Monitor(env), n_eval_episodes=20)
    return mean


SPACES = [spaces.Discrete(5, start=-2), spaces.MultiDiscrete([3, 4], start=[1, -1]), spaces.MultiBinary(4)]

AT_ONE_HOTS = {"straight_through", "straight_through_gumbel", "gumbel_rao", "reinmax", "mixed"}
"""These ask for the critics' gradient at one-hots alone, where that of a linear head means something."""


@pytest.mark.parametrize(
    ("estimator", "space"),
    [(name, space) for name in ("auto", "gumbel_softmax") for space in SPACES]
    + [(name, SPACES[1]) for name in ESTIMATORS if name != "gumbel_softmax"],
    ids=str,
)
def test_it_learns_with_every_estimator(estimator, space):
    model = GSAC(
        "MlpPolicy",
        Match(space),
        estimator=estimator,
        policy_kwargs={"critic_head": "linear" if estimator in AT_ONE_HOTS else "auto"},
        learning_starts=200,
        seed=1,
        device="cpu",
    )
    assert returns(model.learn(2000), Match(space)) > 9  # a random policy has 2, about 3 and 5


def test_several_environments_learn_as_one_does():
    space = spaces.MultiBinary(4)
    env = DummyVecEnv([lambda: Match(space)] * 4)
    model = GSAC("MlpPolicy", env, learning_starts=200, seed=1, device="cpu")
    assert returns(model.learn(2000), Match(space)) > 9


def test_choices_that_depend_on_each_other_are_learned_together():
    """No switch is right without its partner; a critic that sums over switches stays near 5 plus luck."""
    model = GSAC("MlpPolicy", Pairs(3), learning_starts=500, seed=1, device="cpu")
    assert returns(model.learn(5000), Pairs(3)) > 9.5


@pytest.mark.parametrize("estimator", ["auto", "gumbel_softmax", "straight_through_gumbel"])
def test_cartpole_is_solved_within_15000_steps(estimator):
    solved = StopTrainingOnRewardThreshold(475.0)
    env = Monitor(gymnasium.make("CartPole-v1"))
    evaluation = EvalCallback(env, callback_on_new_best=solved, n_eval_episodes=10, eval_freq=1500, verbose=0)
    model = GSAC("MlpPolicy", "CartPole-v1", estimator=estimator, seed=2, device="cpu")
    model.learn(15_000, callback=evaluation)
    assert evaluation.best_mean_reward >= 475
