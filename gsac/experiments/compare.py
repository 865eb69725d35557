"""Comparing algorithms: which runs there are, what one of them does, and which of them are done."""

from __future__ import annotations

import json
import os
import platform
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, sync_envs_normalization

from gsac.algorithms.arguments import check_choice, described, names, parameters
from gsac.estimators import ESTIMATORS
from gsac.experiments import run as experiment
from gsac.experiments.peers import PEERS, Settings, peer_arguments, peer_settings, with_fitting_extractor
from gsac.experiments.processes import Failure, run_in_processes
from gsac.experiments.run_file import RunFile

N_FINAL_EPISODES = 20

IDENTITY = ("env", "algo", "seed", "total_timesteps", "eval_episodes", "settings")
"""The entries of a run's line that tell it from other runs."""


def algorithms() -> dict[str, type[BaseAlgorithm]]:
    """Everything that can be compared."""
    return {**experiment.ALGORITHMS, **PEERS}


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

    def described(self) -> dict[str, Any]:
        """The first half of the run's line: everything that is known beforehand."""
        settings = self.contender.settings
        arguments = {
            name: settings.arguments.get(name, parameter.default)
            for name, parameter in parameters(algorithms()[self.contender.algo]).items()
            if described(name).setting
        }
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


def reward_threshold(env_id: str) -> float | None:
    """The return at which Gymnasium counts the environment as solved, if it says so.

    :raises ValueError: Gymnasium has no environment of this name
    """
    experiment.check_env(env_id)
    env = gymnasium.make(env_id)
    env.close()
    return env.spec.reward_threshold if env.spec else None


def split_names(words: Iterable[str]) -> list[str]:
    """The names in words that are separated by commas or stand alone, each once.

    A piece such as ``b=2`` goes on with the settings of the name before it.

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
    """The curves that are asked for: one for each algorithm, but for GSAC one for each estimator, where any is named.

    :param arguments: of an algorithm's constructor, by its name; they replace the published or default ones
    :raises ValueError: an unknown algorithm, estimator or argument
    """
    for algo in algos:
        check_choice("algos", algo, algorithms())
    for estimator in estimators:
        check_choice("estimators", estimator.split(":")[0], ("auto", *ESTIMATORS))
    if estimators and "gsac" not in algos:
        raise ValueError("--estimators are those of gsac, which is not among the --algos: add it, or leave them out.")
    for algo, given in arguments.items():
        check_choice("arguments", algo, algos)
        if not isinstance(given, dict):
            raise ValueError(f'arguments of {algo}={given!r}: write them as in {{"{algo}": {{"gamma": 0.98}}}}.')
        for name in given:
            allowed = names(algorithms()[algo], lambda argument: not argument.set_by_runner)
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
    """The model with its environment, and the environment of its evaluations.

    :raises ValueError: an argument out of its range, or one that the environment does not go with
    :raises TypeError: an argument of the wrong kind
    :raises AssertionError: actions that the algorithm does not take
    :raises NotImplementedError: observations that SB3 does not take
    """
    settings = contender.settings
    env = experiment.make_envs(env_id, settings.n_envs, seed, None)
    eval_env = experiment.make_envs(env_id, 1, seed + experiment.EVALUATION_SEED_OFFSET, None)
    arguments = settings.arguments
    if settings.normalize:
        gamma = arguments.get("gamma", 0.99)
        env = VecNormalize(env, gamma=gamma)
        eval_env = VecNormalize(eval_env, training=False, norm_reward=False)
    env = algorithms()[contender.algo]._wrap_env(env)  # images channels first, as the policies see them
    if contender.algo in PEERS:
        arguments = with_fitting_extractor(peer_arguments(arguments), env.observation_space)
    policy = experiment.policy_for(env.observation_space)
    model = algorithms()[contender.algo](policy, env, seed=seed, device="cpu", **arguments)
    return model, model._wrap_env(eval_env)


def why_not(contender: Contender, env_id: str) -> str | None:
    """Why the contender cannot learn in this environment; None if it can.

    :raises ValueError: it cannot be built for CartPole either, so that its settings are wrong
    """
    try:
        model, eval_env = build(contender, env_id, seed=0)
        for env in (model.env, eval_env):
            if env is not None:
                env.close()
        if contender.algo in PEERS and np.any(getattr(model.action_space, "start", 0)):
            return f"SB3's algorithms count classes from 0, and this environment's actions are {model.action_space}"
    except experiment.REFUSALS as error:
        try:
            build(contender, "CartPole-v1", seed=0)
        except experiment.REFUSALS:
            raise ValueError(f"{contender.label}: {error}") from None
        return " ".join(str(error).split())
    return None


class AtSteps(BaseCallback):
    """Does something at given steps and ends the training at the last of them; what it finds is the curve.

    A step that is not a multiple of the number of environments is taken to be the next one that is. It comes after the
    updates that the experience up to that step made possible.
    """

    def __init__(self, steps: Sequence[int]) -> None:
        super().__init__()
        self.waiting = list(steps)
        self.curve: list[dict[str, Any]] = []
        self.steps_made = 0

    @abstractmethod
    def point(self) -> dict[str, Any]:
        """What is found, without the step."""

    def _on_rollout_start(self) -> None:
        self._catch_up(self.model.num_timesteps)

    def _on_step(self) -> bool:
        # What the algorithm does with a step comes after this call, so the steps before this one count.
        self._catch_up(self.steps_made)
        self.steps_made = self.num_timesteps
        return bool(self.waiting)

    def _on_training_end(self) -> None:
        self._catch_up(self.model.num_timesteps)

    def _catch_up(self, steps_made: int) -> None:
        point = None
        while self.waiting and self.waiting[0] <= steps_made:
            point = self.point() if point is None else point
            self.curve.append({"step": self.waiting.pop(0)} | point)


class EvaluateAtSteps(AtSteps):
    """Evaluates the policy at given steps."""

    def __init__(self, steps: Sequence[int], eval_env: VecEnv, episodes: int) -> None:
        super().__init__(steps)
        self.eval_env = eval_env
        self.episodes = episodes

    def evaluate(self, episodes: int) -> experiment.Evaluation:
        """Of the deterministic policy, with the training's statistics where observations are normalised."""
        sync_envs_normalization(self.training_env, self.eval_env)
        return experiment.evaluate_model(self.model, self.eval_env, episodes, deterministic=True)

    def point(self) -> dict[str, Any]:
        """The mean return."""
        return {"mean": self.evaluate(self.episodes).mean}


def evaluation_steps(total_timesteps: int) -> list[int]:
    """About twenty, evenly spaced, the last one included.

    >>> evaluation_steps(10)
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    """
    n = experiment.N_EVALUATIONS
    return sorted({max(total_timesteps * i // n, 1) for i in range(1, n + 1)})


def run(job: Job) -> dict[str, Any]:
    """Trains and evaluates: the run's whole line."""
    wall, cpu = time.perf_counter(), time.process_time()
    model, eval_env = build(job.contender, job.env, job.seed)
    evaluations = EvaluateAtSteps(evaluation_steps(job.total_timesteps), eval_env, job.eval_episodes)
    model.learn(job.total_timesteps, callback=evaluations)
    final = evaluations.evaluate(N_FINAL_EPISODES)
    return job.described() | {
        "curve": evaluations.curve,
        "final": final.mean,
        "final_returns": final.returns,
        "wall_seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "versions": experiment.versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread a run",
    }


def identity(run: dict[str, Any]) -> str:
    """The same for two descriptions of one run, before and after they were written down."""
    return json.dumps({name: run.get(name) for name in IDENTITY}, sort_keys=True, default=str)


def train(jobs: Sequence[Job], file: RunFile, n_processes: int) -> list[str]:
    """Runs the jobs that the file does not hold yet, and adds each to it as it ends.

    :param n_processes: at a time
    :return: what failed, and why
    :raises ValueError: the file holds something else than runs
    """
    done = {identity(run) for run in file.read()}
    missing = [job for job in jobs if identity(job.described()) not in done]
    if len(missing) < len(jobs):
        print(f"{len(jobs) - len(missing)} of {len(jobs)} runs are in {file.path} already.", flush=True)
    ended: list[Job] = []
    failures: list[str] = []

    def note(job: Job, outcome: dict[str, Any] | Failure) -> None:
        ended.append(job)
        if isinstance(outcome, Failure):
            failures.append(f"{job}: {outcome.message}")
            told = "failed"
        else:
            file.append(outcome)
            told = f"{outcome['final']:.2f} after {outcome['wall_seconds']:.0f} s"
        print(f"[{len(ended)}/{len(missing)}] {job}: {told}", flush=True)

    run_in_processes(run, missing, n_processes, note)
    return failures


def runs_by_label(jobs: Sequence[Job], file: RunFile) -> dict[str, list[dict[str, Any]]]:
    """The lines of those of the jobs that are finished, by label."""
    done = {identity(run): run for run in file.read()}
    found: dict[str, list[dict[str, Any]]] = {}
    for job in jobs:
        described = job.described()
        if identity(described) in done:
            found.setdefault(job.contender.label, []).append(done[identity(described)] | described)
    return found
