"""A whole run on disk: training with evaluations, and using its model again."""

from __future__ import annotations

import json
import platform
import statistics
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger, make_output_format
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv

from gsac.algorithms.arguments import check_choice
from gsac.algorithms.base import Algorithm
from gsac.algorithms.gsac import GSAC
from gsac.algorithms.reinforce import REINFORCE
from gsac.callbacks.checkpoint import Checkpoint, resume
from gsac.callbacks.evaluation import EvalWithMasksCallback, masked
from gsac.envs.wrappers import EpisodeStatistics, wrap
from gsac.saving import weights
from gsac.saving.files import atomic_write

ALGORITHMS: dict[str, type[Algorithm]] = {"gsac": GSAC, "reinforce": REINFORCE}

REFUSALS = (ValueError, TypeError, AssertionError, NotImplementedError)
"""What an algorithm's constructor raises, SB3's included, for arguments, actions or observations that it does not take."""

CHECKPOINT = "checkpoint.ckpt"
N_EVALUATIONS = 20
EVALUATION_SEED_OFFSET = 1_000_000
"""Evaluation environments are seeded apart from those that the agent trained in."""


@dataclass(frozen=True)
class Evaluation:
    """Returns of whole episodes."""

    returns: list[float]
    lengths: list[int]

    @property
    def mean(self) -> float:
        """Of the returns."""
        return statistics.fmean(self.returns)

    @property
    def std(self) -> float:
        """Of the returns, as of a population."""
        return statistics.pstdev(self.returns)


def check_env(env_id: str, wrappers: Any = None) -> None:
    """:raises ValueError: Gymnasium has no environment of this name, with what it would suggest, or it takes no such
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
    """The environments side by side, each in its wrappers; see :func:`gsac.envs.wrappers.wrap`. The returns of their episodes, in
    ``info["episode"]``, are the environment's own. A warning says where an episode may have no end.
    """
    return make_vec_env(env_id, n_envs, seed, wrapper_class=partial(_wrapped, wrappers=wrappers))


def _wrapped(env: gymnasium.Env, wrappers: Any) -> gymnasium.Env:
    return EpisodeStatistics(wrap(env, wrappers))


def check_device(device: str) -> None:
    """:raises ValueError: PyTorch knows no device of this name, or has none here"""
    try:
        kind = "cpu" if device == "auto" else torch.device(device).type
    except RuntimeError:
        raise ValueError(f"The device {device!r} is unknown: pass auto, cpu, or cuda.") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"The device {device!r} is not to be had: PyTorch sees no GPU here. Pass auto or cpu.")


def policy_for(observation_space: spaces.Space) -> str:
    """The name of the policy that reads such observations."""
    if isinstance(observation_space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(observation_space) else "MlpPolicy"


def next_folder(parent: Path, name: str) -> Path:
    """Makes ``parent/name_1``, or with the next number that is free; a run that starts at the same time takes another."""
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
class Run:
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
class Prepared:
    """A run whose environment and model have been made, so that nothing in its settings can fail any more."""

    run: Run
    model: Algorithm
    eval_env: VecEnv
    evaluations: EvalWithMasksCallback

    @property
    def folder(self) -> Path:
        """For the run's files."""
        assert self.run.folder is not None
        return self.run.folder

    def train(self, progress_bar: bool = True) -> Evaluation:
        """Trains and fills the folder.

        It then holds ``config.json``, TensorBoard events, ``progress.csv``, ``evaluations.npz``, ``best_model.zip``,
        ``model.zip``, and of GSAC ``checkpoint.ckpt``. A run that goes on has its own ``progress_STEPS.csv``.

        :return: the evaluation of the final model, deterministic
        """
        run, model, folder = self.run, self.model, self.folder
        goes_on = model.num_timesteps > 0
        if not goes_on:
            config = asdict(run) | {"folder": str(folder), "device": str(model.device), "versions": versions()}
            with atomic_write(folder / "config.json") as file:
                file.write(json.dumps(config, indent=2).encode())
        suffix = f"_{model.num_timesteps}" if goes_on else ""
        outputs = [make_output_format(kind, str(folder), suffix) for kind in ("tensorboard", "csv")]
        model.set_logger(Logger(str(folder), outputs))
        callbacks: list[BaseCallback] = [self.evaluations]
        if isinstance(model, GSAC) and run.checkpoint_every > 0:
            callbacks.append(Checkpoint(folder / CHECKPOINT, run.checkpoint_every, callbacks=[self.evaluations]))
        steps = model.remaining_timesteps if goes_on else run.total_timesteps
        try:
            model.learn(steps, callback=callbacks, progress_bar=progress_bar, reset_num_timesteps=not goes_on)
        finally:  # what was learned before an interruption or an error is kept as well
            model.save(folder / "model.zip")
        assert run.seed is not None
        self.eval_env.seed(run.seed + EVALUATION_SEED_OFFSET)  # whatever was evaluated before, and in which process
        return evaluate_model(model, self.eval_env, run.n_eval_episodes, deterministic=True)


def prepare(run: Run) -> Prepared:
    """Makes the environments and the model.

    :raises ValueError: an unknown environment, wrapper or device, an argument out of range, or a folder that holds a run
        already
    :raises TypeError: an argument of the wrong kind
    :raises AssertionError: actions that the algorithm does not take
    :raises NotImplementedError: observations that SB3 does not take
    """
    check_env(run.env, run.env_wrapper)
    check_device(run.device)
    if run.folder is not None and (run.folder / "config.json").exists():
        raise ValueError(f"{run.folder} holds a run already: choose another --logdir, or remove it.")
    seed = int(np.random.SeedSequence().generate_state(1)[0] >> 1) if run.seed is None else run.seed
    env = make_envs(run.env, run.n_envs, seed, run.env_wrapper)
    policy = policy_for(env.observation_space) if run.policy == "auto" else run.policy
    model = ALGORITHMS[run.algo](policy, env, seed=seed, device=run.device, **run.arguments)
    folder = next_folder(Path("logs") / run.env, run.algo) if run.folder is None else run.folder
    run = replace(run, seed=seed, policy=policy, folder=folder)
    eval_env, evaluations = evaluate_on_the_way(run)
    return Prepared(run, model, eval_env, evaluations)


def prepare_to_go_on(folder: Path, device: str = "auto") -> Prepared:
    """The run of a folder as its last checkpoint has it.

    :raises ValueError: there is no run, or no checkpoint of it, or the run is complete
    """
    check_device(device)
    if not (folder / CHECKPOINT).is_file():
        raise ValueError(
            f"There is no {folder / CHECKPOINT} to go on from: pass the folder of a run of GSAC that has made "
            "--checkpoint-every steps."
        )
    config = run_config(folder / CHECKPOINT)
    run = Run(**{f.name: config[f.name] for f in fields(Run) if f.name in config} | {"folder": folder})
    check_env(run.env, run.env_wrapper)
    assert run.seed is not None
    eval_env, evaluations = evaluate_on_the_way(run)
    env = make_envs(run.env, run.n_envs, run.seed, run.env_wrapper)
    model = resume(folder / CHECKPOINT, env, callbacks=[evaluations], device=device)
    if model.remaining_timesteps == 0:
        raise ValueError(f"The run in {folder} has made all of its {run.total_timesteps} steps.")
    return Prepared(run, model, eval_env, evaluations)


def evaluate_on_the_way(run: Run) -> tuple[VecEnv, EvalWithMasksCallback]:
    """The environment of the evaluations, and the callback that makes them."""
    assert run.seed is not None
    eval_env = make_envs(run.env, 1, run.seed + EVALUATION_SEED_OFFSET, run.env_wrapper)
    eval_env = ALGORITHMS[run.algo]._wrap_env(eval_env)
    return eval_env, EvalWithMasksCallback(
        eval_env,
        best_model_save_path=str(run.folder),
        log_path=str(run.folder),
        n_eval_episodes=max(run.n_eval_episodes // 2, 1),
        eval_freq=max(run.total_timesteps // N_EVALUATIONS // run.n_envs, 1),
        first_seed=run.seed + EVALUATION_SEED_OFFSET + 1,
        verbose=0,
    )


def load(
    path: Path, env_id: str | None, seed: int, device: str, algo: str | None = None
) -> tuple[BaseAlgorithm, str, VecEnv]:
    """The model of a run's folder or of a file in it, the name of its environment, and a fresh one in the run's wrappers.

    :param env_id: the environment, where no ``config.json`` beside the model tells it
    :param seed: of the environment, and of the actions where they are sampled; that of the run gives the episodes of its
        final evaluation
    :param algo: the algorithm, where neither ``config.json`` nor the file tells it; ``"gsac"`` if None
    :raises ValueError: no model there, or no environment known, or one that does not fit the model
    """
    file = model_file(path)
    config = run_config(file)
    env_id, wrappers = env_id or config.get("env"), config.get("env_wrapper")
    if env_id is None:
        raise ValueError(f"No config.json beside {file} names the environment: pass --env, such as --env CartPole-v1.")
    check_env(env_id, wrappers)
    model = load_model(file, make_envs(env_id, 1, seed + EVALUATION_SEED_OFFSET, wrappers), device, algo)
    env = model.get_env()
    assert env is not None
    model.set_random_seed(seed)  # of the sampled actions; loading had set the training's
    return model, env_id, env


def load_to_export(path: Path, env_id: str | None, algo: str | None = None) -> Algorithm:
    """The model of a run's folder or of a file in it, on the CPU, with its environment if one is known.

    :param env_id: the environment, where no ``config.json`` beside the model tells it
    :param algo: as in :func:`load_model`
    :raises ValueError: no model there, or an environment that does not fit the model
    """
    file = model_file(path)
    config = run_config(file)
    env_id, wrappers = env_id or config.get("env"), config.get("env_wrapper")
    if env_id is not None:
        check_env(env_id, wrappers)
    return load_model(file, None if env_id is None else make_envs(env_id, 1, None, wrappers), "cpu", algo)


def model_file(path: Path) -> Path:
    """The model's file, where ``path`` may be a run's folder.

    :raises ValueError: there is none
    """
    file = path / "model.zip" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"There is no model at {file}: pass a run's folder, a .zip file that gsac train or model.save() wrote, or a "
            f"{weights.SUFFIX} file of model.save_weights()."
        )
    return file


def run_config(file: Path) -> dict[str, Any]:
    """The configuration of the run that a model's file belongs to; empty if there is none beside it."""
    config = file.parent / "config.json"
    return json.loads(config.read_text()) if config.is_file() else {}


def load_model(file: Path, env: VecEnv | None, device: str, algo: str | None = None) -> Algorithm:
    """The model in a file of either format.

    :param algo: the algorithm, where neither ``config.json`` nor the file tells it; ``"gsac"`` if None
    :raises ValueError: an unknown algorithm or device, or a file that is damaged or holds something else
    """
    check_device(device)
    if file.suffix == weights.SUFFIX:
        algo = algo or weights.read_weights(file).algorithm.lower()
    algo = algo or run_config(file).get("algo", "gsac")
    check_choice("algo", algo, ALGORITHMS)
    if file.suffix == weights.SUFFIX:
        return ALGORITHMS[algo].from_weights(file, env, device)
    return ALGORITHMS[algo].load(file, env, device)


def evaluate_model(model: BaseAlgorithm, env: VecEnv, episodes: int, deterministic: bool) -> Evaluation:
    """The returns of whole episodes."""
    returns, lengths = evaluate_policy(masked(model, env), env, episodes, deterministic, return_episode_rewards=True)
    assert isinstance(returns, list)
    assert isinstance(lengths, list)
    return Evaluation([float(value) for value in returns], [int(length) for length in lengths])


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    packages = ("gsac", "torch", "stable-baselines3", "gymnasium", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
