"""The buffer on the device gives what SB3's buffers give, without a read from the device."""

import pickle
import resource

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from gsac import DeviceReplayBuffer
from gsac.replay import device_rows
from gsac.replay import storage as replay_memory

OBSERVATIONS = spaces.Box(-1000, 1000, (2,), np.float32)
IMAGES = spaces.Box(0, 255, (3, 5, 5), np.uint8)
DICTIONARY = spaces.Dict({"a": OBSERVATIONS, "b": spaces.Discrete(50), "c": IMAGES})
ACTIONS = spaces.MultiDiscrete([3, 2])
ONCE = {"optimize_memory_usage": True, "handle_timeout_termination": False}
STEPS = 12


@pytest.fixture(params=["written in place", "staged"])
def way(request, monkeypatch):
    """As on the CPU, and as on a GPU: rows are pending on the host and copied, five at a time at most."""
    if request.param == "staged":
        monkeypatch.setattr(device_rows, "shares_memory", lambda device: False)
        monkeypatch.setattr(device_rows, "MAX_PENDING_ROWS", 5)


def make(kind=DeviceReplayBuffer, n_envs=1, observations=OBSERVATIONS, size=STEPS, **kwargs):
    return kind(size * n_envs, observations, ACTIONS, device="cpu", n_envs=n_envs, **kwargs)


class Source:
    """Random transitions, the same for each seed: a fifth terminated, a fifth cut off; the first number tells which."""

    def __init__(self, buffer, seed=0, space=None):
        self.buffer, self.rng, self.step = buffer, np.random.default_rng(seed), 0
        self.space = space or buffer.observation_space
        self.now = self.observe()

    def observe(self):
        n, space = self.buffer.n_envs, self.space
        vector = np.stack([[100 * self.step + env, self.rng.normal()] for env in range(n)]).astype(np.float32)
        image = self.rng.integers(0, 256, (n, 3, 5, 5), np.uint8)
        self.step += 1
        if isinstance(space, spaces.Dict):
            return {"a": vector, "b": np.full(n, self.step % 50), "c": image}
        return image if space == IMAGES else np.full(n, self.step) if isinstance(space, spaces.Discrete) else vector

    def add(self, n):
        for _ in range(n):
            then, kinds = self.observe(), self.rng.integers(5, size=self.buffer.n_envs)
            infos = [{"TimeLimit.truncated": bool(kind == 1)} for kind in kinds]
            actions = self.rng.integers([3, 2], size=(self.buffer.n_envs, 2))
            rewards = self.rng.normal(size=self.buffer.n_envs)
            self.buffer.add(self.now, then, actions, rewards, kinds < 2, infos)
            self.now = then
        return self.buffer


def filled(buffer, n, **kwargs):
    return Source(buffer, **kwargs).add(n)


def of_sb3(buffer, rows, env=None):
    """SB3's own samples of these steps and environments, which it would draw itself."""
    steps, envs = np.divmod(np.asarray(rows), buffer.n_envs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "randint", lambda *args, **kwargs: envs)
        return buffer._get_samples(steps, env)


def drawable(buffer, added):
    """The rows that SB3 draws."""
    steps = set(range(min(added, STEPS)))
    if buffer.optimize_memory_usage and added >= STEPS:
        steps -= {added % STEPS}
    return {step * buffer.n_envs + env for step in steps for env in range(buffer.n_envs)}


def drawn(buffer, env=None):
    """The rows that a great sample drew, and the sample."""
    rows, get = [], buffer._get_samples
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffer, "_get_samples", lambda found, env: (rows.append(found), get(found, env))[1])
        samples = buffer.sample(600, env)
    return rows[0].clone(), samples


def same(ours, theirs):
    assert type(ours) is type(theirs)
    for name, a, b in zip(ours._fields, ours, theirs, strict=True):
        if name == "discounts" and a is None:
            assert b is None or b.eq(0.9).all()  # SB3's n-step buffer with one step
            continue
        for x, y in zip(a.values(), b.values(), strict=True) if isinstance(a, dict) else [(a, b)]:
            assert x.dtype == y.dtype, name
            assert x.shape == y.shape, name
            assert torch.allclose(x, y, rtol=0, atol=1e-6 if name == "rewards" else 0), name


CASES = {
    "array": (ReplayBuffer, {}),
    "image": (ReplayBuffer, {"observations": IMAGES}),
    "number": (ReplayBuffer, {"observations": spaces.Discrete(100)}),
    "dictionary": (DictReplayBuffer, {"observations": DICTIONARY}),
    "time limits as ends": (ReplayBuffer, {"handle_timeout_termination": False}),
    "stored once": (ReplayBuffer, ONCE),
    "image stored once": (ReplayBuffer, {"observations": IMAGES, **ONCE}),
    "n-step of one": (NStepReplayBuffer, {"n_steps": 1, "gamma": 0.9}),
    "3-step": (NStepReplayBuffer, {"n_steps": 3, "gamma": 0.9}),
    "5-step image": (NStepReplayBuffer, {"n_steps": 5, "gamma": 0.9, "observations": IMAGES}),
    "longer than the buffer": (NStepReplayBuffer, {"n_steps": 15, "gamma": 0.9}),
}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("added", [1, 7, STEPS - 1, STEPS, STEPS + 1, 31])
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_samples_are_those_of_sb3(case, n_envs, added):
    kind, kwargs = CASES[case]
    theirs, ours = filled(make(kind, n_envs, **kwargs), added), filled(make(n_envs=n_envs, **kwargs), added)
    assert (ours.pos, ours.full, ours.size()) == (theirs.pos, theirs.full, theirs.size())
    if not drawable(ours, added):
        return
    rows, samples = drawn(ours)
    assert set(rows.tolist()) == drawable(ours, added)
    same(samples, of_sb3(theirs, rows))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("case", ["array", "dictionary", "stored once", "3-step"])
def test_sampling_between_additions_changes_nothing(case, n_envs):
    kind, kwargs = CASES[case]
    theirs, ours = Source(make(kind, n_envs, **kwargs)), Source(make(n_envs=n_envs, **kwargs))
    added = 0
    for more in (1, 1, 2, 7, 3, 11, 1, 4, 12, 13):
        theirs.add(more)
        ours.add(more)
        added += more
        rows, samples = drawn(ours.buffer)
        assert set(rows.tolist()) == drawable(ours.buffer, added)
        same(samples, of_sb3(theirs.buffer, rows))


def normaliser(observations=OBSERVATIONS):
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    noise = np.random.default_rng(0).normal(size=(50, 2)) * 7
    rms = type(env.obs_rms)(shape=(2,))
    rms.update(noise)
    env.obs_rms, env.norm_obs_keys = rms, None
    if isinstance(observations, spaces.Dict):
        env.obs_rms, env.norm_obs_keys, env.observation_space = {"a": rms}, ["a"], observations
    env.ret_rms.update(np.arange(5.0))
    env.clip_reward = 0.5
    return env


@pytest.mark.parametrize("case", ["array", "dictionary", "stored once", "3-step"])
def test_normalised_samples_are_those_of_sb3(case):
    kind, kwargs = CASES[case]
    theirs, ours = filled(make(kind, 3, **kwargs), 31), filled(make(n_envs=3, **kwargs), 31)
    env = normaliser(ours.observation_space)
    rows, samples = drawn(ours, env)
    same(samples, of_sb3(theirs, rows, env))
    assert not samples.rewards.equal(ours._get_samples(rows).rewards)


class VectorsOnly(DeviceReplayBuffer):
    """Takes dictionaries, and stores one of their parts."""

    def add(self, obs, next_obs, *rest):
        super().add(obs["a"], next_obs["a"], *rest)


@pytest.mark.parametrize("added", [7, 31])
def test_dictionaries_have_returns_of_several_steps_and_can_be_stored_once(added):
    n_step = filled(make(n_envs=2, observations=DICTIONARY, n_steps=3), added)
    once = filled(make(n_envs=2, observations=DICTIONARY, **ONCE), added)
    twice = filled(make(n_envs=2, observations=DICTIONARY, handle_timeout_termination=False), added)
    rows, samples = drawn(n_step)
    flat = filled(VectorsOnly(2 * STEPS, OBSERVATIONS, ACTIONS, "cpu", 2, n_steps=3), added, space=DICTIONARY)
    flat.flush()
    flat = flat._get_samples(rows)
    assert samples.rewards.equal(flat.rewards)
    assert samples.discounts.equal(flat.discounts)
    assert samples.next_observations["a"].equal(flat.next_observations)
    rows, samples = drawn(once)
    same(samples, twice._get_samples(rows))


def test_returns_by_hand():
    """Rewards 1, 2, 3, ... and gamma 1/2; step 2 is terminated, step 4 cut off, step 6 the newest."""
    buffer = make(n_steps=3, gamma=0.5)
    for step in range(7):
        observation = np.full((1, 2), step, np.float32)
        ended, cut = step in (2, 4), step == 4
        infos = [{"TimeLimit.truncated": cut}]
        buffer.add(observation, observation + 1, np.zeros((1, 2)), np.array([step + 1.0]), np.array([ended]), infos)
    buffer.flush()
    samples = buffer._get_samples(torch.arange(7))
    assert samples.rewards[:, 0].tolist() == [1 + 1 + 0.75, 2 + 1.5, 3, 4 + 2.5, 5, 6 + 3.5, 7]
    assert samples.discounts[:, 0].tolist() == [0.125, 0.25, 0.5, 0.25, 0.5, 0.25, 0.5]
    assert samples.next_observations[:, 0].tolist() == [3, 3, 3, 5, 5, 7, 7]
    assert samples.dones[:, 0].tolist() == [1, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("kwargs", [{}, ONCE], ids=["plain", "stored once"])
def test_every_transition_has_the_same_chance(kwargs):
    torch.manual_seed(0)
    buffer = filled(make(n_envs=3, **kwargs), 17)
    counts = torch.zeros(STEPS * 3)
    for _ in range(100):
        counts += torch.bincount(drawn(buffer)[0], minlength=STEPS * 3)
    counts = counts[counts > 0]
    assert len(counts) == (33 if kwargs else 36)
    expected = 60_000 / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < 66  # one in a thousand, 35 degrees of freedom


def test_rows_cost_nothing_before_they_are_used_and_the_last_of_many_are_reached():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    buffer = DeviceReplayBuffer(100_000, spaces.Box(0, 1, (10_000,)), ACTIONS, device="cpu")  # 8 GB
    assert buffer.observations.shape == (100_000, 1, 10_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    many = DeviceReplayBuffer(2**24 + 3, spaces.Discrete(2), ACTIONS, device="cpu")
    many.full = True
    many._fill_numbers()
    rows = torch.cat([drawn(many)[0] for _ in range(20)])
    assert rows.max() > 0.999 * 2**24
    assert (rows[rows > 2**23] % 2).float().mean() == pytest.approx(0.5, abs=0.03)  # float32 knows few odd ones there


class DeviceOnly(TorchDispatchMode):
    """Refuses operations that would read from a GPU or copy to it; counts the others."""

    REFUSED = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "_to_copy",
        "scalar_tensor",
        "lift_fresh",
        "_pin_memory",
    )
    FREE = (
        "empty",
        "view",
        "_unsafe_view",
        "select",
        "slice",
        "unsqueeze",
        "t",
        "expand",
        "alias",
        "detach",
        "split",
        "unbind",
    )

    def __init__(self):
        super().__init__()
        self.launched = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        assert name not in self.REFUSED, f"{name} reads from the device or copies to it"
        if name not in self.FREE:
            self.launched.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("kwargs", "most"),
    [
        ({}, 7),  # draw, remainder, outcomes, dones, actions and both observations
        (ONCE, 11),  # and four more for the place in the ring
        ({"observations": DICTIONARY}, 11),
        ({"n_steps": 3}, 22),
    ],
    ids=["plain", "stored once", "dictionary", "3-step"],
)
def test_a_sample_is_a_few_operations_of_the_device_alone(kwargs, most):
    buffer = filled(make(n_envs=3, **kwargs), 20)
    buffer.flush()
    with DeviceOnly() as seen:
        buffer.sample(32)
    assert len(seen.launched) <= most, seen.launched
    with pytest.raises(AssertionError, match="reads from the device"), DeviceOnly():
        buffer._rows.stored["outcomes"].sum().item()
    filled(buffer, 2)
    with DeviceOnly() as seen:
        buffer.flush()
    assert len(seen.launched) <= 3 + 2 * len(buffer._flat), seen.launched  # copies in two pieces, and the numbers


def test_tensors_that_a_graph_would_have_captured_stay_the_same():
    buffer = make(n_steps=3)
    known = [buffer._n_drawable_tensor, buffer._newest_step, *buffer._flat.values()]
    places = [tensor.data_ptr() for tensor in known]
    filled(buffer, 31)
    drawn(buffer)
    known = [buffer._n_drawable_tensor, buffer._newest_step, *buffer._flat.values()]
    assert [tensor.data_ptr() for tensor in known] == places
    assert (int(buffer._n_drawable_tensor), int(buffer._newest_step)) == (12, 6)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("case", ["array", "stored once", "3-step"])
def test_recorded_operations_sample_transitions_that_were_added_since(case):
    """As with a CUDA graph, the recorded operations run again on the same tensors, without Python."""
    ours, theirs = (Source(make(kind, **CASES[case][1])) for kind in (DeviceReplayBuffer, CASES[case][0]))
    for source in (ours, theirs):
        source.add(2)
    ours.buffer.flush()

    def sampled(size):
        rows, samples = drawn(ours.buffer)
        return rows, *[value for value in samples if value is not None]

    graph = make_fx(sampled)(torch.zeros(1))
    added = 2
    for more in (3, 8, 11):
        ours.add(more)
        theirs.add(more)
        added += more
        ours.buffer.flush()
        rows, *samples = graph(torch.zeros(1))
        assert set(rows.tolist()) == drawable(ours.buffer, added)
        same(ReplayBufferSamples(*samples), of_sb3(theirs.buffer, rows))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("added", [0, 1, 7, STEPS, 31])
@pytest.mark.parametrize("case", ["array", "dictionary", "stored once", "3-step"])
def test_pickling_saves_the_steps_in_use_and_the_copy_samples_as_the_original(case, added):
    buffer = make(n_envs=2, **CASES[case][1], size=STEPS)
    source = Source(buffer)
    source.add(added)
    copy = pickle.loads(pickle.dumps(buffer))
    other = Source(copy)
    other.__dict__.update(pickle.loads(pickle.dumps({k: v for k, v in vars(source).items() if k != "buffer"})))
    for more in (0, 2, 9, 4) if added > 0 else (2, 9, 4):
        source.add(more)
        other.add(more)
        for each in (buffer, copy):
            torch.manual_seed(more)
            each.drawn = each.sample(50)
        same(copy.drawn, buffer.drawn)
    assert (copy.pos, copy.full) == (buffer.pos, buffer.full)


def test_a_pickle_holds_no_unused_rows_and_no_tensors():
    buffer = filled(make(size=100_000), 20)
    content = pickle.dumps(buffer)
    assert len(content) < 5000
    assert b"torch.storage" not in content
    assert b"_rebuild_tensor" not in content
    assert pickle.loads(content).observations.shape == (100_000, 1, 2)


@pytest.mark.usefixtures("way")
def test_an_empty_buffer_says_so_and_reset_empties():
    buffer = make()
    with pytest.raises(ValueError, match=r"nothing to sample: add\(\)"):
        buffer.sample(1)
    filled(buffer, 17).reset()
    assert buffer.size() == 0
    with pytest.raises(ValueError, match=r"nothing to sample: add\(\)"):
        buffer.sample(1)
    filled(buffer, 2, seed=1)
    assert set(drawn(buffer)[0].tolist()) == {0, 1}


@pytest.mark.usefixtures("way")
def test_the_storage_can_be_changed_from_outside_as_sb3_and_checkpoints_do():
    buffer = filled(make(n_steps=3, size=50), 8)
    buffer.timeouts[7] = 1.0
    filled(buffer, 3, seed=1)
    samples = buffer._get_samples(torch.tensor([7]))
    assert samples.rewards.item() == buffer.rewards[7, 0]
    ends = filled(make(handle_timeout_termination=False), 8)
    ends.timeouts[7] = 1.0
    assert filled(ends, STEPS).timeouts.sum() == 0  # the transition that overwrites it was not truncated
    once = filled(make(n_envs=2, **ONCE), 8)
    once.dones[7] = True
    assert once._get_samples(torch.tensor([14, 15])).dones.tolist() == [[1], [1]]
    with pytest.raises(AttributeError, match="stores no next_observations"):
        once.next_observations  # noqa: B018


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("kwargs", [{}, ONCE, {"observations": DICTIONARY}], ids=["plain", "stored once", "dictionary"])
def test_the_bytes_are_those_of_the_tensors(kwargs, n_envs):
    buffer = make(n_envs=n_envs, **kwargs)
    assert sum(values.nbytes for values in buffer._flat.values()) == replay_memory.replay_bytes(
        STEPS * n_envs, buffer.observation_space, ACTIONS, n_envs, buffer.optimize_memory_usage
    )


def test_a_buffer_that_does_not_fit_is_refused_with_its_size_before_memory_is_allocated(monkeypatch):
    room, action = spaces.Box(-1, 1, (4,)), spaces.Discrete(2)
    buffer = DeviceReplayBuffer(1000, room, action, device="cpu")
    monkeypatch.setattr(replay_memory, "free_bytes", lambda device: 10_000)
    with pytest.raises(
        ValueError, match=r"1,000 transitions takes 52,000 bytes .*10,000 bytes .*buffer_size=96 "
    ) as no:
        buffer.device = torch.device("cuda")
        buffer.sample(1)
    assert "optimize_memory_usage=True" in str(no.value)
    assert "replay_buffer_class=stable_baselines3.common.buffers.ReplayBuffer" in str(no.value)
    assert replay_memory.replay_bytes(96, room, action) <= 5000
    assert isinstance(buffer.actions, np.ndarray)  # still where it was
    with pytest.warns(UserWarning, match="1,000 transitions takes 52,000 bytes"):
        DeviceReplayBuffer(1000, room, action, device="cpu")


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"n_steps": 0}, ValueError, "n_steps=0 is out of range"),
        ({"n_steps": 1.5}, TypeError, "n_steps=1.5 is not a whole number"),
        ({"gamma": 1.5}, ValueError, "gamma=1.5 is out of range"),
        ({"gamma": "high"}, TypeError, "gamma='high' is not a number"),
        ({"n_steps": 3, **ONCE}, ValueError, "n_steps=3 needs the next observations"),
        ({"optimize_memory_usage": True}, ValueError, "handle_timeout_termination=True bootstraps"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(kwargs, error, message):
    with pytest.raises(error, match=message):
        make(**kwargs)


def test_a_buffer_can_be_looked_at_and_added_to_where_the_device_that_was_set_is_not():
    buffer = DeviceReplayBuffer(10, spaces.Box(-1, 1, (4,)), spaces.Discrete(2), device="cpu")
    row = (np.ones((1, 4)), np.zeros((1, 4)), np.ones((1, 1)), np.array([2.0]), np.array([0.0]))
    buffer.device = torch.device("meta")
    buffer.add(*row, [{"TimeLimit.truncated": np.array([1.0])}])  # as SB3's users extend one buffer by another
    assert buffer.device.type == "meta"
    assert buffer.observations[0].tolist() == [[1.0] * 4]
    assert buffer.timeouts[0].tolist() == [1.0]
    assert buffer.sample(3).rewards.device.type == "meta"
