"""What an algorithm is built with, as plain data that can be written down, and the model that it makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.vec_env import VecNormalize

from gsac.algorithms.arguments import constructor_parameters, table_entry
from gsac.algorithms.base import Algorithm
from gsac.experiments.environments import make_envs, policy_for
from gsac.networks.small_cnn import choose_extractor
from gsac.schedules import parse_schedule

SCHEDULED = ("learning_rate", "clip_range")
"""Arguments of SB3's algorithms that take schedules; SB3 reads functions only."""


@dataclass(frozen=True)
class Settings:
    """What an algorithm is built with.

    :param arguments: of the constructor; schedules as strings, so that they can be written down
    :param n_envs: environments side by side
    :param normalize: whether running statistics normalise observations and rewards (SB3's ``VecNormalize``)
    :param source: where the settings are from
    :param env_wrapper: around each environment, as :func:`gsac.envs.wrappers.wrap` reads them
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    n_envs: int = 1
    normalize: bool = False
    source: str = "defaults"
    env_wrapper: Any = None


def with_defaults(algorithm: type[BaseAlgorithm], arguments: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments that change what is learned: those given, and the defaults of the others."""
    return {
        name: p.default for name, p in constructor_parameters(algorithm).items() if table_entry(name).setting
    } | arguments


def make_model(algorithm: type[BaseAlgorithm], settings: Settings, env_id: str, seed: int) -> BaseAlgorithm:
    """Builds the model with its environments, on the CPU, with the policy that fits the observations.

    :raises ValueError: an argument out of its range, or one that the environment does not go with
    :raises TypeError: an argument of the wrong kind
    :raises AssertionError: actions that the algorithm does not take
    :raises NotImplementedError: observations that SB3 does not take
    """
    env = make_envs(env_id, settings.n_envs, seed, settings.env_wrapper)
    if settings.normalize:
        env = VecNormalize(env, gamma=settings.arguments.get("gamma", 0.99))
    env = algorithm._wrap_env(env)  # images channels first, as the policies see them
    arguments = settings.arguments
    if not issubclass(algorithm, Algorithm):
        arguments = with_readable_extractor(sb3_arguments(arguments), env.observation_space)
    return algorithm(policy_for(env.observation_space), env, seed=seed, device="cpu", **arguments)


def sb3_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as SB3's constructors take them: schedules as functions.

    >>> sb3_arguments({"learning_rate": "linear:0.001:0", "n_steps": 32})
    {'learning_rate': Linear(start=0.001, end=0.0, updates=None), 'n_steps': 32}
    """
    return {
        name: parse_schedule(value, name) if name in SCHEDULED and isinstance(value, str) else value
        for name, value in arguments.items()
    }


def with_readable_extractor(arguments: dict[str, Any], space: spaces.Space[Any]) -> dict[str, Any]:
    """The arguments, and for images that SB3 refuses as too small an extractor that reads them, unless one is given.

    :param space: of the observations, images channels first
    """
    extractor = choose_extractor(NatureCNN, space)
    if extractor is NatureCNN:
        return arguments
    policy_kwargs = {"features_extractor_class": extractor} | (arguments.get("policy_kwargs") or {})
    return arguments | {"policy_kwargs": policy_kwargs}
