"""Trains, plays and tunes GSAC in RL Baselines3 Zoo (https://github.com/DLR-RM/rl-baselines3-zoo).

    python -m gsac.zoo train --algo gsac --env CartPole-v1
    python -m gsac.zoo enjoy --algo gsac --env CartPole-v1 --no-render
    python -m gsac.zoo train --algo gsac --env CartPole-v1 -optimize --n-trials 50

Needs ``pip install "gsac[zoo]"``. All flags are the zoo's. Without ``-conf``, the settings are :data:`hyperparams` of this module:
the presets. A program of the zoo that is not started from here takes them with ``-conf gsac.zoo``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from gsac.algorithms.gsac import GSAC
from gsac.checks import check_choice
from gsac.experiments import presets
from gsac.learning.learner import TARGETS

hyperparams: dict[str, dict[str, Any]] = presets.read()
"""The constructor's arguments by environment, from the file of :mod:`gsac.experiments.presets`. The zoo looks for this name."""

NET_ARCHS = {"small": [64, 64], "medium": [128, 128], "big": [256, 256]}

COMMANDS = ("train", "enjoy")


def convert_gsac_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """Converts the values that the tuner sampled to arguments of the constructor."""
    arguments = dict(sampled_params)
    arguments["gamma"] = 1 - arguments.pop("one_minus_gamma")
    arguments["batch_size"] = 2 ** arguments.pop("batch_size_pow")
    arguments["target_entropy"] = f"auto_{arguments.pop('target_entropy_fraction')}"
    arguments["policy_kwargs"] = {"net_arch": NET_ARCHS[arguments.pop("net_arch")]}
    return arguments


def sample_gsac_params(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """Samples the constructor's arguments for one trial of the tuner.

    :param trial: the trial of Optuna
    :param n_actions: unused: the zoo counts the actions of ``Box`` spaces only
    :param n_envs: unused
    :param additional_args: from the zoo: whether hindsight replay is on, and its settings
    """
    from rl_zoo3.hyperparams_opt import sample_her_params

    sampled = {
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 1e-4, 0.03, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True),
        "batch_size_pow": trial.suggest_int("batch_size_pow", 5, 9),
        "tau": trial.suggest_float("tau", 0.005, 0.1, log=True),
        "temperature": trial.suggest_float("temperature", 0.1, 1.0, log=True),
        "target_entropy_fraction": trial.suggest_float("target_entropy_fraction", 0.1, 0.7),
        "target": trial.suggest_categorical("target", list(TARGETS)),
        "net_arch": trial.suggest_categorical("net_arch", list(NET_ARCHS)),
    }
    if additional_args["using_her_replay_buffer"]:
        sampled = sample_her_params(trial, sampled, additional_args["her_kwargs"])
    else:
        sampled["n_steps"] = trial.suggest_int("n_steps", 1, 5)
    return convert_gsac_params(sampled)


def register() -> None:
    """Adds GSAC, and the space that its tuner searches, to the zoo as ``--algo gsac``.

    :raises ImportError: the zoo is not installed
    """
    try:
        import rl_zoo3
        from rl_zoo3 import hyperparams_opt
    except ImportError as error:
        raise ImportError(f'RL Baselines3 Zoo is not installed ({error}). Write: pip install "gsac[zoo]"') from None
    rl_zoo3.ALGOS["gsac"] = GSAC
    hyperparams_opt.HYPERPARAMS_SAMPLER["gsac"] = sample_gsac_params
    hyperparams_opt.HYPERPARAMS_CONVERTER["gsac"] = convert_gsac_params


def main(argv: Sequence[str] | None = None) -> None:
    """Registers GSAC in the zoo, and runs the zoo's ``train`` or ``enjoy``."""
    command, *flags = list(sys.argv[1:] if argv is None else argv) or [""]
    try:
        check_choice("command", command, COMMANDS)
        register()
    except (ValueError, ImportError) as error:
        raise SystemExit(f"gsac.zoo: {error}") from None
    from rl_zoo3.enjoy import enjoy
    from rl_zoo3.train import train

    if command == "train" and not {"-conf", "--conf-file"} & set(flags):
        flags += ["-conf", __spec__.name if __spec__ is not None else "gsac.zoo"]
    sys.argv = [f"gsac.zoo {command}", *flags]
    {"train": train, "enjoy": enjoy}[command]()


if __name__ == "__main__":
    main()
