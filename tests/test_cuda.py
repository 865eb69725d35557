"""On a GPU. Everything else is tested on the CPU, with guards that hold on both."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from problems import Match

from gsac import ESTIMATORS, GSAC, DeviceReplayBuffer

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and PyTorch sees none here"),
]
SPACES = [spaces.Discrete(3, start=1), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(4)]
QUICK = {"learning_starts": 100, "batch_size": 32, "buffer_size": 1000, "seed": 0}


def parameters(model):
    return [parameter.detach().cpu() for parameter in model.policy.parameters()]


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_trains_and_stays_on_the_device(space, estimator):
    model = GSAC("MlpPolicy", Match(space), estimator=estimator, device="cuda", **QUICK).learn(200)
    assert all(parameter.is_cuda and parameter.isfinite().all() for parameter in model.policy.parameters())
    assert model._learner.temperature.is_cuda


def test_updates_without_noise_are_those_of_the_cpu():
    """The exact estimator and an enumerated target draw nothing, so that both devices do the same sums."""
    models = [GSAC("MlpPolicy", Match(SPACES[1]), estimator="expected", device="cpu", **QUICK).learn(100)]
    models.append(GSAC("MlpPolicy", Match(SPACES[1]), estimator="expected", device="cuda", **QUICK))
    models[1].policy.load_state_dict(models[0].policy.state_dict())
    for model in models:
        model.set_logger(models[0].logger)
        model.replay_buffer = models[0].replay_buffer
        model.replay_buffer.device = model.device
        model.set_random_seed(1)
        model.train(20, 32)
    for cpu, cuda in zip(*map(parameters, models), strict=True):
        assert torch.allclose(cpu, cuda, atol=1e-4)


def test_models_move_between_devices(tmp_path):
    model = GSAC("MlpPolicy", Match(SPACES[0]), device="cuda", **QUICK).learn(150)
    model.save(tmp_path / "model")
    moved = GSAC.load(tmp_path / "model", env=Match(SPACES[0]), device="cpu")
    assert all(a.equal(b) for a, b in zip(parameters(model), parameters(moved), strict=True))
    assert moved.learn(150, reset_num_timesteps=False)._n_updates > model._n_updates


def test_weights_move_between_devices(tmp_path):
    model = GSAC("MlpPolicy", Match(SPACES[0]), device="cuda", **QUICK).learn(150)
    model.save_weights(tmp_path / "model")
    for device in ("cpu", "cuda"):
        moved = GSAC.from_weights(tmp_path / "model", Match(SPACES[0]), device=device)
        assert moved.device.type == device
        assert all(a.equal(b) for a, b in zip(parameters(model), parameters(moved), strict=True))
        assert moved.log_ent_coef.item() == model.log_ent_coef.item()
        assert moved.learn(150, reset_num_timesteps=False)._n_updates > model._n_updates


def numbered(buffer, first, last):
    """Adds transitions whose observations and rewards are their numbers; each seventh ends an episode."""
    for number in range(first, last):
        now = np.full((1, 2), number, np.float32)
        ends = np.array([number % 7 == 0])
        infos = [{"TimeLimit.truncated": number % 2 == 0}]
        buffer.add(now, now + 1, np.array([number % 3]), np.array([float(number)]), ends, infos)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_replay_on_the_device_holds_what_it_holds_on_the_cpu(n_steps):
    arguments = (2000, spaces.Box(-1, 1, (2,)), spaces.Discrete(3))
    buffers = [DeviceReplayBuffer(*arguments, device=device, n_steps=n_steps) for device in ("cpu", "cuda")]
    for first, last in ((0, 1), (1, 40), (40, 1900), (1900, 5500)):  # more than may wait, and beyond the ring's end
        samples = []
        for buffer in buffers:
            numbered(buffer, first, last)
            buffer.flush()
            rows = torch.arange(buffer.size(), device=buffer.device)
            samples.append([value.cpu() for value in buffer._get_samples(rows) if value is not None])
        for cpu, cuda in zip(*samples, strict=True):
            assert torch.allclose(cpu, cuda)
    buffers[1].device = torch.device("cpu")
    assert buffers[1].rewards.equal(buffers[0].rewards)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_a_captured_sample_sees_what_was_added_since(n_steps):
    buffer = DeviceReplayBuffer(1000, spaces.Box(-1, 1, (2,)), spaces.Discrete(3), device="cuda", n_steps=n_steps)
    numbered(buffer, 0, 20)
    with torch.cuda.stream(torch.cuda.Stream()):
        buffer.sample(512)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        samples = buffer.sample(512)
    for last, lowest, highest in ((20, 0, 19), (300, 0, 299), (1700, 700, 1699)):
        numbered(buffer, buffer.pos + 1000 * buffer.full, last)
        buffer.flush()
        graph.replay()
        numbers = samples.observations[:, 0]
        assert lowest <= numbers.min().item() <= numbers.max().item() <= highest
        assert numbers.max().item() > highest - (highest - lowest) / 10
        seen = numbers.clone()
        graph.replay()
        assert not samples.observations[:, 0].equal(seen)
    numbered(buffer, 1700, 1701)
    with pytest.raises(RuntimeError, match="call flush"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        buffer.sample(512)


def test_replay_is_on_the_device_where_it_fits():
    model = GSAC("MlpPolicy", Match(SPACES[1]), n_steps=3, device="cuda", **QUICK).learn(150)
    assert type(model.replay_buffer) is DeviceReplayBuffer
    assert model.replay_buffer.rewards.is_cuda
    assert model.sample_batch(32).rewards.is_cuda
    greatest = torch.cuda.mem_get_info()[1] // 60
    large = GSAC("MlpPolicy", Match(SPACES[1]), device="cuda", **(QUICK | {"buffer_size": greatest}))
    assert type(large.replay_buffer) is not DeviceReplayBuffer
    with pytest.raises(ValueError, match=r"bytes .* are free on the device 'cuda'"):
        DeviceReplayBuffer(10 * greatest, large.observation_space, large.action_space, device="cuda")
