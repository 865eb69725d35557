"""Measures the time that prioritised replay takes, and the updates that it saves where rewards are rare.

    python benchmarks/prioritized.py

Writes ``results/prioritized.json``: milliseconds to add, and to sample a batch and return its errors, against SB3's
uniform buffer; and the updates that Q-learning needs on the blind cliffwalk of Schaul et al. 2016,
https://arxiv.org/abs/1511.05952: n states in a row, two actions, the wrong one ends the episode, a reward of 1 at the
end. The buffer holds every sequence of n actions once, 2^(n+1) - 2 transitions, one with a reward. GSAC is trained on the
same walk after random steps, until its mode walks it, and on CartPole-v1, where nothing is rare.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import gymnasium
import numpy as np
import studies
import timing
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from gsac import GSAC, PrioritizedReplayBuffer

RESULTS = studies.RESULTS / "prioritized.json"
SIZES, BATCH = (10_000, 100_000, 1_000_000), 128
ROUNDS, SECONDS_A_TURN = 7, 0.02
LENGTHS, SEEDS = (4, 6, 8, 10), range(5)
CLIFFWALK_BATCH, STEP, MOST_UPDATES = 16, 1.0, 200_000
GSAC_LENGTH, RANDOM_STEPS, STEPS = 11, 10_000, 16_000
CARTPOLE_STEPS = 15_000
Settings = dict[str, Any] | None
"""Of the prioritised buffer; None for SB3's uniform one."""

BUFFERS: dict[str, Settings] = {
    "uniform": None,
    "prioritized, beta 0": {"alpha": 0.6, "beta": 0.0},
    "prioritized, beta 0.4": {"alpha": 0.6, "beta": 0.4},
    "prioritized, beta 1": {"alpha": 0.6, "beta": 1.0},
}
DEFAULT = {"alpha": 0.6, "beta": "linear:0.4:1"}


def make(size: int, observations: spaces.Space, actions: spaces.Space, settings: Settings):
    kind = ReplayBuffer if settings is None else PrioritizedReplayBuffer
    return kind(size, observations, actions, device="cpu", **(settings or {}))


def costs(size: int) -> dict[str, dict[str, float]]:
    """Times adding to and sampling from a full buffer: median milliseconds."""
    rng = np.random.default_rng(0)
    transition = (np.zeros((1, 8), np.float32),) * 2 + (np.zeros((1, 1), np.int64), np.zeros(1), np.zeros(1), [{}])
    buffers = {}
    for name in ("uniform", "prioritized, beta 0.4"):
        buffer = make(size, spaces.Box(-1, 1, (8,), np.float32), spaces.Discrete(4), BUFFERS[name])
        buffer.observations[:] = 0.0  # memory that was never written is read faster
        buffer.next_observations[:] = 0.0
        buffer.full = True
        if isinstance(buffer, PrioritizedReplayBuffer):
            buffer.sum_tree[np.arange(size)] = rng.exponential(size=size)
        buffers[name.split(",")[0]] = buffer
    errors = rng.exponential(size=BATCH).astype(np.float32)

    def add(buffer: ReplayBuffer) -> None:
        buffer.add(*transition)

    def sample(buffer: ReplayBuffer) -> None:
        samples = buffer.sample(BATCH)
        if isinstance(buffer, PrioritizedReplayBuffer):
            buffer.update_priorities(samples.indices, errors)

    tasks = {
        (name, task.__name__): timing.repeated(partial(task, buffer))
        for name, buffer in buffers.items()
        for task in (add, sample)
    }
    seconds = timing.in_turn(tasks, time.process_time, ROUNDS, SECONDS_A_TURN)
    return {
        name: {what: round(1000 * statistics.median(seconds[name, what]), 4) for what in ("add", "sample")}
        for name in buffers
    }


def cliffwalk(n: int, settings: Settings, seed: int) -> int | None:
    """Counts the batches until the mean squared error of Q is below 0.001; None if it never is."""
    np.random.seed(seed)
    rng = np.random.default_rng(seed)
    gamma = 1 - 1 / n
    right = np.arange(n) % 2
    buffer = make(2 ** (n + 1) - 2, spaces.Discrete(n + 1), spaces.Discrete(2), settings)
    walks = set()
    for actions in product((0, 1), repeat=n):
        wrong = next((i for i in range(n) if actions[i] != right[i]), n - 1)
        walks.add(actions[: wrong + 1])
    counts = {walk: 2 ** (n - len(walk)) for walk in walks}  # a walk that ends early is that of many sequences
    for walk, count in counts.items():
        for _ in range(count):
            for state, action in enumerate(walk):
                good = action == right[state]
                goal = good and state == n - 1
                done = goal or not good
                add = (np.array([state]), np.array([state + 1]), np.array([[action]]))
                buffer.add(*add, np.array([float(goal)]), np.array([done]), [{}])
    q, true = rng.normal(0, 0.1, (n + 1, 2)), np.zeros((n + 1, 2))
    true[np.arange(n), right] = gamma ** np.arange(n - 1, -1, -1.0)
    for update in range(1, MOST_UPDATES + 1):
        samples = buffer.sample(CLIFFWALK_BATCH)
        states, actions, following = (
            x.long().flatten().numpy() for x in (samples.observations, samples.actions, samples.next_observations)
        )
        discounts = gamma * (1 - samples.dones.flatten().numpy())
        errors = samples.rewards.flatten().numpy() + discounts * q[following].max(1) - q[states, actions]
        weights = 1.0
        if isinstance(buffer, PrioritizedReplayBuffer):
            weights = samples.weights.numpy()
            buffer.update_priorities(samples.indices, errors)
        np.add.at(q, (states, actions), STEP * weights * errors / CLIFFWALK_BATCH)
        if np.square(q - true)[:n].mean() < 1e-3:
            return update
    return None


class Cliffwalk(gymnasium.Env):
    """The walk of :func:`cliffwalk` as an environment. The state is observed as a one-hot."""

    observation_space = spaces.Box(0, 1, (GSAC_LENGTH,), np.float32)
    action_space = spaces.Discrete(2)
    states = np.eye(GSAC_LENGTH, dtype=np.float32)
    right = np.arange(GSAC_LENGTH) % 2

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = 0
        return self.states[0], {}

    def step(self, action):
        good = action == self.right[self.state]
        goal = bool(good and self.state == GSAC_LENGTH - 1)
        self.state = min(self.state + 1, GSAC_LENGTH - 1)
        return self.states[self.state], float(goal), goal or not good, False, {}


class UntilWalked(BaseCallback):
    updates: int | None = None

    def _on_step(self) -> bool:
        if self.num_timesteps % 10 == 0 and self.model._n_updates > 0:
            actions, _ = self.model.predict(Cliffwalk.states, deterministic=True)
            if (actions == Cliffwalk.right).all():
                self.updates = self.model._n_updates
        return self.updates is None


def train(env: gymnasium.Env | str, settings: Settings, seed: int, **arguments: Any) -> GSAC:
    if settings is not None:
        arguments |= {"replay_buffer_class": PrioritizedReplayBuffer, "replay_buffer_kwargs": settings}
    arguments |= {"seed": seed, "device": "cpu", "buffer_size": 20_000}
    return GSAC("MlpPolicy", env, **studies.PLAIN | arguments)


def gsac_cliffwalk(settings: Settings, seed: int) -> int | None:
    """Counts the updates until the deterministic policy walks to the end; None if it never does."""
    callback = UntilWalked()
    train(Cliffwalk(), settings, seed, learning_starts=RANDOM_STEPS).learn(STEPS, callback)
    return callback.updates


def cartpole(settings: Settings, seed: int) -> dict[str, float]:
    start = time.process_time()
    model = train("CartPole-v1", settings, seed).learn(CARTPOLE_STEPS)
    seconds = time.process_time() - start
    mean, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=20)
    return {"return": round(float(mean), 2), "seconds": round(seconds, 1)}


def cost_table() -> str:
    return studies.table(
        {
            "transitions stored": f"{int(size):,}",
            "uniform: add, ms": f"{cost['uniform']['add']:.3f}",
            "sample, ms": f"{cost['uniform']['sample']:.3f}",
            "prioritised: add, ms": f"{cost['prioritized']['add']:.3f}",
            "sample and return errors, ms": f"{cost['prioritized']['sample']:.3f}",
        }
        for size, cost in studies.read(RESULTS.name)["cost_ms"].items()
    )


def cliffwalk_table() -> str:
    return studies.table(
        {"states": n, "transitions": f"{2 ** (int(n) + 1) - 2:,}"} | {name: _cell(updates[name]) for name in BUFFERS}
        for n, updates in studies.read(RESULTS.name)["cliffwalk"].items()
    )


def gsac_table() -> str:
    result, rows = studies.read(RESULTS.name), []
    for name, updates in result["gsac_cliffwalk"].items():
        runs = result["cartpole"][name]
        rows.append(
            {
                "replay": name,
                "cliffwalk: updates, seeds 0 to 4": ", ".join("never" if n is None else str(n) for n in updates),
                "CartPole-v1: return at the end, seeds 0 to 4": ", ".join(f"{run['return']:.4g}" for run in runs),
                "CPU seconds a run": f"{statistics.mean(run['seconds'] for run in runs):.0f}",
            }
        )
    return studies.table(rows)


def _cell(updates: list[int | None]) -> str:
    finished = [n for n in updates if n is not None]
    missing = f", {len(updates) - len(finished)} never" if len(finished) < len(updates) else ""
    return (f"{statistics.median(finished):,.0f}" if finished else "") + missing


def main() -> None:
    torch.set_num_threads(1)
    both = {"uniform": None, "prioritized": DEFAULT}
    result: dict[str, Any] = {
        "settings": f"batch {BATCH}, one thread, CPU time; cliffwalk: batch {CLIFFWALK_BATCH}, step size {STEP}; GSAC: "
        f"samples of the policy alone, alpha and beta {DEFAULT} where prioritized, {GSAC_LENGTH} states, "
        f"{RANDOM_STEPS} random steps",
        "machine": timing.machine("cpu"),
        "cost_ms": {size: costs(size) for size in SIZES},
        "cliffwalk": {n: on_each_seed(partial(cliffwalk, n), BUFFERS) for n in LENGTHS},
        "gsac_cliffwalk": on_each_seed(gsac_cliffwalk, both),
        "cartpole": on_each_seed(cartpole, both),
    }
    studies.write(RESULTS, result)


def on_each_seed(measure: Callable[[Settings, int], Any], buffers: dict[str, Settings]) -> dict[str, list[Any]]:
    return {name: [measure(settings, seed) for seed in SEEDS] for name, settings in buffers.items()}


if __name__ == "__main__":
    main()
