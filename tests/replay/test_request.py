"""Which replay buffer is built, for each request."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer

from gsac import DeviceReplayBuffer, PrioritizedReplayBuffer
from gsac.replay import request
from gsac.replay.request import BufferRequest

VECTORS = spaces.Box(-1, 1, (4,))
WANTED = BufferRequest(
    kind=None,
    buffer_size=1000,
    observation_space=VECTORS,
    action_space=spaces.Discrete(2),
    device=torch.device("cpu"),
    n_envs=1,
    optimize_memory_usage=False,
    n_steps=1,
    gamma=0.9,
)


def test_we_pick_a_buffer_on_the_gpu_if_it_takes_no_more_than_half_of_what_is_free(monkeypatch, capsys):
    def fits(free, device="cuda", verbose=1, stays_on_host=False, **changes):
        monkeypatch.setattr(request, "free_bytes", lambda device: free)
        wanted = dataclasses.replace(WANTED, device=torch.device(device), **changes)
        return wanted.resolved(stays_on_host, verbose).kind is DeviceReplayBuffer

    assert fits(104_000)  # twice 1000 * (2 * 4 * 4 + 8 + 12) bytes
    assert capsys.readouterr().out == ""
    assert not fits(103_998)
    said = capsys.readouterr().out
    assert "The replay buffer stays on the host: 1,000 transitions take 0.00 GB, more than half of the 0.00 GB" in said
    assert said.count("\n") == 1
    assert not fits(103_998, verbose=0)
    assert fits(0, device="cpu")
    assert not fits(10**9, device="meta")
    assert not fits(10**9, stays_on_host=True)
    assert capsys.readouterr().out == ""
    with_masks = spaces.Box(-np.inf, np.inf, (4 + 5,), np.float32)
    assert not fits(184_000 - 2, observation_space=with_masks)  # twice 1000 * (2 * 9 * 4 + 8 + 12)
    assert fits(184_000, observation_space=with_masks)
    assert fits(72_000, optimize_memory_usage=True)
    assert not fits(71_998, optimize_memory_usage=True)


@pytest.mark.parametrize(
    ("device", "n_steps", "space", "kind"),
    [
        ("cpu", 1, VECTORS, DeviceReplayBuffer),
        ("cpu", 3, VECTORS, NStepReplayBuffer),
        ("cpu", 3, spaces.Dict({"o": VECTORS}), DeviceReplayBuffer),
        ("meta", 1, VECTORS, ReplayBuffer),
        ("meta", 3, VECTORS, NStepReplayBuffer),
        ("meta", 1, spaces.Dict({"o": VECTORS}), DictReplayBuffer),
    ],
)
def test_the_class_that_we_pick(device, n_steps, space, kind):
    wanted = dataclasses.replace(WANTED, device=torch.device(device), n_steps=n_steps, observation_space=space)
    assert wanted.resolved().kind is kind


def test_n_steps_reach_our_own_classes_and_sb3s_where_we_picked_it():
    wanted = dataclasses.replace(WANTED, n_steps=3)
    for kind in (DeviceReplayBuffer, PrioritizedReplayBuffer):
        buffer = dataclasses.replace(wanted, kind=kind).build(None)
        assert (buffer.n_steps, buffer.gamma) == (3, 0.9)
    picked = wanted.resolved().build(None)
    assert (type(picked), picked.n_steps, picked.gamma) == (NStepReplayBuffer, 3, 0.9)
    chosen = dataclasses.replace(wanted, kind=NStepReplayBuffer, kwargs={"n_steps": 2, "gamma": 0.5}).build(None)
    assert (chosen.n_steps, chosen.gamma) == (2, 0.5)
