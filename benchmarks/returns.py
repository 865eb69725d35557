"""What do the algorithms reach, and how soon? Trains each on each problem and seed, with evaluations at fixed steps.

    python benchmarks/returns.py                      # everything that the report shows; hours
    python benchmarks/returns.py --problems CartPole-v1 Acrobot-v1 --entrants "GSAC, preset" DQN --seeds 0 1 2 3 4
    python benchmarks/returns.py --problems LunarLander-v3 --entrants "GSAC, preset" --seeds 211 748 \
        --variation n_steps=5 --variation gamma=0.995,policy.net_arch=[128;128] --episodes 200 --results search.jsonl
    python benchmarks/returns.py --list

A run is one process on one thread and appends one line to the results, with its whole configuration; a run that stands
there is not run again, and one that was stopped starts anew. An evaluation is 20 whole episodes with the deterministic
policy and 20 with the stochastic one, on seeds that were never used before. ``final`` is the last of them, ``area`` their
mean over the run. Seeds from 100 up are for tuning, those below for reporting. Tuning may ask for more episodes: settings
that are a few per cent apart look the same through 20, as Acrobot-v1's do.

A variation is a list of constructor arguments on top of the entrant's; ``policy.X=Y`` sets ``policy_kwargs[X]``;
``timesteps``, ``n_envs`` and ``env_wrapper`` are settings of the run. The defaults were chosen by such runs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from arena import ENTRANTS, PROBLEMS, Trial, trials
from gymnasium import Env
from returns_rows import RESULTS, identity
from stable_baselines3.common.base_class import BaseAlgorithm
from studies import add_run_options, add_variations, command_line, run_jobs

from gsac.experiments.environments import make_envs
from gsac.experiments.evaluation import AtSteps
from gsac.experiments.runner import Line

EPISODES = 20
EVALUATION_SEEDS = 1_000_000
KINDS = ("deterministic", "stochastic")


def play(model: BaseAlgorithm, envs: Sequence[Env], seed: int, deterministic: bool) -> list[float]:
    """The return of a whole episode in each environment, seeded one after the other.

    It is the return below all wrappers, as ``Monitor`` has it: a wrapper may clip the rewards to train with. An environment
    rests when its episode is over: stepping it on until the longest is done, as vectorised ones do, would cost more than
    training.
    """
    statistics = model.get_vec_normalize_env()
    observations = [env.reset(seed=seed + i)[0] for i, env in enumerate(envs)]
    returns, playing = [0.0] * len(envs), list(range(len(envs)))
    while playing:
        batch = np.stack([observations[i] for i in playing])
        actions, _ = model.predict(
            batch if statistics is None else statistics.normalize_obs(batch), None, None, deterministic
        )
        still = []
        for i, action in zip(playing, actions, strict=True):
            observations[i], _, terminated, truncated, info = envs[i].step(action)
            if terminated or truncated:
                returns[i] = float(info["episode"]["r"])
            else:
                still.append(i)
        playing = still
    return returns


class EvaluateBothWays(AtSteps):
    """Keeps the returns of the deterministic and of the stochastic policy, and the CPU time that they took.

    :param envs: one for each episode
    """

    def __init__(self, steps: Sequence[int], envs: Sequence[Env], seed: int) -> None:
        super().__init__(steps)
        self.envs = envs
        self.next_seed = EVALUATION_SEEDS * (1 + seed) % 2**32  # which is where NumPy's older generator ends
        self.cpu_seconds = 0.0

    def point(self) -> dict[str, Any]:
        """The returns by kind of policy."""
        start = time.process_time()
        returns = {}
        for kind in KINDS:
            returns[kind] = play(self.model, self.envs, self.next_seed, kind == "deterministic")
            self.next_seed += len(self.envs)
        self.cpu_seconds += time.process_time() - start
        return returns


@dataclass(frozen=True)
class Job:
    """A trial with evaluations on the way.

    :param episodes: of each policy in an evaluation; no part of what tells runs apart
    """

    trial: Trial
    episodes: int = EPISODES

    def __str__(self) -> str:
        return str(self.trial)

    def described(self) -> Line:
        """The trial, and how it is evaluated."""
        return self.trial.described() | {"episodes": self.episodes}

    def model(self) -> tuple[BaseAlgorithm, list[Env]]:
        """The model with its environments, and those of its evaluations."""
        model, problem = self.trial.model(), PROBLEMS[self.trial.problem]
        return model, make_envs(problem.env, self.episodes, None, self.trial.entry.env_wrapper).envs

    def run(self) -> Line:
        """Trains and evaluates."""
        model, envs = self.model()
        every, timesteps = PROBLEMS[self.trial.problem].every, self.trial.entry.timesteps
        steps = sorted({*range(every, timesteps, every), timesteps})
        evaluations = EvaluateBothWays(steps, envs, self.trial.seed)
        model.learn(timesteps, callback=evaluations)
        means = {kind: [statistics.fmean(point[kind]) for point in evaluations.curve] for kind in KINDS}
        return {
            "curve": evaluations.curve,
            "final": {kind: means[kind][-1] for kind in KINDS},
            "area": {kind: statistics.fmean(means[kind]) for kind in KINDS},
            "evaluation_seconds": round(evaluations.cpu_seconds, 2),
            "updates": model._n_updates,
        }


def summary(line: Line) -> str:
    """The returns at the end, and those on the way in brackets."""
    curve = " ".join(f"{statistics.fmean(point['deterministic']):.4g}" for point in line["curve"])
    return f"{line['final']} ({curve})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(__doc__)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), metavar="PROBLEM")
    parser.add_argument("--entrants", nargs="+", choices=ENTRANTS, metavar="ENTRANT")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="of each policy in an evaluation")
    parser.add_argument("--list", action="store_true", help="print problems and entrants, and stop")
    add_variations(parser)
    add_run_options(parser, RESULTS)
    args = parser.parse_args(arguments)
    if args.episodes < 1:
        parser.error(
            f"--episodes {args.episodes} plays nothing: pass a whole number of at least 1, such as {EPISODES}."
        )
    if args.list:
        print("\n".join([*PROBLEMS, "", *ENTRANTS]))
        return
    chosen = trials(args.problems, args.entrants, args.seeds, args.variation or [""])
    run_jobs([Job(trial, args.episodes) for trial in chosen], args, identity, summary)


if __name__ == "__main__":
    main()
