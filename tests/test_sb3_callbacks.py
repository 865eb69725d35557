"""SB3's callbacks, and the logs that its users read."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from problems import Match
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.logger import HParam, configure
from stable_baselines3.common.monitor import Monitor

from gsac import GSAC, REINFORCE

QUICK = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500, "seed": 0, "device": "cpu"}
SMALL = {"net_arch": [8]}


def cartpole(**kwargs):
    return GSAC("MlpPolicy", "CartPole-v1", **{**QUICK, "policy_kwargs": SMALL, **kwargs})


class Watch(BaseCallback):
    """Keeps what a step's locals hold."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def _on_step(self):
        self.steps.append({name: self.locals[name] for name in ("new_obs", "dones", "infos", "rewards", "actions")})
        return True


def test_callbacks_see_each_step():
    watch = Watch()
    model = cartpole().learn(40, callback=watch)
    assert len(watch.steps) == 40
    for row, step in enumerate(watch.steps):
        assert model.replay_buffer.actions[row, 0] == step["actions"][0]
        assert model.replay_buffer.rewards[row, 0] == step["rewards"][0]
        assert model.replay_buffer.dones[row, 0] == step["dones"][0]
        if not step["dones"][0]:
            assert np.array_equal(model.replay_buffer.next_observations[row, 0], step["new_obs"][0])
        assert ("episode" in step["infos"][0]) == step["dones"][0]


def test_sb3s_callbacks_act_at_their_steps(tmp_path):
    watch, every = Watch(), Watch()
    best = StopTrainingOnRewardThreshold(reward_threshold=1e6)
    evaluation = EvalCallback(
        Monitor(gymnasium.make("CartPole-v1")),
        callback_on_new_best=best,
        n_eval_episodes=1,
        eval_freq=25,
        log_path=str(tmp_path),
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    checkpoint = CheckpointCallback(30, str(tmp_path), save_replay_buffer=True, save_vecnormalize=True)
    callbacks = [watch, evaluation, checkpoint, EveryNTimesteps(20, every), LogEveryNTimesteps(20)]
    env = gymnasium.make("CartPole-v1")
    model = GSAC("MlpPolicy", env, policy_kwargs=SMALL, **QUICK)
    model.learn(60, callback=CallbackList(callbacks), progress_bar=True)
    assert len(watch.steps) == 60
    assert len(every.steps) == 3
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [25, 50]
    assert GSAC.load(tmp_path / "best_model").num_timesteps in (25, 50)
    assert GSAC.load(tmp_path / "rl_model_30_steps").num_timesteps == 30
    model.load_replay_buffer(tmp_path / "rl_model_replay_buffer_60_steps")
    assert model.replay_buffer.pos == 59  # SB3 asks the callbacks before it stores the step


def test_training_stops_where_sb3s_callbacks_want_it(tmp_path):
    env = Monitor(gymnasium.make("CartPole-v1"))
    enough = EvalCallback(
        env, callback_on_new_best=StopTrainingOnRewardThreshold(1.0, verbose=0), eval_freq=30, verbose=0
    )
    assert cartpole().learn(100, callback=enough).num_timesteps == 30
    no_better = EvalCallback(
        Monitor(
            gymnasium.make("CartPole-v1", max_episode_steps=5)
        ),  # five steps and a return of five, whatever it does
        callback_after_eval=StopTrainingOnNoModelImprovement(max_no_improvement_evals=1),
        eval_freq=10,
        verbose=0,
        n_eval_episodes=1,
    )
    assert cartpole().learn(100, callback=no_better).num_timesteps == 30
    watch = Watch()
    cartpole().learn(1000, callback=[watch, StopTrainingOnMaxEpisodes(max_episodes=2)])
    assert watch.steps[-1]["dones"][0]
    assert sum(step["dones"][0] for step in watch.steps) == 2
    assert cartpole().learn(100, callback=lambda *_: False).num_timesteps == 1


def test_hyperparameters_are_logged_to_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Hyperparameters(BaseCallback):
        def _on_training_start(self):
            values = {"gamma": self.model.gamma, "learning rate": self.model.learning_rate}
            self.logger.record(
                "hparams", HParam(values, {"train/entropy": 0}), exclude=("stdout", "log", "json", "csv")
            )

        def _on_step(self):
            return True

    model = cartpole(tensorboard_log=str(tmp_path))
    model.learn(150, callback=Hyperparameters(), log_interval=1)
    model.learn(30, reset_num_timesteps=False)
    model.learn(30, tb_log_name="other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["GSAC_1", "other_1"]
    events = EventAccumulator(str(tmp_path / "GSAC_1")).Reload()
    assert {"rollout/ep_rew_mean", "train/entropy", "train/temperature"} <= set(events.Tags()["scalars"])
    assert "hparams" in str(events.summary_metadata.keys())


@pytest.mark.parametrize(
    "make",
    [
        lambda: cartpole(estimator="mixed:rho=linear:1:0"),
        lambda: GSAC("MlpPolicy", Match(spaces.MultiBinary(3)), ent_coef=0.1, **QUICK),
        lambda: REINFORCE("MlpPolicy", "CartPole-v1", seed=0, device="cpu"),
    ],
    ids=["mixed", "fixed_ent_coef", "reinforce"],
)
def test_no_key_of_the_log_is_so_long_that_the_table_cuts_it(make, tmp_path):
    model = make()
    keys = set()
    logger = configure(str(tmp_path), ["stdout"])
    dump = logger.dump
    logger.dump = lambda step=0: (keys.update(logger.name_to_value), dump(step))
    model.set_logger(logger)
    model.learn(300, log_interval=1)
    assert {"train/learning_rate", "time/fps", "rollout/ep_rew_mean"} <= keys
    assert [key for key in keys if len(key) > 36] == []
