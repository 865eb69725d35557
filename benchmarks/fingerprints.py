"""Prints a SHA-256 of the weights that short runs end with, to show that a change left the training as it was.

    python benchmarks/fingerprints.py > before.txt    # on the commit before
    python benchmarks/fingerprints.py | diff before.txt -

Each line is a configuration and the digest of all weights after 600 steps with seed 0, on one thread. Equal digests mean
weights that are equal bit for bit; between machines they differ.
"""

import argparse
import hashlib
from functools import partial

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.vec_env import VecNormalize

from gsac import GSAC, REINFORCE, PrioritizedReplayBuffer
from gsac.algorithms.arguments import BASELINES
from gsac.networks.heads import HEADS

STEPS = 600
PLAIN = {"noise_duration": 1, "epsilon": 0, "target": "mean", "target_entropy": "auto_0.3"}


class Cells(gymnasium.Env):
    """Counts the entries of an action that equal the observed ones; with masks, the class before each is forbidden."""

    def __init__(self, action_space, masked=False):
        self.action_space = action_space
        sizes = getattr(action_space, "nvec", None)
        self.sizes = np.array([action_space.n]) if sizes is None else sizes
        self.observation_space = spaces.Box(0, 1, (len(self.sizes),), np.float32)
        if masked:
            self.action_masks = self._masks

    def _masks(self):
        allowed = [np.arange(size) != (wanted - 1) % size for size, wanted in zip(self.sizes, self.wanted, strict=True)]
        return np.concatenate(allowed)

    def _observation(self):
        self.wanted = self.np_random.integers(self.sizes)
        return (self.wanted / self.sizes).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observation(), {}

    def step(self, action):
        self.steps += 1
        reward = float((np.atleast_1d(action) == self.wanted).sum())
        return self._observation(), reward, self.steps % 11 == 10, self.steps == 25, {}


def gsac(env="CartPole-v1", policy="MlpPolicy", **arguments):
    return GSAC(policy, env, **{"seed": 0, "learning_starts": 100, "batch_size": 32} | arguments)


def images():
    env = FakeImageEnv(screen_height=36, screen_width=36, discrete=True)
    env.observation_space.seed(0)  # from which its images are drawn
    return env


def vectors(env, n_envs=1, normalize=False):
    made = make_vec_env(env, n_envs, seed=0)
    return VecNormalize(made) if normalize else made


CONFIGURATIONS = {
    "defaults": lambda: gsac(),
    "plain": lambda: gsac(**PLAIN),
    "target soft, bounded": lambda: gsac(target="soft", bound_targets=True, q_aggregation="mean"),
    **{f"head {head}": partial(gsac, policy_kwargs={"critic_head": head}) for head in HEADS},
    "MultiDiscrete, gumbel_softmax": lambda: gsac(Cells(spaces.MultiDiscrete([2, 3, 4])), estimator="gumbel_softmax"),
    "MultiDiscrete, rloo": lambda: gsac(Cells(spaces.MultiDiscrete([2, 3, 4])), estimator="rloo"),
    "estimator on a schedule": lambda: gsac(
        estimator="mixed:rho=linear:1:0", temperature="cosine:1:0.1", ent_coef="linear:0.2:0.02"
    ),
    "masks": lambda: gsac(Cells(spaces.Discrete(5), masked=True)),
    "masks, plain, MultiDiscrete": lambda: gsac(Cells(spaces.MultiDiscrete([3, 4]), masked=True), **PLAIN),
    "n-step": lambda: gsac(n_steps=3),
    "prioritised": lambda: gsac(replay_buffer_class=PrioritizedReplayBuffer, n_steps=2),
    "hindsight": lambda: gsac(
        BitFlippingEnv(n_bits=4, continuous=False), "MultiInputPolicy", replay_buffer_class=HerReplayBuffer
    ),
    "memory-optimised": lambda: gsac(
        optimize_memory_usage=True, replay_buffer_kwargs={"handle_timeout_termination": False}, buffer_size=300
    ),
    "images": lambda: gsac(images(), "CnnPolicy", buffer_size=700, gradient_steps=1, train_freq=8),
    "dictionaries": lambda: gsac(
        SimpleMultiObsEnv(), "MultiInputPolicy", buffer_size=700, train_freq=8, gradient_steps=2
    ),
    "four environments": lambda: gsac(vectors("CartPole-v1", 4), target_update_interval=3),
    "VecNormalize": lambda: gsac(vectors("CartPole-v1", 2, normalize=True)),
    **{
        f"REINFORCE, {baseline}": partial(REINFORCE, "MlpPolicy", "CartPole-v1", baseline=baseline, seed=0)
        for baseline in BASELINES
    },
}


def fingerprint(model):
    digest = hashlib.sha256()
    tensors = dict(model.policy.state_dict())
    if getattr(model, "log_ent_coef", None) is not None:
        tensors["log_ent_coef"] = model.log_ent_coef
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    for name, make in CONFIGURATIONS.items():
        print(f"{name}: {fingerprint(make().learn(STEPS))}", flush=True)


if __name__ == "__main__":
    main()
