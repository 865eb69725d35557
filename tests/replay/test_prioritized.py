import pickle

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gsac import Cosine, Linear, PrioritizedDictReplayBuffer, PrioritizedReplayBuffer
from gsac.functional import losses

OBSERVATIONS = spaces.Box(-1000, 1000, (2,), np.float32)
DICTIONARY = spaces.Dict({"a": OBSERVATIONS, "b": spaces.Discrete(50)})
ACTIONS = spaces.MultiDiscrete([3, 2])
EPSILON = 1e-6


def make(size=12, n_envs=1, kind=PrioritizedReplayBuffer, observations=OBSERVATIONS, **kwargs):
    return kind(size, observations, ACTIONS, device="cpu", n_envs=n_envs, **kwargs)


def fill(buffer, n, seed=0):
    """Random transitions, a fifth of them terminated and a fifth cut off; observation 0 tells step and environment."""
    rng = np.random.default_rng(seed)

    def observe(step):
        vector = np.stack([[100 * step + env, rng.normal()] for env in range(buffer.n_envs)]).astype(np.float32)
        if isinstance(buffer.observation_space, spaces.Dict):
            return {"a": vector, "b": np.full(buffer.n_envs, step)}
        return vector

    now = observe(0)
    for step in range(n):
        then = observe(step + 1)
        kinds = rng.integers(5, size=buffer.n_envs)
        infos = [{"TimeLimit.truncated": bool(kind == 1)} for kind in kinds]
        actions = rng.integers([3, 2], size=(buffer.n_envs, 2))
        buffer.add(now, then, actions, rng.normal(size=buffer.n_envs), kinds < 2, infos)
        now = then
    return buffer


def same(ours, theirs):
    for name in ("observations", "actions", "next_observations", "dones", "rewards"):
        a, b = getattr(ours, name), getattr(theirs, name)
        for x, y in zip(a.values(), b.values(), strict=True) if isinstance(a, dict) else [(a, b)]:
            assert x.dtype == y.dtype, name
            assert x.shape == y.shape, name
            assert x.equal(y), name


def at_indices(buffer, steps, envs, env=None):
    """SB3's own samples of these steps and environments, which it would draw itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "randint", lambda *args, **kwargs: envs)
        return buffer._get_samples(steps, env)


@pytest.mark.parametrize("added", [7, 12, 30], ids=["part", "full", "wrapped"])
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 5])
@pytest.mark.parametrize("normalised", [False, True])
def test_samples_are_those_of_sb3s_buffers(added, n_envs, n_steps, normalised):
    env = None
    if normalised:
        env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
        env.obs_rms = type(env.obs_rms)(shape=(2,))
        env.obs_rms.update(np.random.default_rng(0).normal(size=(50, 2)) * 7)
        env.ret_rms.update(np.arange(5.0))
    sb3 = make(12 * n_envs, n_envs, NStepReplayBuffer, n_steps=n_steps, gamma=0.9)
    ours = make(12 * n_envs, n_envs, n_steps=n_steps, gamma=0.9)
    fill(sb3, added)
    fill(ours, added)
    samples = ours.sample(200, env)
    theirs = at_indices(sb3, *np.divmod(samples.indices, n_envs), env)
    same(samples, theirs)
    assert samples.discounts is None if n_steps == 1 else samples.discounts.equal(theirs.discounts)
    assert set(samples.indices) == set(range(min(added, 12) * n_envs))
    assert samples.weights.equal(torch.ones(200))


@pytest.mark.parametrize("added", [4, 12, 30])
def test_dictionaries_are_sampled_as_by_sb3(added):
    sb3 = fill(make(24, 2, DictReplayBuffer, DICTIONARY), added)
    ours = fill(make(24, 2, PrioritizedDictReplayBuffer, DICTIONARY), added)
    samples = ours.sample(100)
    same(samples, at_indices(sb3, *np.divmod(samples.indices, 2)))
    n_step = fill(make(24, 2, PrioritizedDictReplayBuffer, DICTIONARY, n_steps=3), added).sample(100)
    flat = fill(make(24, 2, n_steps=3), added)._get_samples(n_step.indices)
    assert n_step.rewards.equal(flat.rewards)
    assert n_step.next_observations["a"][:, 0].equal(flat.next_observations[:, 0])


@pytest.mark.parametrize("added", [5, 12, 31])
def test_with_observations_stored_once_the_overwritten_one_is_never_drawn(added):
    settings = {"optimize_memory_usage": True, "handle_timeout_termination": False}
    ours, sb3 = (fill(make(24, 2, kind, **settings), added) for kind in (PrioritizedReplayBuffer, ReplayBuffer))
    ours.update_priorities(np.arange(24), np.full(24, 50.0))  # does not bring it back
    samples = ours.sample(300)
    steps, envs = np.divmod(samples.indices, 2)
    same(samples, at_indices(sb3, steps, envs))
    expected = set(range(added)) if added < 12 else set(range(12)) - {added % 12}
    assert set(steps) == expected


def test_frequencies_are_proportional_to_the_priorities_power():
    np.random.seed(0)
    buffer = fill(make(20, 2, alpha=0.7), 10)
    errors = np.random.default_rng(0).normal(size=20) * 3
    buffer.update_priorities(np.arange(20), errors)
    chances = (np.abs(errors) + EPSILON) ** 0.7
    assert np.allclose(buffer.sum_tree[:], chances)
    counts = np.bincount(np.concatenate([buffer.sample(64).indices for _ in range(300)]), minlength=20)
    expected, uniform = counts.sum() * chances / chances.sum(), counts.mean()
    assert ((counts - expected) ** 2 / expected).sum() < 43.8  # one in a thousand, 19 degrees of freedom
    assert ((counts - uniform) ** 2 / uniform).sum() > 1000


def test_importance_weights_by_hand():
    buffer = fill(make(4, alpha=1.0, beta=0.5, epsilon=1e-12), 4)
    buffer.update_priorities(np.arange(4), np.array([1.0, 2.0, 4.0, 9.0]))
    # chances 1/16, 2/16, 4/16, 9/16; (4 chance)^-0.5 = 2, 1.414, 1, 0.667, over the batch's greatest
    assert buffer._get_samples(np.array([0, 1, 2, 3])).weights.tolist() == pytest.approx([1, 0.5**0.5, 0.5, 1 / 3])
    assert buffer._get_samples(np.array([2, 3, 3])).weights.tolist() == pytest.approx([1, 2 / 3, 2 / 3])
    buffer.beta = 0.0
    assert buffer._get_samples(np.arange(4)).weights.tolist() == [1, 1, 1, 1]


def gradients(buffer, samples, theta, weights):
    """Of half the squared error of theta . observation against the reward."""
    theta = theta.clone().requires_grad_()
    values = (samples.observations / 100 @ theta)[None]
    return torch.autograd.grad(losses.critic_loss(values, samples.rewards[:, 0], weights), theta)[0]


def test_with_full_correction_the_losss_gradient_is_that_of_uniform_replay_on_average():
    np.random.seed(0)
    theta = torch.tensor([0.3, -0.2])
    buffer = fill(make(alpha=0.8, beta=1.0), 12)
    uniform = gradients(buffer, buffer._get_samples(np.arange(12)), theta, None)
    buffer.update_priorities(np.arange(12), np.random.default_rng(3).exponential(size=12) * 4)
    found = {"weighted": [], "unweighted": []}
    for _ in range(3000):
        samples = buffer.sample(4)
        # The batch's greatest weight, by which the buffer divided
        greatest = buffer.sum_tree.total / (12 * buffer.sum_tree[samples.indices].min())
        found["weighted"].append(greatest * gradients(buffer, samples, theta, samples.weights))
        found["unweighted"].append(gradients(buffer, samples, theta, None))
    errors = {}
    for name, each in found.items():
        each = torch.stack(each)
        errors[name] = ((each.mean(0) - uniform) / (each.std(0) / 3000**0.5)).abs().max().item()
    assert errors["weighted"] < 4
    assert errors["unweighted"] > 10


def test_new_transitions_get_the_greatest_priority_so_far_also_where_they_overwrite():
    buffer = fill(make(8, 2, alpha=0.5), 3)
    assert buffer.sum_tree[:].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    buffer.update_priorities(np.array([1, 4]), np.array([-9.0, 0.25]))
    buffer.update_priorities(np.array([1]), np.array([0.0]))
    fill(buffer, 2, seed=1)  # the last step, and the first anew
    top = (9 + EPSILON) ** 0.5
    expected = [top, top, 1, 1, (0.25 + EPSILON) ** 0.5, 1, top, top]
    assert buffer.sum_tree[:] == pytest.approx(expected)
    buffer.reset()
    assert buffer.sum_tree.total == 0
    assert buffer.max_priority == 1
    with pytest.raises(ValueError, match=r"nothing to sample: add\(\)"):
        buffer.sample(1)


def test_an_error_of_zero_can_still_be_drawn():
    buffer = fill(make(2, alpha=1.0, epsilon=0.5), 2)
    buffer.update_priorities(np.array([0, 1]), np.array([0.0, 0.5]))
    assert buffer.sum_tree[:].tolist() == [0.5, 1.0]


def test_pickling_keeps_priorities_and_beta():
    buffer = fill(make(n_envs=2, beta=Cosine(0.2, 0.9)), 5)
    buffer.update_priorities(np.arange(4), np.arange(4) * 3.0)
    buffer.beta = 0.6
    copy = pickle.loads(pickle.dumps(buffer))
    assert np.array_equal(copy.sum_tree[:], buffer.sum_tree[:])
    assert (copy.beta, copy.beta_schedule, copy.max_priority) == (0.6, Cosine(0.2, 0.9), buffer.max_priority)
    for each in (buffer, copy):
        fill(each, 3, seed=2)
        np.random.seed(5)
        each.drawn = each.sample(30)
    same(copy.drawn, buffer.drawn)
    assert copy.drawn.weights.equal(buffer.drawn.weights)


@pytest.mark.parametrize(
    ("given", "start"), [(0.4, 0.4), (1, 1.0), ("linear:0.4:1", 0.4), (Linear(0.3, 1.0, updates=5), 0.3)]
)
def test_beta_starts_where_its_schedule_does(given, start):
    assert make(beta=given).beta == pytest.approx(start)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": -0.1}, ValueError, r"alpha=-0.1 is out of range: pass a number within \[0, 1\], such as alpha=0.6"),
        ({"alpha": float("nan")}, ValueError, "alpha=nan is out of range"),
        ({"alpha": "high"}, TypeError, "alpha='high' is not a number"),
        ({"alpha": True}, TypeError, "alpha=True is not a number"),
        ({"beta": 1.1}, ValueError, r"beta=1.1 is out of range: .* such as beta='linear:0.4:1'"),
        (
            {"beta": "linear:0.4:1.5"},
            ValueError,
            "beta='linear:0.4:1.5', 1.005 with 45% of its progress left, is out of range",
        ),
        ({"beta": "lin:0.4:1"}, ValueError, "beta='lin:0.4:1' is not a schedule"),
        ({"beta": None}, TypeError, "beta=None is not a number or a schedule"),
        ({"epsilon": 0.0}, ValueError, "epsilon=0.0 is out of range: pass a number above 0"),
        ({"gamma": 1.5}, ValueError, "gamma=1.5 is out of range"),
        ({"n_steps": 0}, ValueError, "n_steps=0 is out of range"),
        ({"n_steps": 1.5}, TypeError, "n_steps=1.5 is not a whole number"),
        (
            {"n_steps": 3, "optimize_memory_usage": True, "handle_timeout_termination": False},
            ValueError,
            "n_steps=3 needs the next observations",
        ),
        ({"observations": DICTIONARY}, TypeError, "replay_buffer_class=PrioritizedDictReplayBuffer"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        make(**arguments)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_errors_that_are_not_finite_are_refused_and_change_nothing(bad):
    buffer = fill(make(), 12)
    with pytest.raises(ValueError, match="not all finite, and cannot be priorities: training has diverged"):
        buffer.update_priorities(np.array([0, 1]), np.array([2.0, bad]))
    assert buffer.sum_tree[:].tolist() == [1] * 12
    with pytest.raises(ValueError, match="beta=2.0 is out of range"):
        buffer.beta = 2.0
