"""The command line: ``gsac train`` and ``gsac evaluate``. Its flags are the constructors' arguments."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from difflib import get_close_matches
from inspect import getdoc, signature
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import tyro

from gsac import experiment
from gsac.algorithms.reinforce import BASELINES
from gsac.estimators import ESTIMATORS
from gsac.functional.losses import Q_AGGREGATIONS

CHOICES = {"estimator": ("auto", *ESTIMATORS), "q_aggregation": tuple(Q_AGGREGATIONS), "baseline": BASELINES}
"""Constructor arguments that take one of a table's names."""

NOT_FLAGS = {"self", "policy", "env", "seed", "device", "tensorboard_log", "verbose", "_init_setup_model"}
"""Constructor arguments that the command line does not pass on, or has a flag of its own for."""

SIMPLE_TYPES = (int, float, str, bool, type(None))

JSON = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="JSON",
    instance_from_str=lambda words: json.loads(words[0]),
    is_instance=lambda value: value is None or isinstance(value, dict),
    str_from_instance=lambda value: [json.dumps(value)],
)
"""Dictionaries are written as JSON: --policy-kwargs '{"net_arch": [256, 256]}'."""


@dataclass
class Evaluate:
    """Evaluate a trained model."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")]
    """A run's folder, or a model's .zip file."""
    env: str | None = None
    """The environment, where no config.json beside the model names it."""
    algo: str | None = None
    """The algorithm, where no config.json beside the model names it; gsac if not given."""
    episodes: int = 20
    """How many episodes."""
    deterministic: tyro.conf.FlagCreatePairsOff[bool] = False
    """Take the most probable action (this is the default)."""
    stochastic: tyro.conf.FlagCreatePairsOff[bool] = False
    """Sample the actions instead."""
    seed: int = 0
    """Of the episodes."""
    device: str = "auto"
    """Where the networks run: auto, cpu, cuda."""


def train_command(algo: str) -> type:
    """A dataclass whose fields are what ``gsac train --algo ALGO`` takes."""
    algorithm = experiment.ALGORITHMS[algo]
    described = _parameter_docs(getdoc(algorithm) or "")
    own: list[Any] = [
        (
            "env",
            Annotated[
                tyro.conf.Positional[str],
                tyro.conf.arg(metavar="ENV", help="A Gymnasium environment, such as CartPole-v1."),
            ],
        ),
        ("algo", _flag(Literal[tuple(experiment.ALGORITHMS)], "The algorithm."), field(default=algo)),
        ("total_timesteps", _flag(int, "Steps in the environment."), field(default=20_000)),
        ("seed", _flag(int | None, "Of everything random; drawn and noted if not given."), field(default=None)),
        ("logdir", _flag(Path | None, "The run's folder; logs/ENV/ALGO_N if not given."), field(default=None)),
        ("n_envs", _flag(int, "Environments side by side."), field(default=1)),
        ("eval_episodes", _flag(int, "Episodes of the final evaluation; half as many on the way."), field(default=20)),
        ("device", _flag(str, "Where the networks run: auto, cpu, cuda."), field(default="auto")),
        (
            "policy",
            _flag(str, "MlpPolicy, CnnPolicy, MultiInputPolicy, or auto by the observations."),
            field(default="auto"),
        ),
        ("progress_bar", _flag(bool, "Show the progress."), field(default=True)),
    ]
    hints = get_type_hints(algorithm.__init__)
    for name, parameter in signature(algorithm.__init__).parameters.items():
        kind = _flag_type(name, hints.get(name, Any))
        if name not in NOT_FLAGS and kind is not None:
            own.append((name, _flag(kind, described[name]), field(default=parameter.default)))
    command = make_dataclass("Train", own)
    command.__doc__ = "Train an agent, with evaluations on the way; keeps the last model and the best."
    return command


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point of ``gsac``."""
    command = parse(list(sys.argv[1:] if argv is None else argv))
    if isinstance(command, Evaluate):
        run_evaluate(command)
    else:
        run_train(command)


def run_train(command: Any) -> None:
    """``gsac train``"""
    for name in ("total_timesteps", "n_envs", "eval_episodes"):
        at_least_1(name, getattr(command, name))
    accepted = signature(experiment.ALGORITHMS[command.algo].__init__).parameters.keys() - NOT_FLAGS
    run = experiment.Run(
        algo=command.algo,
        env=command.env,
        total_timesteps=command.total_timesteps,
        folder=command.logdir or experiment.next_folder(Path("logs") / command.env, command.algo),
        policy=command.policy,
        seed=command.seed,
        n_envs=command.n_envs,
        device=command.device,
        arguments={f.name: getattr(command, f.name) for f in fields(command) if f.name in accepted},
        n_eval_episodes=command.eval_episodes,
    )
    try:
        prepared = experiment.prepare(run)
    except (ValueError, TypeError, AssertionError) as error:
        fail(str(error))
    try:
        evaluation = prepared.train(command.progress_bar)
    except KeyboardInterrupt:
        print(f"gsac: stopped; the model as it was is in {run.folder}", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"To watch it: tensorboard --logdir {run.folder}. To use it: gsac evaluate {run.folder}")
    report(command.env, evaluation, deterministic=True)


def run_evaluate(command: Evaluate) -> None:
    """``gsac evaluate``"""
    if command.deterministic and command.stochastic:
        fail("--deterministic and --stochastic exclude each other: pass one of them.")
    at_least_1("episodes", command.episodes)
    try:
        model, env_id, env = experiment.load(command.path, command.env, command.seed, command.device, command.algo)
    except ValueError as error:
        fail(str(error))
    deterministic = not command.stochastic
    report(env_id, experiment.evaluate_model(model, env, command.episodes, deterministic), deterministic)


def report(env_id: str, evaluation: experiment.Evaluation, deterministic: bool) -> None:
    """The line with the result."""
    actions = "deterministic" if deterministic else "stochastic"
    result = f"{evaluation.mean:.2f} +/- {evaluation.std:.2f}"
    print(f"{env_id}: {result} over {len(evaluation.returns)} episodes, {actions} actions")


def parse(argv: list[str]) -> Any:
    """The command that the arguments ask for. Ends the program with one line and exit code 2 where they are wrong."""
    algo = _option(argv, "--algo") or "gsac"
    train = train_command(algo if algo in experiment.ALGORITHMS else "gsac")
    commands = {"train": train, "evaluate": Evaluate}
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        fail(f"{argv[0]!r} is not a command.{_did_you_mean(argv[0], commands)} Write gsac train or gsac evaluate.")
    either: Any = Union[tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in commands.items())]  # noqa: UP007
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command, unknown = tyro.cli(
                either,
                prog="gsac",
                description="Soft actor-critic for discrete actions, and REINFORCE.",
                args=argv,
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if stop.code == 0:
            raise
        fail(f"{_sentence(complaint.getvalue())} See gsac {' '.join(argv[:1])} --help.")
    if unknown:
        flags = [f"--{f.name.replace('_', '-')}" for f in fields(command)]
        fail(f"{unknown[0]!r} is not an option.{_did_you_mean(unknown[0], flags)} See gsac {argv[0]} --help.")
    return command


def fail(message: str) -> NoReturn:
    """Ends the program with one line and exit code 2."""
    print(f"gsac: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def at_least_1(name: str, value: int) -> None:
    """Ends the program where the value of a flag is 0 or less."""
    if value < 1:
        fail(f"--{name.replace('_', '-')} {value} is out of range: pass 1 or more.")


def _flag(kind: Any, text: str) -> Any:
    return Annotated[kind, tyro.conf.arg(help=text)]


def _flag_type(name: str, hint: Any) -> Any:
    """What the command line reads for a constructor argument: its plain types. None if there are none."""
    if name in CHOICES:
        return Literal[CHOICES[name]]
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if any(get_origin(member) is dict for member in members):
        return Annotated[dict[str, Any] | None, JSON]
    plain = tuple(member for member in members if member in SIMPLE_TYPES or get_origin(member) is tuple)
    return Union[plain] if set(plain) - {type(None)} else None  # noqa: UP007


def _parameter_docs(doc: str) -> dict[str, str]:
    """The descriptions of ``:param name: ...`` in a docstring, as plain text."""
    found = re.findall(r":param (\w+): (.*?)(?=\n:|\Z)", doc, re.DOTALL)
    return {name: re.sub(r":\w+:`~?([^`]*)`|``([^`]*)``", r"\1\2", " ".join(text.split())) for name, text in found}


def _option(argv: list[str], name: str) -> str | None:
    """The value of ``--name value`` or ``--name=value`` in the arguments."""
    for i, argument in enumerate(argv):
        if argument == name and i + 1 < len(argv):
            return argv[i + 1]
        if argument.startswith(f"{name}="):
            return argument.removeprefix(f"{name}=")
    return None


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word.split("=")[0], list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _sentence(panel: str) -> str:
    """What a panel of the argument parser says before its first rule, as one line."""
    lines = [line.strip(" │") for line in panel.splitlines() if line[:1] == "│"]
    told = list(takewhile(lambda line: line and not line.startswith("─"), lines))
    return " ".join(told) or " ".join(panel.split())
