"""The runs of ``test_checkpoint.py``, and as a program the process in which they go on.

python tests/resumed_runs.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gsac import GSAC, Checkpoint, DeviceReplayBuffer, PrioritizedReplayBuffer, resume

STEPS, STOP = 280, 140
SETTINGS = {"learning_starts": 60, "batch_size": 16, "buffer_size": 1600, "seed": 3, "device": "cpu"}


class Marked(gymnasium.Env):
    """An episode of random length, a reward for the shown class; its own generator decides everything."""

    observation_space = spaces.Box(-1, 1, (6,), np.float32)

    def __init__(self, action_space=None):
        self.action_space = action_space or spaces.MultiDiscrete([3, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action):
        reward = float(self.observation[int(np.sum(action))])
        ends = self.np_random.random(2) < (0.05, 0.05)
        return self._observe(), reward, bool(ends[0]), bool(ends[1]), {}

    def _observe(self):
        self.observation = self.np_random.uniform(-1, 1, 6).astype(np.float32)
        return self.observation


class MaskedMarked(Marked):
    def action_masks(self):
        return np.array([self.observation[0] > 0, True, True, self.observation[1] > 0, True])


RUNS = {
    "plain": (Marked, {}),
    "stopped before learning": (Marked, {"learning_starts": 200}),
    "n-step": (Marked, {"n_steps": 3}),
    "prioritised": (Marked, {"n_steps": 2, "replay_buffer_class": PrioritizedReplayBuffer}),
    "device": (Marked, {"n_steps": 2, "replay_buffer_class": DeviceReplayBuffer, "buffer_size": 400}),
    "schedules": (
        Marked,
        {"learning_rate": "linear:1e-2:1e-4", "temperature": "cosine:1:0.1", "target_entropy": "linear:0.9:0.2"},
    ),
    "memory": (Marked, {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}),
    "masks": (MaskedMarked, {}),
    "exploration": (
        MaskedMarked,
        {"noise_duration": 8.0, "epsilon": "linear:0.5:0.1", "target": "mode"},
    ),
    "normalised": (Marked, {}),
    "full buffer": (Marked, {"buffer_size": 120}),
    "fixed coefficient": (Marked, {"ent_coef": 0.1, "train_freq": (1, "episode")}),
    "falling coefficient": (Marked, {"ent_coef": "linear:0.2:0.02"}),
    "hindsight": (lambda: BitFlippingEnv(n_bits=4, max_steps=7), {"replay_buffer_class": HerReplayBuffer}),
}


def make_env(name, n_envs):
    if name == "fixed coefficient":
        n_envs = 1  # SB3 trains after episodes with one environment only
    env = DummyVecEnv([lambda: Monitor(RUNS[name][0]())] * n_envs)
    return VecNormalize(env) if name == "normalised" else env


def make_model(name, n_envs):
    policy = "MultiInputPolicy" if name == "hindsight" else "MlpPolicy"
    return GSAC(policy, make_env(name, n_envs), **(SETTINGS | RUNS[name][1]))


class Actions(BaseCallback):
    """What was sent to the environments."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_step(self):
        self.seen.append(self.locals["actions"].copy())
        return True


class OnTheWay(Checkpoint):
    """Without the last one, at the end."""

    def _on_training_end(self):
        pass


def outcome(model, further_steps=1000):
    """Everything that must be equal: weights, optimisers, coefficient, buffer, and the next actions."""
    found = [value.detach().clone() for value in model.policy.state_dict().values()]
    optimizers = [model.actor.optimizer, model.critic.optimizer]
    if model.ent_coef_optimizer is not None:
        optimizers.append(model.ent_coef_optimizer)
        found.append(model.log_ent_coef.detach().clone())
    for optimizer in optimizers:
        found += [value.clone() for state in optimizer.state.values() for value in state.values()]
        found.append(torch.tensor(optimizer.param_groups[0]["lr"]))
    found += [
        torch.tensor(np.asarray(model.replay_buffer.actions)),
        torch.tensor(np.asarray(model.replay_buffer.rewards)),
    ]
    found.append(torch.tensor([model.num_timesteps, model._n_updates, model._episode_num]))
    actions = Actions()
    model.train_freq, model.gradient_steps = TrainFreq(16, TrainFrequencyUnit.STEP), 1
    model.learn(further_steps, callback=actions, reset_num_timesteps=False)
    return [*found, torch.as_tensor(np.stack(actions.seen))]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for file in sorted(folder.glob("*.ckpt")):
        name, n_envs = file.stem.rsplit("_", 1)
        model = resume(file, make_env(name, int(n_envs)), device="cpu")
        assert model.num_timesteps < STEPS
        model.learn(model.remaining_timesteps, reset_num_timesteps=False)
        torch.save(outcome(model), file.with_suffix(".resumed"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
