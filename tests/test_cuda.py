"""On a GPU. Everything else is tested on the CPU, with guards that hold on both."""

import numpy as np
import pytest
import torch
import torch._inductor.config
from environments import Allowed
from gymnasium import spaces
from problems import Match

from gsac import ESTIMATORS, GSAC, DeviceReplayBuffer, PrioritizedReplayBuffer
from gsac.learning.acceleration import WARM_UPS, Captured

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
    assert model.learner.temperature.is_cuda


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_noise_that_lasts_and_targets_without_it_reach_the_device(space):
    settings = {"noise_duration": 1e9, "target": "mode", "learning_rate": 0.0, **QUICK}
    model = GSAC("MlpPolicy", Match(space), device="cuda", **settings).learn(200)
    observations = torch.as_tensor(model.replay_buffer.observations[199, 0], device="cuda")[None]
    classes = model.policy.actor(observations, noise=model.explorer.noise.cuda()).cpu().flatten()
    assert classes.equal(torch.as_tensor(model.replay_buffer.actions[199, 0]).cpu().long().flatten())


def test_updates_without_noise_are_those_of_the_cpu():
    """The exact estimator and an enumerated target draw nothing, so that both devices do the same sums."""
    settings = {"estimator": "expected", "bound_targets": True, **QUICK}
    models = [GSAC("MlpPolicy", Match(SPACES[1]), device="cpu", **settings).learn(100)]
    models.append(GSAC("MlpPolicy", Match(SPACES[1]), device="cuda", **settings))
    models[1].policy.load_state_dict(models[0].policy.state_dict())
    for model in models:
        model.set_logger(models[0].logger)
        model.replay_buffer = models[0].replay_buffer
        model.replay_buffer.device = model.device
        model.set_random_seed(1)
        model.train(20, 32)
    for cpu, cuda in zip(*map(parameters, models), strict=True):
        assert torch.allclose(cpu, cuda, atol=1e-4)
    assert models[0].policy.highest_value > 0
    assert models[1].policy.highest_value.item() == pytest.approx(models[0].policy.highest_value.item())


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


SCHEDULES = {"temperature": "cosine:1:0.1", "target_entropy": "linear:0.8:0.3", "learning_rate": "linear:1e-3:0"}


def filled(acceleration, make_env=lambda: Match(SPACES[1]), **kwargs):
    """A model with transitions that were drawn at random, the same ones in each mode."""
    settings = QUICK | SCHEDULES | {"device": "cuda", "acceleration": acceleration} | kwargs
    return GSAC("MlpPolicy", make_env(), **settings).learn(100)


def train(model, n=200):
    model.set_random_seed(1)
    for update in range(n):
        model._current_progress_remaining = 1 - update / 200
        model.train(1, 32)
    return model


def assert_close(one, other):
    assert one._n_updates == other._n_updates
    for a, b in zip(parameters(one), parameters(other), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)
    assert torch.allclose(one.coefficient.value, other.coefficient.value, rtol=1e-3)
    assert torch.allclose(one.updates.metrics.totals, other.updates.metrics.totals, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("estimator", [*ESTIMATORS, "mixed:rho=linear:1:0"])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_captured_updates_are_the_eager_ones(space, estimator):
    eager, captured = (
        train(filled(each, lambda: Match(space), estimator=estimator)) for each in ("eager", "cudagraph")
    )
    assert captured.updates.captured.reason is None
    assert len(captured.updates.captured._replays) == 1
    assert_close(eager, captured)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"target_update_interval": 2},
        {"n_steps": 3},
        {"ent_coef": "linear:0.2:0.02", "target_entropy": "auto", "max_grad_norm": None},
        {"make_env": lambda: Allowed(SPACES[1], 2)},
        {"policy_kwargs": {"critic_head": "linear"}},
        {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    ],
    ids=["interval", "n-step", "falling coefficient", "masks", "linear", "stored once"],
)
def test_captured_updates_are_the_eager_ones_in_other_settings(kwargs):
    eager, captured = (train(filled(each, **kwargs)) for each in ("eager", "auto"))
    assert captured.updates.captured.reason is None
    assert_close(eager, captured)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_compiled_updates_are_the_eager_ones(estimator):
    with torch._inductor.config.patch(fallback_random=True):
        eager, compiled = (train(filled(each, estimator=estimator)) for each in ("eager", "compile"))
    assert compiled.updates.captured.reason is None
    assert len(compiled.updates.captured._replays) == 1
    assert_close(eager, compiled)


def saved_and_loaded(model, path, device="cuda"):
    model.save(path / "model")
    model.save_replay_buffer(path / "buffer")
    loaded = GSAC.load(path / "model", env=Match(SPACES[1]), device=device)
    loaded.load_replay_buffer(path / "buffer")
    loaded.set_logger(model.logger)
    return loaded


def given_parameters(model, path):
    other = train(filled("eager", seed=1), 10)
    model.set_parameters(other.get_parameters())
    return model


def given_halves(model, path):
    model.policy.load_state_dict({name: value / 2 for name, value in model.policy.state_dict().items()})
    return model


def with_other_numbers(model, path):
    model.gamma, model.tau, model.lr_schedule = 0.5, 0.5, lambda progress: 3e-3
    return model


@pytest.mark.parametrize("intervene", [saved_and_loaded, given_parameters, given_halves, with_other_numbers])
def test_no_graph_outlives_what_it_refers_to(intervene, tmp_path):
    models = [train(intervene(train(filled(each), 50), tmp_path), 50) for each in ("eager", "cudagraph")]
    assert len(models[1].updates.captured._replays) == 1
    assert_close(*models)


def test_captured_updates_go_on_while_transitions_come_in():
    ends = [filled(each).learn(300, reset_num_timesteps=False) for each in ("eager", "cudagraph")]
    assert ends[1].updates.captured.reason is None
    assert ends[0]._n_updates == ends[1]._n_updates
    assert all(parameter.isfinite().all() for parameter in parameters(ends[1]))


@pytest.mark.parametrize("n_updates", [1, 50])
def test_replayed_updates_never_wait_for_the_device(n_updates):
    model = train(filled("cudagraph"), WARM_UPS + 1)
    model.check_losses()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model.train(n_updates, 32)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(model.updates.captured._replays) == 1


def test_a_buffer_on_the_host_falls_back_with_one_warning():
    model = GSAC("MlpPolicy", Match(SPACES[1]), device="cuda", replay_buffer_class=PrioritizedReplayBuffer, **QUICK)
    with pytest.warns(UserWarning, match="PrioritizedReplayBuffer is not on the device") as told:
        model.learn(150)
    assert len([each for each in told if "captured" in str(each.message)]) == 1
    assert model._n_updates == 50


def test_a_capture_that_fails_leaves_the_device_as_it_was():
    """What makes CUDA refuse a capture must neither stop training nor leave another stream or generator behind."""
    values, stream = torch.zeros(3, device="cuda"), torch.cuda.current_stream()

    def update():
        values.add_(torch.empty_like(values).exponential_())
        if torch.cuda.is_current_stream_capturing():
            values.sum().item()

    captured = Captured(update, torch.device("cuda"))
    for _ in range(WARM_UPS):
        captured()
    with pytest.warns(UserWarning, match="not captured as a CUDA graph"):
        captured()
    captured()
    assert torch.cuda.current_stream() == stream
    assert values.min().item() > 0
    assert torch.rand(3, device="cuda").isfinite().all()


def test_learning_rates_follow_a_model_from_device_to_device(tmp_path):
    model = train(filled("cudagraph"), 20)
    assert model.actor.optimizer.param_groups[0]["lr"].is_cuda
    for device in ("cpu", "cuda"):
        model = train(saved_and_loaded(model, tmp_path, device), 20)
        rate = model.actor.optimizer.param_groups[0]["lr"]
        assert not isinstance(rate, torch.Tensor) or rate.device.type == device
        assert float(rate) == pytest.approx(model.logger.name_to_value["train/learning_rate"])
        assert all(parameter.isfinite().all() for parameter in parameters(model))


def test_an_action_space_that_starts_elsewhere_is_encoded_without_a_copy():
    model = filled("cudagraph", lambda: Match(spaces.Discrete(3, start=5)))
    train(model, 10)
    assert model.updates.captured.reason is None
