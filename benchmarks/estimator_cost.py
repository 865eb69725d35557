"""What a gradient of the actor costs with each estimator, and what local expectation gains from a linear first layer.

    python benchmarks/estimator_cost.py

Writes ``results/estimator_cost.json``: milliseconds of CPU time on one thread, for an actor and two critics with two
hidden layers of 64 and a batch of 128. "Short" are the neighbours' values as the critics compute them, "long" a full
pass for each neighbour. Each figure is the least of several rounds, taken in turn over everything compared.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from functools import partial

import studies
import timing
import torch
from gymnasium import spaces
from problems import Match

from gsac import ESTIMATORS, GSAC
from gsac.estimators import enumerates
from gsac.estimators.base import neighbours
from gsac.functional import losses

RESULTS = studies.RESULTS / "estimator_cost.json"
SPACES = {
    "Discrete(4)": spaces.Discrete(4),
    "MultiDiscrete([4] * 5)": spaces.MultiDiscrete([4] * 5),
    "MultiBinary(40)": spaces.MultiBinary(40),
    "MultiDiscrete([8] * 20)": spaces.MultiDiscrete([8] * 20),
}
NEIGHBOURS = (20, 80, 320, 1280)
"""Columns: in groups of four"""
ROUNDS, SECONDS_A_TURN = 9, 0.05


def cheapest(tasks: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each task: the least over rounds in which they take turns."""

    def repeated(task: Callable[[], object], repetitions: int) -> None:
        for _ in range(repetitions):
            task()

    times = {name: partial(repeated, task) for name, task in tasks.items()}
    seconds = timing.in_turn(times, time.process_time, ROUNDS, SECONDS_A_TURN)
    return {name: round(1000 * min(found), 3) for name, found in seconds.items()}


def gradient(model: GSAC, name: str) -> Callable[[], object]:
    """The actor's gradient on a batch, with the forward passes that it needs."""
    observations = torch.randn(128, *model.observation_space.shape)
    estimator, learner = ESTIMATORS[name], model.learner
    parameters = list(model.actor.parameters())

    def task() -> object:
        policy = model.actor.distribution(observations)
        value = estimator(policy, learner.action_value(observations), learner.temperature)
        loss = losses.actor_loss(value, policy.entropy(), learner.ent_coef)
        return torch.autograd.grad(loss, parameters)

    return task


def estimator_costs() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for space_name, space in SPACES.items():
        for head in ("linear", "action_in"):
            model = GSAC("MlpPolicy", Match(space), policy_kwargs={"critic_head": head}, buffer_size=200, device="cpu")
            n_joint = model.actor.codec.groups.n_joint
            names = [name for name, estimator in ESTIMATORS.items() if not enumerates(estimator) or n_joint <= 1024]
            found = cheapest({name: gradient(model, name) for name in names})
            rows.append({"space": space_name, "head": head, "milliseconds": found})
            print(rows[-1], flush=True)
    return rows


def neighbour_costs() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for columns in NEIGHBOURS:
        space = spaces.MultiDiscrete([4] * (columns // 4))
        for width in (64, 256):
            kwargs = {"critic_head": "action_in", "net_arch": [width, width]}
            model = GSAC("MlpPolicy", Match(space), policy_kwargs=kwargs, buffer_size=200, device="cpu")
            observations = torch.randn(32, *model.observation_space.shape)
            groups = model.actor.codec.groups
            action = groups.one_hot(torch.zeros(32, len(groups), dtype=torch.long))
            with torch.no_grad():
                q = model.learner.action_value(observations)
                found = cheapest(
                    {
                        "short": lambda q=q, action=action, groups=groups: neighbours(q, action, groups),
                        "long": lambda q=q, action=action, groups=groups: neighbours(lambda a: q(a), action, groups),
                    }
                )
            rows.append({"columns": columns, "width": width, "batch": 32, "milliseconds": found})
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result = {
        "estimators": estimator_costs(),
        "neighbours": neighbour_costs(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread, CPU time",
    }
    studies.write(RESULTS, result)


if __name__ == "__main__":
    main()
