"""Compares algorithms in one environment: which contenders there are, and the runs that each of them makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from gsac.algorithms.arguments import argument_names
from gsac.checks import check_choice
from gsac.estimators import ESTIMATORS
from gsac.experiments.environments import EVALUATION_SEED_OFFSET, make_envs
from gsac.experiments.evaluation import EvaluateAtSteps, evaluation_steps
from gsac.experiments.models import ALGORITHMS, CONSTRUCTOR_ERRORS
from gsac.experiments.peers import PEERS, peer_settings
from gsac.experiments.run_file import RunFile
from gsac.experiments.runner import Line, identity_of
from gsac.experiments.settings import Settings, make_model, with_defaults

N_FINAL_EPISODES = 20

IDENTITY = ("env", "algo", "seed", "total_timesteps", "eval_episodes", "settings")
"""The entries of a run's line that tell it from other runs."""


def algorithms() -> dict[str, type[BaseAlgorithm]]:
    """Everything that can be compared."""
    return {**ALGORITHMS, **PEERS}


@dataclass(frozen=True)
class Contender:
    """An algorithm with its settings: a curve of the picture, a row of the table."""

    label: str
    algo: str
    settings: Settings


@dataclass(frozen=True)
class Job:
    """A contender on one seed."""

    contender: Contender
    env: str
    seed: int
    total_timesteps: int
    eval_episodes: int

    def __str__(self) -> str:
        return f"{self.contender.label}, seed {self.seed}"

    def described(self) -> Line:
        """The beginning of the run's line: everything that is known beforehand."""
        settings = self.contender.settings
        arguments = with_defaults(algorithms()[self.contender.algo], settings.arguments)
        return {
            "label": self.contender.label,
            "env": self.env,
            "algo": self.contender.algo,
            "estimator": arguments.get("estimator"),
            "seed": self.seed,
            "total_timesteps": self.total_timesteps,
            "eval_episodes": self.eval_episodes,
            "settings_from": settings.source,
            "settings": {"n_envs": settings.n_envs, "normalize": settings.normalize, "arguments": arguments},
        }

    def run(self) -> Line:
        """Trains, with evaluations on the way and at the end."""
        model, eval_env = build(self.contender, self.env, self.seed)
        evaluations = EvaluateAtSteps(evaluation_steps(self.total_timesteps), eval_env, self.eval_episodes)
        model.learn(self.total_timesteps, callback=evaluations)
        final = evaluations.evaluate(N_FINAL_EPISODES)
        return {"curve": evaluations.curve, "final": final.mean, "final_returns": final.returns}


def split_names(words: Iterable[str]) -> list[str]:
    """Splits words at commas and spaces into names, each once. A piece such as ``y=2`` belongs to the name before it.

    >>> split_names(["a,b", "c:x=1,y=2,d", "a"])
    ['a', 'b', 'c:x=1,y=2', 'd']
    """
    names: list[str] = []
    for piece in ",".join(words).replace(" ", ",").split(","):
        if names and ":" in names[-1] and "=" in piece.split(":")[0]:
            names[-1] += f",{piece}"
        elif piece:
            names.append(piece)
    return list(dict.fromkeys(names))


def contenders(
    env_id: str, algos: Sequence[str], estimators: Sequence[str], arguments: dict[str, dict[str, Any]]
) -> list[Contender]:
    """One contender for each algorithm; of GSAC, one for each estimator if any is named.

    :param arguments: constructor arguments by algorithm, instead of published or default ones
    :raises ValueError: an unknown algorithm, estimator or argument
    """
    for algo in algos:
        check_choice("algos", algo, algorithms())
    for estimator in estimators:
        check_choice("estimators", estimator.split(":")[0], ("auto", *ESTIMATORS))
    if estimators and "gsac" not in algos:
        raise ValueError("--estimators are those of gsac, which is not among the --algos: add gsac, or leave them out.")
    for algo, given in arguments.items():
        check_choice("arguments", algo, algos)
        if not isinstance(given, dict):
            raise ValueError(f'arguments of {algo}={given!r}: write them as in {{"{algo}": {{"gamma": 0.98}}}}.')
        for name in given:
            allowed = argument_names(algorithms()[algo], lambda argument: not argument.set_by_runner)
            check_choice(f"arguments of {algo}", name, sorted(allowed))
    found = []
    for algo in algos:
        settings = peer_settings(algo, env_id) if algo in PEERS else Settings()
        given = arguments.get(algo, {})
        changes = [settings.source, *(f"{name}={value}" for name, value in given.items())]
        settings = replace(settings, arguments=settings.arguments | given, source=", ".join(changes))
        if algo != "gsac" or not estimators:
            found.append(Contender(algo, algo, settings))
            continue
        for estimator in estimators:
            with_estimator = replace(settings, arguments=settings.arguments | {"estimator": estimator})
            found.append(Contender(f"gsac ({estimator})", algo, with_estimator))
    return found


def build(contender: Contender, env_id: str, seed: int) -> tuple[BaseAlgorithm, VecEnv]:
    """The model with its environment, and the environment of its evaluations. Raises what :func:`make_model` raises."""
    model = make_model(algorithms()[contender.algo], contender.settings, env_id, seed)
    eval_env = make_envs(env_id, 1, seed + EVALUATION_SEED_OFFSET, None)
    if contender.settings.normalize:
        eval_env = VecNormalize(eval_env, training=False, norm_reward=False)
    return model, model._wrap_env(eval_env)


def why_not(contender: Contender, env_id: str) -> str | None:
    """Why the contender cannot learn in this environment; None if it can.

    :raises ValueError: it cannot be built for CartPole either, so its settings are wrong
    """
    try:
        model, eval_env = build(contender, env_id, seed=0)
        for env in (model.env, eval_env):
            if env is not None:
                env.close()
        if contender.algo in PEERS and np.any(getattr(model.action_space, "start", 0)):
            return f"SB3's algorithms count classes from 0, and this environment's actions are {model.action_space}"
    except CONSTRUCTOR_ERRORS as error:
        try:
            build(contender, "CartPole-v1", seed=0)
        except CONSTRUCTOR_ERRORS:
            raise ValueError(f"{contender.label}: {error}") from None
        return " ".join(str(error).split())
    return None


def identity(line: Line) -> str:
    """The same for a job's description and for the line of its run."""
    return identity_of(line, IDENTITY)


def runs_by_label(jobs: Sequence[Job], file: RunFile) -> dict[str, list[Line]]:
    """The lines of those of the jobs that are finished, by label."""
    done = {identity(run): run for run in file.read()}
    found: dict[str, list[Line]] = {}
    for job in jobs:
        described = job.described()
        if identity(described) in done:
            found.setdefault(job.contender.label, []).append(done[identity(described)] | described)
    return found
