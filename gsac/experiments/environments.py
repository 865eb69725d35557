"""Makes Gymnasium environments by their names, in their wrappers."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv

from gsac.envs.wrappers import EpisodeStatistics, wrap

EVALUATION_SEED_OFFSET = 1_000_000
"""Added to the seed of a run for the environments of its evaluations, which so differ from those of the training."""


def check_env(env_id: str, wrappers: Any = None) -> None:
    """Makes and closes the environment.

    :raises ValueError: Gymnasium has no environment of this name, with what it would suggest, or it takes no such
        wrappers
    """
    try:
        env = gymnasium.make(env_id)
    except (gymnasium.error.Error, ImportError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"The environment {env_id!r} cannot be made: {reason}") from None
    try:
        wrap(env, wrappers)
    except Exception as error:  # of whatever kind a wrapper raises
        raise ValueError(f"The environment {env_id!r} cannot be wrapped: {error}") from None
    finally:
        env.close()


def make_envs(env_id: str, n_envs: int, seed: int | None, wrappers: Any) -> VecEnv:
    """Makes the environments side by side, each in its wrappers, as :func:`gsac.envs.wrappers.wrap` reads them.

    The returns of their episodes, in ``info["episode"]``, are those below the wrappers. A warning says where an episode may
    have no end.
    """
    return make_vec_env(env_id, n_envs, seed, wrapper_class=partial(_wrapped, wrappers=wrappers))


def _wrapped(env: gymnasium.Env, wrappers: Any) -> gymnasium.Env:
    return EpisodeStatistics(wrap(env, wrappers))


def policy_for(observation_space: spaces.Space) -> str:
    """The name of the policy that reads such observations."""
    if isinstance(observation_space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(observation_space) else "MlpPolicy"


def reward_threshold(env_id: str) -> float | None:
    """The mean return at which Gymnasium counts the environment as solved; None if it names none.

    :raises ValueError: Gymnasium has no environment of this name
    """
    check_env(env_id)
    env = gymnasium.make(env_id)
    env.close()
    return env.spec.reward_threshold if env.spec else None
