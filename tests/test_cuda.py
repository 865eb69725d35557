"""On a GPU. Everything else is tested on the CPU, with guards that hold on both."""

import pytest
import torch
from gymnasium import spaces
from problems import Match

from gsac import ESTIMATORS, GSAC

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
