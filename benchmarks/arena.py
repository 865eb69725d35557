"""The problems on which returns are compared, and who enters them with which settings.

Peers have the settings of RL Baselines3 Zoo (https://github.com/DLR-RM/rl-baselines3-zoo), read from its own files, where it
has some for the environment. They are made for more steps than are spent here in some cases; schedules end with the run.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import defaults
import rl_zoo3
import torch
import yaml
from gymnasium import Env
from sb3_contrib import QRDQN
from sb3_soft import SDSAC
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn
from wall_time import SDSAC_SETTINGS

from gsac.experiments import run as experiment
from gsac.experiments.peers import peer_arguments
from gsac.experiments.presets import preset, read
from gsac.networks.small_cnn import SmallCNN
from gsac.replay.prioritized import PrioritizedReplayBuffer

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    **experiment.ALGORITHMS,
    "dqn": DQN,
    "qrdqn": QRDQN,
    "ppo": PPO,
    "sac": SAC,
    "sdsac": SDSAC,
}
CLASSES = {
    "SmallCNN": SmallCNN,
    "ReLU": nn.ReLU,
    "RMSprop": torch.optim.RMSprop,
    "PrioritizedReplayBuffer": PrioritizedReplayBuffer,
}
"""By the names that stand for them in settings, which are written down."""


@dataclass(frozen=True)
class Problem:
    """An environment with a budget.

    :param env: Gymnasium's id
    :param timesteps: GSAC's budget
    :param every: steps from one evaluation to the next
    :param module: that registers the environment
    :param bins: into which each dimension of a continuous action is cut; None where actions are discrete already
    :param peers: what others get, by algorithm, where it is not the same budget
    :param enumerable: whether the joint actions are few enough for the estimator ``"expected"``
    :param zoo_env: the id under which the zoo knows it, where it is another
    """

    group: str
    env: str
    timesteps: int
    every: int
    module: str | None = None
    bins: int | None = None
    peers: dict[str, int] = field(default_factory=dict)
    enumerable: bool = True
    zoo_env: str | None = None

    @property
    def discretized(self) -> list[dict[str, Any]] | None:
        """The wrapper that cuts continuous actions into bins."""
        return None if self.bins is None else [{"gsac.envs.wrappers.DiscretizeAction": {"bins": self.bins}}]


MINATAR_STEPS = 100_000


def _minatar(game: str) -> Problem:
    return Problem("minatar", f"gsac/MinAtar-{game}-v1", MINATAR_STEPS, MINATAR_STEPS // 5, module="gsac.envs.minatar")


PROBLEMS: dict[str, Problem] = {
    "CartPole-v1": Problem(
        "classic",
        "CartPole-v1",
        10_000,
        1_000,
        peers={"dqn": 50_000, "qrdqn": 50_000, "ppo": 100_000, "reinforce": 100_000},
    ),
    "Acrobot-v1": Problem(
        "classic",
        "Acrobot-v1",
        50_000,
        10_000,
        peers={"dqn": 100_000, "qrdqn": 100_000, "sdsac": 50_000, "ppo": 100_000, "reinforce": 100_000},
    ),
    "LunarLander-v3": Problem(
        "classic",
        "LunarLander-v3",
        50_000,
        10_000,
        peers={"dqn": 100_000, "qrdqn": 100_000, "sdsac": 100_000, "ppo": 100_000, "reinforce": 100_000},
    ),
    "MountainCar-v0": Problem("classic", "MountainCar-v0", 120_000, 20_000),
    "Breakout": _minatar("Breakout"),
    "Asterix": _minatar("Asterix"),
    "Freeway": _minatar("Freeway"),
    "SpaceInvaders": _minatar("SpaceInvaders"),
    "LunarLanderContinuous-v3, 7 bins": Problem("large", "LunarLanderContinuous-v3", 50_000, 10_000, bins=7),
    "BipedalWalker-v3, 7 bins": Problem("large", "BipedalWalker-v3", 100_000, 20_000, bins=7),
    "HalfCheetah-v5, 7 bins": Problem(
        "large", "HalfCheetah-v5", 100_000, 10_000, bins=7, enumerable=False, zoo_env="HalfCheetah-v4"
    ),
    "Switches, MultiBinary(20)": Problem(
        "large", "gsac/Switches-v0", 10_000, 1_000, module="problems", enumerable=False
    ),
    "Switches, MultiBinary(40)": Problem(
        "large", "gsac/Switches40-v0", 20_000, 2_000, module="problems", enumerable=False
    ),
    "Pairs, MultiBinary(20)": Problem("large", "gsac/Pairs-v0", 10_000, 1_000, module="problems", enumerable=False),
    "Pairs, MultiBinary(40)": Problem("large", "gsac/Pairs40-v0", 20_000, 2_000, module="problems", enumerable=False),
}


@dataclass(frozen=True)
class Settings:
    """What an algorithm is run with.

    :param arguments: of its constructor, as they can be written down: schedules and classes by their names
    :param normalize: whether running statistics normalise observations and rewards
    :param env_wrapper: around each environment, as :func:`gsac.envs.wrappers.wrap` reads them
    """

    algo: str
    arguments: dict[str, Any]
    timesteps: int
    source: str
    n_envs: int = 1
    normalize: bool = False
    env_wrapper: list[dict[str, Any]] | None = None


@cache
def _zoo(algo: str) -> dict[str, Any]:
    return yaml.safe_load((Path(rl_zoo3.__file__).parent / "hyperparams" / f"{algo}.yml").read_text())


def from_the_zoo(algo: str, problem: Problem) -> Settings:
    """The zoo's settings for the environment, or SB3's defaults where it has none."""
    timesteps = problem.peers.get(algo, problem.timesteps)
    wrapper = None if algo == "sac" else problem.discretized
    entry = copy.deepcopy(_zoo(algo).get(problem.zoo_env or problem.env))
    if entry is None:
        return Settings(algo, {}, timesteps, "SB3 defaults", env_wrapper=wrapper)
    made_for = int(entry.pop("n_timesteps"))
    del entry["policy"]
    n_envs, normalize = entry.pop("n_envs", 1), entry.pop("normalize", False)
    if isinstance(entry.get("policy_kwargs"), str):
        kwargs = eval(entry["policy_kwargs"], {"nn": nn})
        entry["policy_kwargs"] = {
            name: value.__name__ if isinstance(value, type) else value for name, value in kwargs.items()
        }
    for name, value in entry.items():
        if isinstance(value, str) and value.startswith("lin_"):
            entry[name] = f"linear:{value.removeprefix('lin_')}:0"
    source = f"zoo {rl_zoo3.__version__}, for {made_for:,} steps"
    return Settings(algo, entry, timesteps, source, n_envs, normalize, wrapper)


SMALL_CNN = {"features_extractor_class": "SmallCNN", "net_arch": []}
DQN_MINATAR: dict[str, Any] = {
    **{"learning_rate": 2.5e-4, "batch_size": 32, "buffer_size": 100_000, "learning_starts": 5_000},
    **{"gamma": 0.99, "target_update_interval": 1_000, "train_freq": 4, "gradient_steps": 1},
    **{"exploration_fraction": 0.5, "exploration_final_eps": 0.1, "policy_kwargs": SMALL_CNN},
}
"""Of Young and Tian 2019, https://arxiv.org/abs/1903.03176, but for three things: their exploration falls for 100,000 of
5,000,000 steps, here for half of the run; they update at every step, here everyone does at every fourth; and the optimiser is
SB3's Adam."""

AS_PUBLISHED: dict[str, Any] = {
    "target_update_interval": 4_000,
    "policy_kwargs": SMALL_CNN
    | {
        "optimizer_class": "RMSprop",
        "optimizer_kwargs": {"alpha": 0.95, "momentum": 0.95, "eps": 0.01, "centered": True},
    },
}
"""With their optimiser, and copies of the network every 1,000 updates, as theirs are, in the place of 1,000 steps."""

SDSAC_MINATAR: dict[str, Any] = {
    **{"learning_rate": 1e-3, "learning_starts": 2_000, "batch_size": 64, "buffer_size": 100_000, "tau": 0.05},
    **{"train_freq": 4, "gradient_steps": 1, "target_entropy": 0.3, "policy_kwargs": SMALL_CNN},
}
"""Its authors publish none: those of our preset for Breakout where the two share settings, and returns of one step: its replay
buffer has no others. Its target entropy is in nats, where the preset has 0.3 of the greatest: 0.33 in Breakout."""


def gsac_preset(problem: Problem, **changes: Any) -> Settings | None:
    """The preset of the environment with changes; None where it has none."""
    if problem.env not in read():
        return None
    chosen = preset(problem.env)
    source = ", ".join([f"preset {problem.env}", *(f"{name}={value}" for name, value in changes.items())])
    return Settings(
        "gsac", chosen.arguments | changes, problem.timesteps, source, chosen.n_envs, env_wrapper=chosen.env_wrapper
    )


def gsac_defaults(problem: Problem, **changes: Any) -> Settings | None:
    """The constructor's defaults with changes."""
    source = ", ".join(["defaults", *(f"{name}={value}" for name, value in changes.items())])
    return Settings("gsac", changes, problem.timesteps, source, env_wrapper=problem.discretized)


def reinforce(problem: Problem) -> Settings | None:
    """By its defaults."""
    if problem.group == "minatar":
        return None
    timesteps = problem.peers.get("reinforce", problem.timesteps)
    return Settings("reinforce", {}, timesteps, "defaults", env_wrapper=problem.discretized)


def value_based(problem: Problem, algo: str) -> Settings | None:
    """DQN and QRDQN, which take one choice only."""
    if problem.group == "large":
        return None
    if problem.group == "minatar":
        return Settings(algo, DQN_MINATAR, problem.timesteps, "Young and Tian 2019, shortened, an update in four steps")
    return from_the_zoo(algo, problem)


def dqn_as_published(problem: Problem) -> Settings | None:
    """On MinAtar, with the optimiser of its authors."""
    if problem.group != "minatar":
        return None
    source = "as DQN, with its authors' optimiser, and copies every 1,000 updates as theirs"
    return Settings("dqn", DQN_MINATAR | AS_PUBLISHED, problem.timesteps, source)


def sdsac(problem: Problem) -> Settings | None:
    """Which takes one choice only."""
    if problem.group == "large":
        return None
    if problem.group == "minatar":
        source = (
            "as GSAC's preset for Breakout where the two share settings, a constant rate, one-step returns, not tuned"
        )
        return Settings("sdsac", SDSAC_MINATAR, problem.timesteps, source)
    timesteps = problem.peers.get("sdsac", problem.timesteps)
    return Settings("sdsac", SDSAC_SETTINGS, timesteps, "tuned on CartPole-v1")


def ppo(problem: Problem) -> Settings | None:
    """Of which the zoo's settings for continuous actions serve where these are cut into bins."""
    return None if problem.group == "minatar" else from_the_zoo("ppo", problem)


def sac(problem: Problem) -> Settings | None:
    """On the continuous original."""
    return from_the_zoo("sac", problem) if problem.bins else None


ENTRANTS: dict[str, Callable[[Problem], Settings | None]] = {
    "GSAC, defaults": gsac_defaults,
    "GSAC, plain": partial(gsac_defaults, **defaults.PLAIN),
    "GSAC, preset": gsac_preset,
    **{
        f"GSAC, preset, {estimator}": partial(gsac_preset, estimator=estimator)
        for estimator in ("gumbel_softmax", "straight_through_gumbel", "rloo", "local_expectation")
    },
    "GSAC, preset, expected": lambda problem: (
        gsac_preset(problem, estimator="expected") if problem.enumerable else None
    ),
    "REINFORCE": reinforce,
    "DQN": partial(value_based, algo="dqn"),
    "DQN, centred RMSprop": dqn_as_published,
    "QRDQN": partial(value_based, algo="qrdqn"),
    "SDSAC": sdsac,
    "PPO": ppo,
    "SAC, continuous actions": sac,
}
"""Label -> the settings on a problem, None where it cannot enter or has none."""


def build(problem: Problem, settings: Settings, seed: int, n_eval_envs: int) -> tuple[BaseAlgorithm, list[Env]]:
    """The model with its environments, and those of its evaluations."""
    if problem.module:
        importlib.import_module(problem.module)
    env = experiment.make_envs(problem.env, settings.n_envs, seed, settings.env_wrapper)
    eval_envs = experiment.make_envs(problem.env, n_eval_envs, None, settings.env_wrapper).envs
    arguments = with_classes(copy.deepcopy(settings.arguments))
    if settings.algo not in experiment.ALGORITHMS:  # which read schedules themselves
        arguments = peer_arguments(arguments)
    if settings.normalize:
        env = VecNormalize(env, gamma=arguments.get("gamma", 0.99))
    policy = experiment.policy_for(env.observation_space)
    model = ALGORITHMS[settings.algo](policy, env, seed=seed, device="cpu", **arguments)
    return model, eval_envs


def configuration(settings: Settings) -> dict[str, Any]:
    """All arguments of the constructor, those that have their defaults as well; of the policy's, GSAC's alone."""
    complete = defaults.default_settings(ALGORITHMS[settings.algo]) | settings.arguments
    if settings.algo == "gsac":
        usual = defaults.configuration("")["policy_kwargs"]
        complete["policy_kwargs"] = usual | settings.arguments.get("policy_kwargs", {})
    return complete


def with_classes(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with classes in the place of their names."""

    def told(value: Any) -> Any:
        if isinstance(value, dict):
            return with_classes(value)
        return CLASSES.get(value, value) if isinstance(value, str) else value

    return {name: told(value) for name, value in arguments.items()}
