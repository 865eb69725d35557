"""Reads settings for single environments from a YAML file that RL Baselines3 Zoo reads as well."""

from __future__ import annotations

import json
import numbers
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from stable_baselines3.common.vec_env import VecEnv

from gsac.algorithms.arguments import argument_names
from gsac.algorithms.gsac import GSAC
from gsac.checks import AT_LEAST_1, check_choice, check_number
from gsac.experiments.environments import make_envs

FILE = Path(__file__).with_name("presets.yml")

DEFAULT = "default"
"""The zoo's settings for environments that have none of their own; not a preset."""

KEYS = ("n_timesteps", "n_envs", "env_wrapper", *argument_names(GSAC, lambda argument: argument.preset))
"""What a preset may hold."""


@dataclass(frozen=True)
class Preset:
    """The settings for an environment.

    :param env: its name; with the module before it, where it was asked for so
    :param name: of the preset: the same without a module
    :param total_timesteps: for ``learn()``
    :param policy: its name
    :param arguments: of GSAC's constructor, without policy and environment; schedules as strings
    :param n_envs: environments side by side
    :param env_wrapper: around each of them, as :func:`gsac.envs.wrappers.wrap` reads them
    """

    env: str
    name: str
    total_timesteps: int
    policy: str
    arguments: dict[str, Any] = field(default_factory=dict)
    n_envs: int = 1
    env_wrapper: Any = None

    def make_env(self, seed: int | None = None) -> VecEnv:
        """The environments to train in, in their wrappers."""
        return make_envs(self.env, self.n_envs, seed, self.env_wrapper)

    def flags(self) -> dict[str, Any]:
        """The values of the flags of ``gsac train``, by their names in Python."""
        return {
            **self.arguments,
            "n_envs": self.n_envs,
            "env_wrapper": self.env_wrapper,
            "policy": self.policy,
            "total_timesteps": self.total_timesteps,
        }

    def summary(self, used: Mapping[str, Any]) -> str:
        """Lists the preset's values in one line, and behind them those that were used instead.

        >>> Preset("CartPole-v1", "CartPole-v1", 15_000, "MlpPolicy", {"n_steps": 3}).summary({"n_steps": 5})
        'preset CartPole-v1: policy=MlpPolicy, total_timesteps=15000; given instead: n_steps=5'

        :param used: values by name; what is missing there is the preset's
        """
        left_out = {"n_envs": 1, "env_wrapper": None}
        flags = {name: value for name, value in self.flags().items() if (name, value) not in left_out.items()}
        instead = {name: used[name] for name, value in self.flags().items() if used.get(name, value) != value}
        unchanged = _assignments({name: value for name, value in flags.items() if name not in instead})
        return f"preset {self.name}: {unchanged}" + (f"; given instead: {_assignments(instead)}" if instead else "")


def preset(env_id: str, file: Path | str = FILE) -> Preset:
    """The settings for an environment.

    >>> preset("CartPole-v1").total_timesteps
    10000

    :param env_id: the environment's name; of ``MODULE:ENV`` the part behind the colon counts
    :param file: YAML of the same form, for presets of your own
    :raises ValueError: there are none for it, or they hold something that is not implemented here
    """
    name = env_id.rpartition(":")[2]
    settings = read(file)
    settings.pop(DEFAULT, None)
    if name not in settings:
        raise ValueError(f"There is no preset for {name}: there are presets for {', '.join(settings)}.")
    try:
        return _preset(env_id, name, settings[name])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: {name}: {error}") from None


def read(file: Path | str = FILE) -> dict[str, dict[str, Any]]:
    """The file as it stands: settings by environment, in the zoo's own words.

    :raises ValueError: it is not YAML, or no mapping of environments to settings
    """
    try:
        settings = yaml.safe_load(Path(file).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(settings, dict) or not all(isinstance(value, dict) for value in settings.values()):
        raise ValueError(f"{file} has no settings by environment: write them as in {FILE}.")
    return settings


def _preset(env_id: str, name: str, settings: dict[str, Any]) -> Preset:
    for key in settings:
        check_choice("the key", key, KEYS)
    values = dict(settings)
    for key in ("n_timesteps", "policy"):
        if key not in values:
            raise ValueError(f"{key} is missing: add it, such as n_timesteps: 50000 and policy: MlpPolicy.")
    steps, n_envs = values.pop("n_timesteps"), values.pop("n_envs", 1)
    if isinstance(steps, float) and steps.is_integer():
        steps = int(steps)  # the zoo's own files write them as !!float 1e5
    for key, value in (("n_timesteps", steps), ("n_envs", n_envs)):
        check_number(key, value, AT_LEAST_1, lambda number: number >= 1, 50_000 if key == "n_timesteps" else 4)
    policy, env_wrapper = values.pop("policy"), values.pop("env_wrapper", None)
    if "learning_rate" in values:
        values["learning_rate"] = _learning_rate(values["learning_rate"])
    if isinstance(values.get("train_freq"), list):
        values["train_freq"] = tuple(values["train_freq"])
    return Preset(env_id, name, steps, policy, values, n_envs, env_wrapper)


def _learning_rate(value: Any) -> float | str:
    """The zoo's ``lin_START`` as a schedule of ours; numbers as they are."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    linear = re.fullmatch(r"lin_([0-9.]+(?:e[+-]?[0-9]+)?)", str(value))
    if linear is None:
        raise ValueError(
            f"learning_rate: {value!r} is not what the zoo reads: write a number with a point, such as 0.001 or 1.0e-3, "
            "or lin_0.001."
        )
    return f"linear:{linear[1]}:0"


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={value if isinstance(value, str) else json.dumps(value)}" for k, value in values.items())
