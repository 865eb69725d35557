"""Lists the problems on which algorithms are compared, and builds each algorithm on each problem with its settings.

Other algorithms than GSAC have the settings of RL Baselines3 Zoo (https://github.com/DLR-RM/rl-baselines3-zoo), read from its
files, where it has some for the environment; ``arena.yml`` has others. Some are made for more steps than are made here;
schedules end with the run.
"""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import yaml
from sb3_contrib import QRDQN
from sb3_soft import SDSAC
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from studies import PLAIN, changes, varied
from torch import nn

from gsac.algorithms.arguments import check_choice, constructor_parameters, upgraded
from gsac.experiments import models
from gsac.experiments.presets import preset
from gsac.experiments.presets import read as read_presets
from gsac.experiments.runner import Line
from gsac.experiments.settings import Settings, make_model, with_defaults
from gsac.networks.policies import GSACPolicy
from gsac.networks.small_cnn import SmallCNN
from gsac.replay.prioritized import PrioritizedReplayBuffer

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    **models.ALGORITHMS,
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
"""Classes that settings refer to by name, so that settings can be written as JSON."""

BEFORE = PLAIN | {"bound_targets": False}
"""GSAC as it was before it had these arguments, which the oldest results do not name."""


def todays(algo: str, configuration: dict[str, Any]) -> dict[str, Any]:
    """Translates a configuration of any age to today's arguments. Newer arguments get the values that reproduce the older code."""
    return BEFORE | upgraded(configuration) if algo == "gsac" else configuration


OURS = "GSAC, preset"
DATA = yaml.safe_load(Path(__file__).with_name("arena.yml").read_text())


@dataclass(frozen=True)
class Problem:
    """An environment, its budget, and the algorithms that are planned for it.

    :param env: Gymnasium's id
    :param timesteps: GSAC's budget
    :param every: steps from one evaluation to the next
    :param planned: the labels of those who enter it; runs of these that are not there are called missing
    :param n_seeds: that are planned, from 0 up
    :param module: that registers the environment
    :param bins: into which each dimension of a continuous action is cut; None where actions are discrete already
    :param peers: the budgets of others, by algorithm, where they are not the same
    :param enumerable: whether the joint actions are few enough for the estimator ``"expected"``
    :param zoo_env: the id under which the zoo knows it, where it is another
    """

    group: str
    env: str
    timesteps: int
    every: int
    planned: Sequence[str] = (OURS,)
    n_seeds: int = 5
    module: str | None = None
    bins: int | None = None
    peers: dict[str, int] = field(default_factory=dict)
    enumerable: bool = True
    zoo_env: str | None = None

    @property
    def discretized(self) -> list[dict[str, Any]] | None:
        """The wrapper that discretises continuous actions; None if actions are discrete."""
        return None if self.bins is None else [{"gsac.envs.wrappers.DiscretizeAction": {"bins": self.bins}}]


PROBLEMS = {name: Problem(**entries) for name, entries in DATA["problems"].items()}
"""In the order of the reports."""


@dataclass(frozen=True)
class Entry(Settings):
    """Settings of an algorithm and its budget on one problem. Arguments are plain data: classes are given by name."""

    algo: str = "gsac"
    timesteps: int = 0

    def complete(self) -> dict[str, Any]:
        """Returns all arguments of the constructor, defaults included; of GSAC, also those of the policy."""
        complete = with_defaults(ALGORITHMS[self.algo], self.arguments)
        if self.algo == "gsac":
            policy = inspect.signature(GSACPolicy.__init__).parameters
            usual = {
                name: policy[name].default for name in ("net_arch", "n_critics", "critic_head", "critic_layer_norm")
            }
            complete["policy_kwargs"] = usual | self.arguments.get("policy_kwargs", {})
        return complete

    def varied(self, variation: str) -> Entry:
        """Applies a variation, in which ``timesteps``, ``n_envs`` and ``env_wrapper`` may be set as well.

        :raises ValueError: the variation sets something that is no argument of the algorithm
        """
        changed = changes(variation)
        own = {name: changed.pop(name) for name in ("timesteps", "n_envs", "env_wrapper") if name in changed}
        allowed = constructor_parameters(ALGORITHMS[self.algo])
        for name in changed:
            check_choice("variation", name.partition(".")[0].replace("policy", "policy_kwargs"), allowed)
        return replace(self, arguments=varied(self.arguments, changed), **own)


@cache
def _zoo(algo: str) -> tuple[str, dict[str, Any]]:
    """Reads the zoo's version and its settings by environment."""
    import rl_zoo3  # slow, and not needed to read results

    file = Path(rl_zoo3.__file__).parent / "hyperparams" / f"{algo}.yml"
    return rl_zoo3.__version__, yaml.safe_load(file.read_text())


def budget(problem: Problem, algo: str) -> dict[str, Any]:
    """Returns the fields ``algo`` and ``timesteps`` of an entry."""
    return {"algo": algo, "timesteps": problem.peers.get(algo, problem.timesteps)}


def from_the_zoo(algo: str, problem: Problem) -> Entry:
    """Reads the zoo's settings for the environment; SB3's defaults if it has none."""
    version, settings = _zoo(algo)
    entry = Entry(
        source="SB3 defaults", env_wrapper=None if algo == "sac" else problem.discretized, **budget(problem, algo)
    )
    arguments = copy.deepcopy(settings.get(problem.zoo_env or problem.env))
    if arguments is None:
        return entry
    made_for = int(arguments.pop("n_timesteps"))
    del arguments["policy"]
    n_envs, normalize = arguments.pop("n_envs", 1), arguments.pop("normalize", False)
    if isinstance(arguments.get("policy_kwargs"), str):
        kwargs = eval(arguments["policy_kwargs"], {"nn": nn})
        arguments["policy_kwargs"] = {
            name: value.__name__ if isinstance(value, type) else value for name, value in kwargs.items()
        }
    for name, value in arguments.items():
        if isinstance(value, str) and value.startswith("lin_"):
            arguments[name] = f"linear:{value.removeprefix('lin_')}:0"
    source = f"zoo {version}, for {made_for:,} steps"
    return replace(entry, arguments=arguments, source=source, n_envs=n_envs, normalize=normalize)


def settings_of_others(problem: Problem, label: str, algo: str, zoo: Sequence[str] = ()) -> Entry | None:
    """Reads the settings of another algorithm: those in ``arena.yml`` for the problem's group, or else the zoo's.

    :param zoo: groups of problems for which the zoo's settings are used. None is returned for other groups
    """
    own = copy.deepcopy(DATA["settings"].get(label, {}).get(problem.group))
    if own is not None:
        return Entry(env_wrapper=problem.discretized, **own, **budget(problem, algo))
    return from_the_zoo(algo, problem) if problem.group in zoo else None


def gsac_preset(problem: Problem, **given: Any) -> Entry | None:
    """Reads the preset of the environment and changes some arguments; None if there is no preset."""
    if problem.env not in read_presets():
        return None
    chosen = preset(problem.env)
    source = ", ".join([f"preset {problem.env}", *(f"{name}={value}" for name, value in given.items())])
    settings = {"n_envs": chosen.n_envs, "env_wrapper": chosen.env_wrapper, "source": source}
    return Entry(chosen.arguments | given, timesteps=problem.timesteps, **settings)


def gsac_defaults(problem: Problem, **given: Any) -> Entry:
    """Takes the constructor's defaults and changes some arguments."""
    source = ", ".join(["defaults", *(f"{name}={value}" for name, value in given.items())])
    return Entry(given, timesteps=problem.timesteps, source=source, env_wrapper=problem.discretized)


ENTRANTS: dict[str, Callable[[Problem], Entry | None]] = {
    OURS: gsac_preset,
    "GSAC, defaults": gsac_defaults,
    "GSAC, plain": partial(gsac_defaults, **PLAIN),
    **{
        f"{OURS}, {estimator}": partial(gsac_preset, estimator=estimator)
        for estimator in ("gumbel_softmax", "straight_through_gumbel", "rloo", "local_expectation")
    },
    f"{OURS}, expected": lambda problem: gsac_preset(problem, estimator="expected") if problem.enumerable else None,
    **{
        label: partial(settings_of_others, label=label, algo=algo, zoo=zoo)
        for label, algo, zoo in (
            ("SDSAC", "sdsac", ()),
            ("DQN", "dqn", ("classic",)),
            ("DQN, centred RMSprop", "dqn", ()),
            ("QRDQN", "qrdqn", ("classic",)),
            ("PPO", "ppo", ("classic", "large")),
            ("REINFORCE", "reinforce", ()),
        )
    },
    "SAC, continuous actions": lambda problem: from_the_zoo("sac", problem) if problem.bins else None,
}
"""Label -> the settings on a problem, None where it cannot enter or has none. In the order of the tables."""


@dataclass(frozen=True)
class Trial:
    """One algorithm with its settings on one problem and one seed.

    :param label: the algorithm's key in ``ENTRANTS``
    :param variation: the changes that ``entry`` has already, as text
    """

    problem: str
    label: str
    entry: Entry
    seed: int
    variation: str = ""

    def __str__(self) -> str:
        return f"{self.problem}: {' '.join(filter(None, (self.label, self.variation)))} seed {self.seed}"

    def described(self) -> Line:
        """Describes the run before it is made: the beginning of its line."""
        settings = {f.name: getattr(self.entry, f.name) for f in fields(Entry) if f.name != "source"}
        return {
            **{"problem": self.problem, "label": self.label, "variation": self.variation, "seed": self.seed},
            **settings,
            **{"settings_from": self.entry.source, "configuration": self.entry.complete()},
        }

    def model(self) -> BaseAlgorithm:
        """Builds the model with its environments."""
        problem = PROBLEMS[self.problem]
        if problem.module:
            importlib.import_module(problem.module)
        entry = replace(self.entry, arguments=with_classes(self.entry.arguments))
        return make_model(ALGORITHMS[entry.algo], entry, problem.env, self.seed)


def trials(
    problems: Sequence[str],
    labels: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    variations: Sequence[str] = ("",),
) -> list[Trial]:
    """Makes a trial for each combination. Algorithms that cannot act in a problem's action space are left out.

    :param labels: those that are planned for the problem if None
    :param seeds: those that are planned for it if None
    """
    return [
        Trial(name, label, entry.varied(variation), seed, variation)
        for name in problems
        for seed in (range(PROBLEMS[name].n_seeds) if seeds is None else seeds)
        for label in (PROBLEMS[name].planned if labels is None else labels)
        for variation in variations
        if (entry := ENTRANTS[label](PROBLEMS[name])) is not None
    ]


def with_classes(value: Any) -> Any:
    """Copies plain data, with classes in place of their names."""
    if isinstance(value, dict):
        return {name: with_classes(item) for name, item in value.items()}
    return CLASSES.get(value, value) if isinstance(value, str) else copy.deepcopy(value)
