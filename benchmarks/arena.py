"""The problems on which algorithms are compared, and who enters them with which settings.

Other algorithms than GSAC have the settings of RL Baselines3 Zoo (https://github.com/DLR-RM/rl-baselines3-zoo), read from its own
files, where it has some for the environment. They are made for more steps than are spent here in some cases; schedules end
with the run.
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
from studies import changes, varied
from torch import nn

from gsac.algorithms.arguments import check_choice, parameters, upgraded
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
"""By the names that stand for them in settings, which are written down."""

PLAIN: dict[str, Any] = {
    "noise_duration": 1,
    "epsilon": 0,
    "target": "mean",
    "target_entropy": "auto_0.3",
}
"""GSAC as it was before these arguments had other defaults: exploration by samples of the policy alone, a steady target entropy,
and targets at the mean over actions. Estimators and replay buffers are compared with it."""

BEFORE = PLAIN | {"bound_targets": False}
"""GSAC as it was before it had these arguments, which the oldest results do not name."""


def todays(algo: str, configuration: dict[str, Any]) -> dict[str, Any]:
    """A configuration of any age under today's names. Arguments that came after it count as what changes nothing."""
    return BEFORE | upgraded(configuration) if algo == "gsac" else configuration


SDSAC_SETTINGS: dict[str, Any] = {
    **{"learning_starts": 1000, "learning_rate": 1e-3, "tau": 0.05, "target_entropy": 0.2},
    "policy_kwargs": {"net_arch": [64, 64]},
}
"""Its authors publish none for CartPole; of three that were tried on seed 100, these alone solved it in 15,000 steps."""


OURS = "GSAC, preset"
CLASSIC = (
    *(OURS, "GSAC, defaults", "GSAC, preset, gumbel_softmax", "GSAC, preset, expected"),
    *("SDSAC", "DQN", "QRDQN", "PPO", "REINFORCE"),
)
SAME_ON_LINEAR = "GSAC, preset, straight_through_gumbel"
"""Has the gradient of ``gumbel_softmax`` on critics that are linear in one choice, as these presets' are; one problem shows it."""
CUT = (OURS, "GSAC, defaults", "PPO", "SAC, continuous actions")


@dataclass(frozen=True)
class Problem:
    """An environment with a budget.

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
    planned: tuple[str, ...] = (OURS,)
    n_seeds: int = 5
    module: str | None = None
    bins: int | None = None
    peers: dict[str, int] = field(default_factory=dict)
    enumerable: bool = True
    zoo_env: str | None = None

    @property
    def discretized(self) -> list[dict[str, Any]] | None:
        """The wrapper that cuts continuous actions into bins."""
        return None if self.bins is None else [{"gsac.envs.wrappers.DiscretizeAction": {"bins": self.bins}}]


def _minatar(game: str) -> Problem:
    planned = (OURS, "SDSAC", "DQN", "DQN, centred RMSprop")
    return Problem("minatar", f"gsac/MinAtar-{game}-v1", 100_000, 20_000, planned, module="gsac.envs.minatar")


def _binary(env: str, timesteps: int) -> Problem:
    planned = ("GSAC, defaults", "PPO")
    return Problem("large", env, timesteps, timesteps // 10, planned, module="problems", enumerable=False)


LONGER = {"dqn": 100_000, "qrdqn": 100_000, "ppo": 100_000, "reinforce": 100_000}
PROBLEMS: dict[str, Problem] = {
    "CartPole-v1": Problem(
        *("classic", "CartPole-v1", 10_000, 1_000),
        planned=(*CLASSIC, SAME_ON_LINEAR),
        peers=LONGER | {"dqn": 50_000, "qrdqn": 50_000},
    ),
    "Acrobot-v1": Problem("classic", "Acrobot-v1", 50_000, 10_000, CLASSIC, peers=LONGER),
    "LunarLander-v3": Problem("classic", "LunarLander-v3", 50_000, 10_000, CLASSIC, peers=LONGER | {"sdsac": 100_000}),
    "MountainCar-v0": Problem("classic", "MountainCar-v0", 120_000, 20_000, CLASSIC),
    **{game: _minatar(game) for game in ("Breakout", "Asterix", "Freeway", "SpaceInvaders")},
    "LunarLanderContinuous-v3, 7 bins": Problem("large", "LunarLanderContinuous-v3", 50_000, 10_000, CUT, bins=7),
    "BipedalWalker-v3, 7 bins": Problem("large", "BipedalWalker-v3", 100_000, 20_000, CUT, bins=7),
    "HalfCheetah-v5, 7 bins": Problem(
        *("large", "HalfCheetah-v5", 100_000, 10_000),
        planned=(OURS, "PPO", "SAC, continuous actions"),
        n_seeds=3,
        bins=7,
        enumerable=False,
        zoo_env="HalfCheetah-v4",
    ),
    "Switches, MultiBinary(20)": _binary("gsac/Switches-v0", 10_000),
    "Switches, MultiBinary(40)": _binary("gsac/Switches40-v0", 20_000),
    "Pairs, MultiBinary(20)": _binary("gsac/Pairs-v0", 10_000),
    "Pairs, MultiBinary(40)": _binary("gsac/Pairs40-v0", 20_000),
}
"""In the order of the reports."""


@dataclass(frozen=True)
class Entry(Settings):
    """Settings with the algorithm and its budget. Arguments are plain data: classes stand there by their names."""

    algo: str = "gsac"
    timesteps: int = 0

    def complete(self) -> dict[str, Any]:
        """All arguments of the constructor, also those that have their defaults; of the policy's, GSAC's alone."""
        complete = with_defaults(ALGORITHMS[self.algo], self.arguments)
        if self.algo == "gsac":
            policy = inspect.signature(GSACPolicy.__init__).parameters
            usual = {
                name: policy[name].default for name in ("net_arch", "n_critics", "critic_head", "critic_layer_norm")
            }
            complete["policy_kwargs"] = usual | self.arguments.get("policy_kwargs", {})
        return complete

    def varied(self, variation: str) -> Entry:
        """With a variation's changes; ``timesteps``, ``n_envs`` and ``env_wrapper`` may be among them.

        :raises ValueError: it changes what is no argument of the algorithm
        """
        changed = changes(variation)
        own = {name: changed.pop(name) for name in ("timesteps", "n_envs", "env_wrapper") if name in changed}
        allowed = parameters(ALGORITHMS[self.algo])
        for name in changed:
            check_choice("variation", name.partition(".")[0].replace("policy", "policy_kwargs"), allowed)
        return replace(self, arguments=varied(self.arguments, changed), **own)


@cache
def _zoo(algo: str) -> tuple[str, dict[str, Any]]:
    """The zoo's version, and its settings by environment."""
    import rl_zoo3  # slow, and not needed to read results

    file = Path(rl_zoo3.__file__).parent / "hyperparams" / f"{algo}.yml"
    return rl_zoo3.__version__, yaml.safe_load(file.read_text())


def budget(problem: Problem, algo: str) -> dict[str, Any]:
    """The algorithm's name and its budget on the problem, as an entry has them."""
    return {"algo": algo, "timesteps": problem.peers.get(algo, problem.timesteps)}


def from_the_zoo(algo: str, problem: Problem) -> Entry:
    """The zoo's settings for the environment, or SB3's defaults where it has none."""
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


def gsac_preset(problem: Problem, **given: Any) -> Entry | None:
    """The preset of the environment with changes; None where it has none."""
    if problem.env not in read_presets():
        return None
    chosen = preset(problem.env)
    source = ", ".join([f"preset {problem.env}", *(f"{name}={value}" for name, value in given.items())])
    settings = {"n_envs": chosen.n_envs, "env_wrapper": chosen.env_wrapper, "source": source}
    return Entry(chosen.arguments | given, timesteps=problem.timesteps, **settings)


def gsac_defaults(problem: Problem, **given: Any) -> Entry:
    """The constructor's defaults with changes."""
    source = ", ".join(["defaults", *(f"{name}={value}" for name, value in given.items())])
    return Entry(given, timesteps=problem.timesteps, source=source, env_wrapper=problem.discretized)


def reinforce(problem: Problem) -> Entry | None:
    """By its defaults."""
    if problem.group == "minatar":
        return None
    return Entry(env_wrapper=problem.discretized, **budget(problem, "reinforce"))


def value_based(problem: Problem, algo: str) -> Entry | None:
    """DQN and QRDQN, which take one choice only."""
    if problem.group == "large":
        return None
    if problem.group == "minatar":
        source = "Young and Tian 2019, shortened, an update in four steps"
        return Entry(DQN_MINATAR, source=source, **budget(problem, algo))
    return from_the_zoo(algo, problem)


def dqn_as_published(problem: Problem) -> Entry | None:
    """On MinAtar, with the optimiser of its authors."""
    if problem.group != "minatar":
        return None
    source = "as DQN, with its authors' optimiser, and copies every 1,000 updates as theirs"
    return Entry(DQN_MINATAR | AS_PUBLISHED, source=source, **budget(problem, "dqn"))


def sdsac(problem: Problem) -> Entry | None:
    """Which takes one choice only."""
    if problem.group == "large":
        return None
    tuned = "as GSAC's preset for Breakout where the two share settings, a constant rate, one-step returns, not tuned"
    arguments, source = (
        (SDSAC_MINATAR, tuned) if problem.group == "minatar" else (SDSAC_SETTINGS, "tuned on CartPole-v1")
    )
    return Entry(arguments, source=source, **budget(problem, "sdsac"))


def ppo(problem: Problem) -> Entry | None:
    """Of which the zoo's settings for continuous actions serve where these are cut into bins."""
    return None if problem.group == "minatar" else from_the_zoo("ppo", problem)


def sac(problem: Problem) -> Entry | None:
    """On the continuous original."""
    return from_the_zoo("sac", problem) if problem.bins else None


ENTRANTS: dict[str, Callable[[Problem], Entry | None]] = {
    OURS: gsac_preset,
    "GSAC, defaults": gsac_defaults,
    "GSAC, plain": partial(gsac_defaults, **PLAIN),
    **{
        f"{OURS}, {estimator}": partial(gsac_preset, estimator=estimator)
        for estimator in ("gumbel_softmax", "straight_through_gumbel", "rloo", "local_expectation")
    },
    f"{OURS}, expected": lambda problem: gsac_preset(problem, estimator="expected") if problem.enumerable else None,
    "SDSAC": sdsac,
    "DQN": partial(value_based, algo="dqn"),
    "DQN, centred RMSprop": dqn_as_published,
    "QRDQN": partial(value_based, algo="qrdqn"),
    "PPO": ppo,
    "REINFORCE": reinforce,
    "SAC, continuous actions": sac,
}
"""Label -> the settings on a problem, None where it cannot enter or has none. In the order of the tables."""


@dataclass(frozen=True)
class Trial:
    """An entrant, with a variation of its settings, on one problem and seed."""

    problem: str
    label: str
    entry: Entry
    seed: int
    variation: str = ""

    def __str__(self) -> str:
        return f"{self.problem}: {' '.join(filter(None, (self.label, self.variation)))} seed {self.seed}"

    def described(self) -> Line:
        """The beginning of the line of its run: everything that is known beforehand."""
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
        entry = replace(self.entry, arguments=with_classes(copy.deepcopy(self.entry.arguments)))
        return make_model(ALGORITHMS[entry.algo], entry, problem.env, self.seed)


def trials(
    problems: Sequence[str],
    labels: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    variations: Sequence[str] = ("",),
) -> list[Trial]:
    """All combinations. Who cannot enter a problem is left out.

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


def with_classes(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with classes in the place of their names."""

    def with_class(value: Any) -> Any:
        if isinstance(value, dict):
            return with_classes(value)
        return CLASSES.get(value, value) if isinstance(value, str) else value

    return {name: with_class(value) for name, value in arguments.items()}
