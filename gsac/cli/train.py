"""``gsac train``: trains an agent, or resumes a training from its last checkpoint."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from gsac.checks import AT_LEAST_0, AT_LEAST_1, check_number, is_at_least_0, is_at_least_1
from gsac.cli.flags import JSON, flag_types, with_arguments_of
from gsac.cli.messages import one_line_errors, print_returns
from gsac.envs.wrappers import EXAMPLE
from gsac.experiments import presets
from gsac.experiments.models import ALGORITHMS, CONSTRUCTOR_ERRORS
from gsac.experiments.run import CHECKPOINT, RunConfig, TrainingRun, new_run, stopped_run

ENV = "A Gymnasium environment, such as CartPole-v1; MODULE:ENV imports the module that registers it."

POLICY = "MlpPolicy, CnnPolicy, MultiInputPolicy, or auto, which picks one for the observations."

ENV_WRAPPER = f"Wrappers around each environment, the innermost first, as JSON: '{EXAMPLE}'."


@dataclass
class Train:
    """Train an agent, and evaluate it on the way. To resume a training that was stopped: gsac train --resume FOLDER."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV", help=ENV)]
    algo: Literal[tuple(ALGORITHMS)] = "gsac"  # type: ignore[valid-type]
    """The algorithm; its arguments are the last of these flags."""
    total_timesteps: int = 20_000
    """Steps in the environment."""
    seed: int | None = None  # --help takes the text from the constructor's docstring, as for device
    logdir: Path | None = None
    """The folder of the run; None makes logs/ENV/ALGO_N."""
    n_envs: int = 1
    """Environments in parallel."""
    eval_episodes: int = 20
    """Episodes of the final evaluation; those on the way take half as many."""
    device: str = "auto"
    policy: Annotated[str, tyro.conf.arg(help=POLICY)] = "auto"
    preset: bool = False
    """Take the settings of this environment in gsac/experiments/presets.yml as defaults; --help shows them. Flags that you
    write win over them. --policy-kwargs and --env-wrapper replace the whole of the preset's."""
    env_wrapper: Annotated[Any, JSON, tyro.conf.arg(help=ENV_WRAPPER)] = None
    progress_bar: bool = True
    """Show a progress bar."""
    checkpoint_every: ClassVar[int] = 0  # no flag: REINFORCE has no checkpoints

    def run(self) -> None:
        """Trains from the first step on."""
        with one_line_errors(*CONSTRUCTOR_ERRORS):
            check_number("--total-timesteps", self.total_timesteps, AT_LEAST_1, is_at_least_1, 20_000)
            check_number("--n-envs", self.n_envs, AT_LEAST_1, is_at_least_1, 4)
            check_number("--eval-episodes", self.eval_episodes, AT_LEAST_1, is_at_least_1, 20)
            check_number("--checkpoint-every", self.checkpoint_every, "1 or more, or 0 for none", is_at_least_0, 10_000)
            if self.seed is not None:
                check_number("--seed", self.seed, AT_LEAST_0, is_at_least_0, 0)
            tuned = presets.preset(self.env) if self.preset else None
            config = RunConfig(
                algo=self.algo,
                env=self.env,
                total_timesteps=self.total_timesteps,
                folder=self.logdir,
                policy=self.policy,
                seed=self.seed,
                n_envs=self.n_envs,
                device=self.device,
                arguments={name: getattr(self, name) for name in flag_types(ALGORITHMS[self.algo])},
                n_eval_episodes=self.eval_episodes,
                checkpoint_every=self.checkpoint_every,
                env_wrapper=self.env_wrapper,
                preset=tuned.name if tuned else None,
            )
            run = new_run(config)
        if tuned:
            print(f"gsac: {tuned.summary(vars(self))}", flush=True)
        train(run, self.progress_bar)


@dataclass
class TrainWithCheckpoints(Train):
    """:class:`Train` for an algorithm that has checkpoints."""

    checkpoint_every: int = 10_000  # type: ignore[misc]
    """Steps between checkpoints, which hold the filled part of the replay buffer; 0 writes none."""


def train_command(algo: str) -> type[Train]:
    """Returns :class:`Train` with a flag for each argument of the algorithm's constructor."""
    return with_arguments_of(ALGORITHMS[algo], TrainWithCheckpoints if algo == "gsac" else Train)


@dataclass
class Resume:
    """Resume a stopped training of GSAC from its last checkpoint. It ends with the same weights as without the stop."""

    resume: Path
    """The run's folder."""
    device: str = "auto"
    """Where the networks run: auto, cpu, cuda."""
    progress_bar: bool = True
    """Show a progress bar."""

    def run(self) -> None:
        """Trains from the last checkpoint on."""
        with one_line_errors(ValueError, OSError):
            run = stopped_run(self.resume, self.device)
        train(run, self.progress_bar)


def train(run: TrainingRun, progress_bar: bool) -> None:
    """Trains, and prints the result, or how to resume after Ctrl-C."""
    try:
        evaluation = run.train(progress_bar)
    except KeyboardInterrupt:
        print(f"gsac: interrupted; the model so far is in {run.folder}", file=sys.stderr)
        if (run.folder / CHECKPOINT).exists():
            print(f"gsac: to resume from its last checkpoint: gsac train --resume {run.folder}", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"To watch it: tensorboard --logdir {run.folder}. To use it: gsac evaluate {run.folder}")
    print_returns(run.config.env, evaluation, deterministic=True)
