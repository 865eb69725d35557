"""Trains a whole run into a folder, with evaluations and checkpoints, and goes on with one that was stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, make_output_format
from stable_baselines3.common.vec_env import VecEnv

from gsac.algorithms.base import Algorithm
from gsac.algorithms.gsac import GSAC
from gsac.callbacks.checkpoint import Checkpoint, resume
from gsac.callbacks.evaluation import EvalWithMasksCallback
from gsac.experiments.environments import EVALUATION_SEED_OFFSET, check_env, make_envs, policy_for
from gsac.experiments.evaluation import N_EVALUATIONS, Evaluation, evaluate_model
from gsac.experiments.models import ALGORITHMS, check_device, run_config
from gsac.experiments.runner import versions
from gsac.saving.files import atomic_write

CHECKPOINT = "checkpoint.ckpt"


def next_folder(parent: Path, name: str) -> Path:
    """Makes the folder ``parent/name_N`` with the first number N that is free, also among runs that start at the same time."""
    number = 1
    while True:
        folder = parent / f"{name}_{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


@dataclass(frozen=True)
class RunConfig:
    """What to train, and how.

    :param policy: a policy's name, or ``"auto"`` for the one that fits the observations
    :param seed: of everything random; drawn if None
    :param folder: for the run's files; ``logs/ENV/ALGO_N`` with the next number that is free if None
    :param arguments: of the algorithm's constructor
    :param n_eval_episodes: of the final evaluation; those on the way take half as many
    :param checkpoint_every: steps from one checkpoint to the next, 0 for none; GSAC only
    :param env_wrapper: around each environment, as :func:`gsac.envs.wrappers.wrap` reads them
    :param preset: the name of the preset that the settings are from
    """

    algo: str
    env: str
    total_timesteps: int
    folder: Path | None = None
    policy: str = "auto"
    seed: int | None = None
    n_envs: int = 1
    device: str = "auto"
    arguments: dict[str, Any] = field(default_factory=dict)
    n_eval_episodes: int = 20
    checkpoint_every: int = 10_000
    env_wrapper: Any = None
    preset: str | None = None


@dataclass
class TrainingRun:
    """A run that can begin or go on: its environments and its model have been made, so its settings are known to be valid."""

    config: RunConfig
    model: Algorithm
    eval_env: VecEnv
    evaluations: EvalWithMasksCallback

    @property
    def folder(self) -> Path:
        """For the run's files."""
        assert self.config.folder is not None
        return self.config.folder

    def train(self, progress_bar: bool = True) -> Evaluation:
        """Trains and fills the folder.

        It then holds ``config.json``, TensorBoard events, ``progress.csv``, ``evaluations.npz``, ``best_model.zip``,
        ``model.zip``, and of GSAC ``checkpoint.ckpt``. A run that goes on has its own ``progress_STEPS.csv``.

        :return: the evaluation of the final model, deterministic
        """
        config, model, folder = self.config, self.model, self.folder
        goes_on = model.num_timesteps > 0
        if not goes_on:
            written = asdict(config) | {"folder": str(folder), "device": str(model.device), "versions": versions()}
            with atomic_write(folder / "config.json") as file:
                file.write(json.dumps(written, indent=2).encode())
        suffix = f"_{model.num_timesteps}" if goes_on else ""
        outputs = [make_output_format(kind, str(folder), suffix) for kind in ("tensorboard", "csv")]
        model.set_logger(Logger(str(folder), outputs))
        callbacks: list[BaseCallback] = [self.evaluations]
        if isinstance(model, GSAC) and config.checkpoint_every > 0:
            callbacks.append(Checkpoint(folder / CHECKPOINT, config.checkpoint_every, callbacks=[self.evaluations]))
        steps = model.remaining_timesteps if goes_on else config.total_timesteps
        try:
            model.learn(steps, callback=callbacks, progress_bar=progress_bar, reset_num_timesteps=not goes_on)
        finally:  # what was learned before an interruption or an error is kept as well
            model.save(folder / "model.zip")
        assert config.seed is not None
        self.eval_env.seed(config.seed + EVALUATION_SEED_OFFSET)  # whatever was evaluated before, and in which process
        return evaluate_model(model, self.eval_env, config.n_eval_episodes, deterministic=True)


def new_run(config: RunConfig) -> TrainingRun:
    """Makes the environments and the model.

    :raises ValueError: an unknown environment, wrapper or device, an argument out of range, or a folder that holds a run
        already
    :raises TypeError: an argument of the wrong kind
    :raises AssertionError: actions that the algorithm does not take
    :raises NotImplementedError: observations that SB3 does not take
    """
    check_env(config.env, config.env_wrapper)
    check_device(config.device)
    if config.folder is not None and (config.folder / "config.json").exists():
        raise ValueError(f"{config.folder} holds a run already: choose another --logdir, or remove it.")
    seed = int(np.random.SeedSequence().generate_state(1)[0] >> 1) if config.seed is None else config.seed
    env = make_envs(config.env, config.n_envs, seed, config.env_wrapper)
    policy = policy_for(env.observation_space) if config.policy == "auto" else config.policy
    model = ALGORITHMS[config.algo](policy, env, seed=seed, device=config.device, **config.arguments)
    folder = next_folder(Path("logs") / config.env, config.algo) if config.folder is None else config.folder
    config = replace(config, seed=seed, policy=policy, folder=folder)
    eval_env, evaluations = periodic_evaluation(config)
    return TrainingRun(config, model, eval_env, evaluations)


def stopped_run(folder: Path, device: str = "auto") -> TrainingRun:
    """Loads the run of a folder from its last checkpoint, to go on with it.

    :raises ValueError: there is no run, or no checkpoint of it, or the run is complete
    """
    check_device(device)
    if not (folder / CHECKPOINT).is_file():
        raise ValueError(
            f"There is no {folder / CHECKPOINT} to go on from: pass the folder of a run of GSAC that has made "
            "--checkpoint-every steps."
        )
    written = run_config(folder / CHECKPOINT)
    config = RunConfig(**{f.name: written[f.name] for f in fields(RunConfig) if f.name in written} | {"folder": folder})
    check_env(config.env, config.env_wrapper)
    assert config.seed is not None
    eval_env, evaluations = periodic_evaluation(config)
    env = make_envs(config.env, config.n_envs, config.seed, config.env_wrapper)
    model = resume(folder / CHECKPOINT, env, callbacks=[evaluations], device=device)
    if model.remaining_timesteps == 0:
        raise ValueError(f"The run in {folder} has made all of its {config.total_timesteps} steps.")
    return TrainingRun(config, model, eval_env, evaluations)


def periodic_evaluation(config: RunConfig) -> tuple[VecEnv, EvalWithMasksCallback]:
    """The environment of the evaluations, and the callback that makes about twenty of them during the run."""
    assert config.seed is not None
    eval_env = make_envs(config.env, 1, config.seed + EVALUATION_SEED_OFFSET, config.env_wrapper)
    eval_env = ALGORITHMS[config.algo]._wrap_env(eval_env)
    return eval_env, EvalWithMasksCallback(
        eval_env,
        best_model_save_path=str(config.folder),
        log_path=str(config.folder),
        n_eval_episodes=max(config.n_eval_episodes // 2, 1),
        eval_freq=max(config.total_timesteps // N_EVALUATIONS // config.n_envs, 1),
        first_seed=config.seed + EVALUATION_SEED_OFFSET + 1,
        verbose=0,
    )
