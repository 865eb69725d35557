"""A run that is stopped and resumed equals the one that was not, and no kill leaves it without a checkpoint."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from resumed_runs import RUNS, SETTINGS, STEPS, STOP, Marked, OnTheWay, make_env, make_model, outcome
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from gsac import GSAC, Checkpoint, resume
from gsac.callbacks.checkpoint import MEMBERS

HERE = Path(__file__).parents[1]
CASES = [(name, 1) for name in RUNS] + [
    (name, 4) for name in ("plain", "n-step", "prioritised", "hindsight", "exploration")
]


def test_resumed_runs_equal_the_uninterrupted_ones(tmp_path):
    """Each run is made without a stop here, and continued from its checkpoint on the way in a new process."""
    expected = {}
    for name, n_envs in CASES:
        model = make_model(name, n_envs)
        model.learn(STEPS, callback=OnTheWay(tmp_path / f"{name}_{n_envs}.ckpt", every=STOP))
        expected[name, n_envs] = outcome(model)
    command = [sys.executable, str(HERE / "resumed_runs.py"), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    for name, n_envs in CASES:
        resumed = torch.load(tmp_path / f"{name}_{n_envs}.resumed", weights_only=True)
        assert len(expected[name, n_envs]) == len(resumed)
        assert resumed[-1].shape[0] * resumed[-1].shape[1] >= 1000, "the actions that follow"
        for a, b in zip(expected[name, n_envs], resumed, strict=True):
            assert a.equal(b), f"{name} with {n_envs} environments"


def test_checkpoints_do_not_change_the_run_and_another_seed_does(tmp_path):
    """The equality of resumed runs says something: runs do differ."""
    plain = outcome(make_model("plain", 1).learn(STEPS))
    watched = outcome(make_model("plain", 1).learn(STEPS, callback=Checkpoint(tmp_path / "run.ckpt", every=50)))
    other = outcome(GSAC("MlpPolicy", make_env("plain", 1), **(SETTINGS | {"seed": 4})).learn(STEPS))
    assert all(a.equal(b) for a, b in zip(plain, watched, strict=True))
    assert not all(a.equal(b) for a, b in zip(plain, other, strict=True))


def test_fifty_kills_lose_no_checkpoint(tmp_path):
    """Each child goes on where the last was killed, and writes at every second step."""
    file, chance, reached, killed_in_writing = tmp_path / "run.ckpt", random.Random(0), 0, 0
    for _ in range(50):
        child = os.fork()
        if child == 0:
            try:
                env = make_env("plain", 1)
                model = resume(file, env, device="cpu") if file.exists() else make_model("plain", 1)
                model.learn(10**6, callback=Checkpoint(file, every=2), reset_num_timesteps=not file.exists())
            finally:
                os._exit(1)
        deadline = time.monotonic() + 20
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.05, 0.25))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        killed_in_writing += any(tmp_path.glob(".*.part"))
        steps = resume(file, make_env("plain", 1), device="cpu").num_timesteps
        assert steps >= reached
        reached = steps
    assert reached > 10
    assert killed_in_writing > 0
    resume(file, make_env("plain", 1), device="cpu").learn(4, callback=Checkpoint(file), reset_num_timesteps=False)
    assert [path.name for path in tmp_path.iterdir()] == ["run.ckpt"]


class Unpicklable(Marked):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def reset(self, **kwargs):
        self.resets = getattr(self, "resets", 0) + 1
        return super().reset(**kwargs)


def test_an_environment_that_cannot_be_pickled_is_named_and_begins_a_new_episode(tmp_path):
    model = GSAC("MlpPolicy", Unpicklable(), n_steps=3, **SETTINGS)
    with pytest.warns(UserWarning, match=r"begin with a new episode: the environment cannot be pickled \(TypeError"):
        model.learn(150, callback=OnTheWay(tmp_path / "run.ckpt", every=100))
    env = Unpicklable()
    with pytest.warns(UserWarning, match="goes on with a new episode: the environment cannot be pickled"):
        resumed = resume(tmp_path / "run.ckpt", env, device="cpu")
    assert resumed.num_timesteps == 100
    last = resumed.replay_buffer.pos - 1
    assert resumed.replay_buffer.timeouts[last] or resumed.replay_buffer.dones[last]  # n-step returns stop there
    resumed.learn(1, reset_num_timesteps=False)
    assert env.resets == 1


def test_environments_that_only_pickle_how_they_were_made_are_not_trusted(tmp_path):
    class Eager(Marked, gymnasium.utils.EzPickle):
        pass

    with pytest.warns(UserWarning, match="Eager pickles its constructor's arguments and not its state"):
        GSAC("MlpPolicy", Eager(), **SETTINGS).learn(20, callback=Checkpoint(tmp_path / "run.ckpt"))


def test_environments_in_other_processes_begin_new_episodes(tmp_path):
    env = SubprocVecEnv([Marked, Marked])
    with pytest.warns(UserWarning, match="environments of a SubprocVecEnv cannot be reached"):
        GSAC("MlpPolicy", env, **SETTINGS).learn(100, callback=Checkpoint(tmp_path / "run.ckpt"))
    with pytest.warns(UserWarning, match="goes on with a new episode"):
        resumed = resume(tmp_path / "run.ckpt", env, device="cpu")
    resumed.learn(20, reset_num_timesteps=False)
    assert resumed.num_timesteps == 120
    env.close()


def test_other_callbacks_go_on_as_well(tmp_path):
    def evaluation():
        return EvalCallback(Monitor(Marked()), n_eval_episodes=1, eval_freq=50, verbose=0, log_path=str(tmp_path))

    before, after = evaluation(), evaluation()
    model = make_model("plain", 1)
    model.learn(200, callback=[before, OnTheWay(tmp_path / "run.ckpt", every=100, callbacks=[before])])
    resumed = resume(tmp_path / "run.ckpt", make_env("plain", 1), callbacks=[after], device="cpu")
    assert after.best_mean_reward > -np.inf
    resumed.learn(resumed.remaining_timesteps, callback=after, reset_num_timesteps=False)
    assert after.evaluations_timesteps == before.evaluations_timesteps == [50, 100, 150, 200]
    assert after.evaluations_results[:2] == before.evaluations_results[:2]


def test_a_checkpoint_names_the_number_of_callbacks(tmp_path):
    before = EvalCallback(Monitor(Marked()), n_eval_episodes=1, eval_freq=50, verbose=0)
    model = make_model("plain", 1)
    model.learn(50, callback=[before, Checkpoint(tmp_path / "run.ckpt", every=50, callbacks=[before])])
    with pytest.raises(ValueError, match="has the records of 1 callbacks, and 0 were passed"):
        resume(tmp_path / "run.ckpt", make_env("plain", 1), device="cpu")


def test_a_file_holds_what_is_used_of_the_buffer(tmp_path):
    model = GSAC("MlpPolicy", Marked(), **(SETTINGS | {"buffer_size": 1_000_000}))
    model.learn(100, callback=Checkpoint(tmp_path / "run.ckpt"))
    assert (tmp_path / "run.ckpt").stat().st_size < 2e6
    assert len(resume(tmp_path / "run.ckpt", Marked(), device="cpu").replay_buffer.rewards) == 1_000_000


def test_damaged_files_are_refused_or_whole(tmp_path):
    file = tmp_path / "run.ckpt"
    model = make_model("plain", 1)
    model.learn(80, callback=Checkpoint(file))
    whole, chance = file.read_bytes(), random.Random(0)
    weights = torch.nn.utils.parameters_to_vector(model.policy.parameters())
    refused = 0
    for i in range(100):
        damaged = bytearray(whole)
        if i % 2:
            damaged = damaged[: chance.randrange(len(whole))]
        else:
            damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        message, loaded = "", None
        try:
            loaded = resume(file, make_env("plain", 1), device="cpu")
        except ValueError as error:
            message = str(error)
        refused += str(file) in message
        assert message == "" or str(file) in message
        assert loaded is None or torch.nn.utils.parameters_to_vector(loaded.policy.parameters()).equal(weights)
    assert refused >= 99
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("other.txt", "")
    with pytest.raises(ValueError, match=r"run.ckpt holds no checkpoint: buffer.pkl, model.zip, state.pkl is missing"):
        resume(file, make_env("plain", 1))
    with pytest.raises(FileNotFoundError):
        resume(tmp_path / "none.ckpt", make_env("plain", 1))


def test_what_does_not_fit_is_named(tmp_path):
    file = tmp_path / "run.ckpt"
    make_model("normalised", 1).learn(30, callback=Checkpoint(file))
    with pytest.raises(ValueError, match="of a run with 1 environments side by side, and env has 4"):
        resume(file, make_env("normalised", 4))
    with pytest.raises(ValueError, match="of a run in VecNormalize of DummyVecEnv, and env is DummyVecEnv"):
        resume(file, make_env("plain", 1))
    with pytest.raises(TypeError, match="and this is a DQN"):
        DQN("MlpPolicy", "CartPole-v1").learn(10, callback=Checkpoint(file))
    with zipfile.ZipFile(file) as archive:
        assert tuple(archive.namelist()) == MEMBERS


def test_no_warning_where_everything_is_exact(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = GSAC("MlpPolicy", DummyVecEnv([Marked]), **SETTINGS)
        model.learn(80, callback=Checkpoint(tmp_path / "run.ckpt"))
        resumed = resume(tmp_path / "run.ckpt", DummyVecEnv([Marked]), device="cpu")
        resumed.learn(20, callback=Checkpoint(tmp_path / "run.ckpt"), reset_num_timesteps=False)
