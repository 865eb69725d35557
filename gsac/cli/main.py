"""The command line: ``gsac train``, ``evaluate``, ``export`` and ``compare``. Flags are the constructors' arguments."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, NoReturn, Union

import tyro

from gsac.algorithms.arguments import argument_names
from gsac.cli.flags import JSON, train_command
from gsac.experiments import compare, models
from gsac.experiments.environments import reward_threshold
from gsac.experiments.evaluation import Evaluation, evaluate_model
from gsac.experiments.presets import Preset, preset
from gsac.experiments.processes import available_cores
from gsac.experiments.run import CHECKPOINT, RunConfig, TrainingRun, new_run, stopped_run
from gsac.experiments.run_file import RunFile
from gsac.experiments.runner import run_missing
from gsac.saving.files import atomic_write
from gsac.saving.onnx_export import export_onnx
from gsac.saving.weights import SUFFIX


@dataclass
class Evaluate:
    """Evaluate a trained model."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")]
    """A run's folder, or a model's .zip or .safetensors file."""
    env: str | None = None
    """The environment, where no config.json beside the model names it."""
    algo: str | None = None
    """The algorithm, where neither the file nor a config.json beside it names it; gsac if not given."""
    episodes: int = 20
    """How many episodes."""
    deterministic: tyro.conf.FlagCreatePairsOff[bool] = False
    """Take the most probable action (this is the default)."""
    stochastic: tyro.conf.FlagCreatePairsOff[bool] = False
    """Sample the actions instead."""
    seed: int = 0
    """Of the episodes; the seed of the run repeats those of its final evaluation."""
    device: str = "auto"
    """Where the networks run: auto, cpu, cuda."""


@dataclass
class Export:
    """Write a trained model to a file that acts without PyTorch (ONNX), or to one that holds no code (safetensors)."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")]
    """A run's folder, or a model's .zip or .safetensors file."""
    onnx: Path | None = None
    """The ONNX file to write: observations in, the environment's own actions out."""
    stochastic: tyro.conf.FlagCreatePairsOff[bool] = False
    """Sample in the ONNX file, by noise that is one of its inputs; otherwise it takes the most probable action."""
    masks: tyro.conf.FlagCreatePairsOff[bool] = False
    """Take a mask of the allowed classes as an input of the ONNX file."""
    weights: Path | None = None
    """The .safetensors file to write, for GSAC.from_weights()."""
    env: str | None = None
    """The environment, where no config.json beside the model names it; only images need it, which come in its order."""
    algo: str | None = None
    """The algorithm, where neither the file nor a config.json beside it names it; gsac if not given."""


@dataclass
class Compare:
    """Train several algorithms on several seeds; draw their learning curves. Goes on where it was stopped."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    """A Gymnasium environment, such as CartPole-v1; MODULE:ENV imports the module that registers it."""
    algos: tuple[str, ...] = tuple(compare.algorithms())
    """The algorithms, with commas or spaces between them. Those that do not take the environment's actions are left
    out."""
    estimators: tuple[str, ...] = ()
    """GSAC once with each of these estimators; with its default if none is named."""
    seeds: int = 5
    """How many seeds."""
    first_seed: int = 0
    """The first of them."""
    total_timesteps: int = 20_000
    """Steps in the environment, for each run."""
    eval_episodes: int = 10
    """Episodes of each of the twenty evaluations on the way; the final one takes 20."""
    jobs: int | None = None
    """Runs at a time, with one thread each; as many as there are cores if not given."""
    arguments: Annotated[dict[str, Any] | None, JSON] = None
    """Constructor arguments by algorithm, instead of published or default ones: '{"gsac": {"n_steps": 3}}'."""
    threshold: float | None = None
    """The return to be reached; the environment's own if not given."""
    logdir: Path | None = None
    """The folder of runs, picture and table; logs/ENV/compare if not given."""


@dataclass
class Resume:
    """Go on with a stopped run of GSAC from its last checkpoint: weight for weight as if it had not been stopped."""

    resume: Path
    """The run's folder."""
    device: str = "auto"
    """Where the networks run: auto, cpu, cuda."""
    progress_bar: bool = True
    """Show the progress."""


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point of ``gsac``."""
    command = parse(list(sys.argv[1:] if argv is None else argv))
    if isinstance(command, Evaluate):
        run_evaluate(command)
    elif isinstance(command, Export):
        run_export(command)
    elif isinstance(command, Compare):
        run_compare(command)
    else:
        run_train(command)


def run_train(command: Any) -> None:
    """``gsac train``"""
    if isinstance(command, Resume):
        try:
            run = stopped_run(command.resume, command.device)
        except (ValueError, FileNotFoundError) as error:
            fail(str(error))
        train(run, command.progress_bar)
        return
    for name in ("total_timesteps", "n_envs", "eval_episodes"):
        at_least_1(name, getattr(command, name))
    at_least_0("seed", command.seed)
    checkpoint_every = getattr(command, "checkpoint_every", 0)
    if checkpoint_every < 0:
        fail(f"--checkpoint-every {checkpoint_every} is out of range: pass 1 or more, or 0 for no checkpoints.")
    settings = preset(command.env) if command.preset else None
    accepted = argument_names(models.ALGORITHMS[command.algo], lambda argument: argument.flag)
    config = RunConfig(
        algo=command.algo,
        env=command.env,
        total_timesteps=command.total_timesteps,
        folder=command.logdir,
        policy=command.policy,
        seed=command.seed,
        n_envs=command.n_envs,
        device=command.device,
        arguments={f.name: getattr(command, f.name) for f in fields(command) if f.name in accepted},
        n_eval_episodes=command.eval_episodes,
        checkpoint_every=checkpoint_every,
        env_wrapper=command.env_wrapper,
        preset=settings.name if settings is not None else None,
    )
    try:
        run = new_run(config)
    except models.CONSTRUCTOR_ERRORS as error:
        fail(str(error))
    if settings is not None:
        print(f"gsac: {settings.summary(vars(command))}", flush=True)
    train(run, command.progress_bar)


def train(run: TrainingRun, progress_bar: bool) -> None:
    """Trains and says what came out."""
    folder = run.folder
    try:
        evaluation = run.train(progress_bar)
    except KeyboardInterrupt:
        print(f"gsac: stopped; the model as it was is in {folder}", file=sys.stderr)
        if (folder / CHECKPOINT).exists():
            print(f"gsac: to go on from its last checkpoint: gsac train --resume {folder}", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"To watch it: tensorboard --logdir {folder}. To use it: gsac evaluate {folder}")
    report(run.config.env, evaluation, deterministic=True)


def run_evaluate(command: Evaluate) -> None:
    """``gsac evaluate``"""
    if command.deterministic and command.stochastic:
        fail("--deterministic and --stochastic exclude each other: pass one of them.")
    at_least_1("episodes", command.episodes)
    at_least_0("seed", command.seed)
    try:
        model, env_id, env = models.load(command.path, command.env, command.seed, command.device, command.algo)
    except ValueError as error:
        fail(str(error))
    deterministic = not command.stochastic
    report(env_id, evaluate_model(model, env, command.episodes, deterministic), deterministic)


def run_export(command: Export) -> None:
    """``gsac export``"""
    if command.onnx is None and command.weights is None:
        fail("Nothing is to be written: pass --onnx FILE.onnx, --weights FILE.safetensors, or both.")
    if command.onnx is None and (command.stochastic or command.masks):
        fail("--stochastic and --masks say what an ONNX file does: pass --onnx FILE.onnx.")
    if command.weights is not None and command.weights.suffix != SUFFIX:
        fail(f"--weights {command.weights} has another suffix than {SUFFIX}, by which the file is known: add it.")
    try:
        model = models.load_to_export(command.path, command.env, command.algo)
        if command.onnx is not None:
            export_onnx(model, command.onnx, command.stochastic, command.masks)
            print(f"{command.onnx}: {'stochastic' if command.stochastic else 'deterministic'} actions")
        if command.weights is not None:
            model.save_weights(command.weights)
            print(f"{command.weights}: networks and arguments")
    except (ValueError, ImportError, OSError) as error:
        fail(str(error))


def run_compare(command: Compare) -> None:
    """``gsac compare``"""
    for name in ("seeds", "total_timesteps", "eval_episodes", "jobs"):
        if getattr(command, name) is not None:
            at_least_1(name, getattr(command, name))
    at_least_0("first_seed", command.first_seed)
    try:
        from gsac.experiments import curves
    except ImportError as error:
        fail(f'gsac compare draws with rliable and matplotlib ({error}). Write: pip install "gsac[compare]"')
    folder = command.logdir or Path("logs") / command.env / "compare"
    file = RunFile(folder / "runs.jsonl")
    try:
        threshold = reward_threshold(command.env) if command.threshold is None else command.threshold
        algos, estimators = compare.split_names(command.algos), compare.split_names(command.estimators)
        named = compare.contenders(command.env, algos, estimators, command.arguments or {})
        reasons = {contender.label: compare.why_not(contender, command.env) for contender in named}
        jobs = [
            compare.Job(contender, command.env, seed, command.total_timesteps, command.eval_episodes)
            for seed in range(command.first_seed, command.first_seed + command.seeds)
            for contender in named
            if reasons[contender.label] is None
        ]
        if not jobs:
            fail(f"Nothing is left to compare on {command.env}. {' '.join(filter(None, reasons.values()))}")
        for label, reason in reasons.items():
            if reason is not None:
                print(f"{label} is left out: {reason}")
        folder.mkdir(parents=True, exist_ok=True)
        failures = run_missing(jobs, file, command.jobs or available_cores(), compare.identity)
    except (ValueError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        print(f"gsac: stopped; {file.path} keeps what is done; the same command goes on from there", file=sys.stderr)
        raise SystemExit(130) from None
    runs = compare.runs_by_label(jobs, file)
    if runs:
        curves.draw(folder / "curves.png", runs, threshold)
        table = curves.table(runs, threshold)
        with atomic_write(folder / "table.md") as target:
            target.write(table.encode())
        print(f"\n{table}\nThe curves are in {folder / 'curves.png'}, this table in {folder / 'table.md'}.")
    for failure in failures:
        print(f"gsac: failed: {failure}", file=sys.stderr)
    if failures:
        print("gsac: the same command tries again what failed", file=sys.stderr)
        raise SystemExit(1)


def report(env_id: str, evaluation: Evaluation, deterministic: bool) -> None:
    """The line with the result."""
    actions = "deterministic" if deterministic else "stochastic"
    result = f"{evaluation.mean:.2f} +/- {evaluation.std:.2f}"
    print(f"{env_id}: {result} over {len(evaluation.returns)} episodes, {actions} actions")


def parse(argv: list[str]) -> Any:
    """The command that the arguments ask for. Ends the program with one line and exit code 2 where they are wrong."""
    algo = _option(argv, "--algo") or "gsac"
    resumes = argv[:1] == ["train"] and _option(argv, "--resume") is not None
    algo = algo if algo in models.ALGORITHMS else "gsac"
    settings = None if resumes else asked_preset(argv, algo)
    train = Resume if resumes else train_command(algo, settings.flags() if settings is not None else None)
    commands = {"train": train, "evaluate": Evaluate, "export": Export, "compare": Compare}
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        hint = _did_you_mean(argv[0], commands)
        fail(f"{argv[0]!r} is not a command.{hint} Write gsac followed by {', '.join(commands)}.")
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


def asked_preset(argv: list[str], algo: str) -> Preset | None:
    """The preset that ``gsac train ENV --preset`` asks for; None without the flag, or where the arguments are wrong.

    Ends the program with one line and exit code 2 where there is none.
    """
    if argv[:1] != ["train"] or "--preset" not in argv:
        return None
    rest = [argument for argument in argv[1:] if argument not in ("-h", "--help")]
    train: Any = train_command(algo)
    try:  # which of the words is the environment, only the parser knows
        with contextlib.redirect_stderr(io.StringIO()):
            command, unknown = tyro.cli(train, args=rest, return_unknown_args=True)
    except SystemExit:  # the parser will find the same again
        return None
    if unknown or not command.preset:
        return None
    if algo != "gsac":
        fail(f"--preset has settings of gsac, not of {algo}: leave out --preset, or --algo {algo}.")
    try:
        return preset(command.env)
    except ValueError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Ends the program with one line and exit code 2."""
    print(f"gsac: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def at_least_1(name: str, value: int) -> None:
    """Ends the program where the value of a flag is 0 or less."""
    if value < 1:
        fail(f"--{name.replace('_', '-')} {value} is out of range: pass 1 or more.")


def at_least_0(name: str, value: int | None) -> None:
    """Ends the program where the value of a flag is below 0."""
    if value is not None and value < 0:
        fail(f"--{name.replace('_', '-')} {value} is out of range: pass 0 or more.")


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
