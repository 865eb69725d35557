"""Finds and loads trained models, with the environments that they were trained in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from gsac.algorithms.base import Algorithm
from gsac.algorithms.gsac import GSAC
from gsac.algorithms.reinforce import REINFORCE
from gsac.checks import check_choice
from gsac.experiments.environments import EVALUATION_SEED_OFFSET, check_env, make_envs
from gsac.saving import weights

ALGORITHMS: dict[str, type[Algorithm]] = {"gsac": GSAC, "reinforce": REINFORCE}

CONSTRUCTOR_ERRORS = (ValueError, TypeError, AssertionError, NotImplementedError)
"""What an algorithm's constructor, SB3's included, raises for arguments, actions or observations that it does not take."""


def check_device(device: str) -> None:
    """Raises an error unless PyTorch has the device.

    :raises ValueError: PyTorch knows no device of this name, or has none here
    """
    try:
        kind = "cpu" if device == "auto" else torch.device(device).type
    except RuntimeError:
        raise ValueError(f"The device {device!r} is unknown: pass auto, cpu, or cuda.") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"The device {device!r} is not available: PyTorch sees no GPU here. Pass auto or cpu.")


def load(
    path: Path, env_id: str | None, seed: int, device: str, algo: str | None = None
) -> tuple[BaseAlgorithm, str, VecEnv]:
    """Loads a model from a run's folder or a file in it; with the name of its environment, and a fresh one in the run's wrappers.

    :param env_id: the environment, where no ``config.json`` beside the model names it
    :param seed: of the environment and of sampled actions; the seed of the run gives the episodes of its final evaluation
    :param algo: the algorithm, where neither ``config.json`` nor the file names it; ``"gsac"`` if None
    :raises ValueError: there is no model, or its environment is not known or does not fit the model
    """
    file = model_file(path)
    env_id, wrappers = _environment_of(file, env_id)
    if env_id is None:
        raise ValueError(f"No config.json beside {file} names the environment: pass --env, such as --env CartPole-v1.")
    check_env(env_id, wrappers)
    model = load_model(file, make_envs(env_id, 1, seed + EVALUATION_SEED_OFFSET, wrappers), device, algo)
    env = model.get_env()
    assert env is not None
    model.set_random_seed(seed)  # of the sampled actions; loading had set the training's
    return model, env_id, env


def load_to_export(path: Path, env_id: str | None, algo: str | None = None) -> Algorithm:
    """Loads a model from a run's folder or a file in it onto the CPU, with its environment if that is known.

    :param env_id: the environment, where no ``config.json`` beside the model names it
    :param algo: as in :func:`load_model`
    :raises ValueError: there is no model, or the environment does not fit it
    """
    file = model_file(path)
    env_id, wrappers = _environment_of(file, env_id)
    if env_id is not None:
        check_env(env_id, wrappers)
    return load_model(file, None if env_id is None else make_envs(env_id, 1, None, wrappers), "cpu", algo)


def _environment_of(file: Path, env_id: str | None) -> tuple[str | None, Any]:
    """The name of the environment, if it is known, and its wrappers."""
    config = run_config(file)
    return env_id or config.get("env"), config.get("env_wrapper")


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
    """The ``config.json`` of the run that a model's file belongs to; empty if there is none beside it."""
    config = file.parent / "config.json"
    return json.loads(config.read_text()) if config.is_file() else {}


def load_model(file: Path, env: VecEnv | None, device: str, algo: str | None = None) -> Algorithm:
    """Loads a ``.zip`` or ``.safetensors`` file.

    :param algo: the algorithm, where neither ``config.json`` nor the file names it; ``"gsac"`` if None
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
