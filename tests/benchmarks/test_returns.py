"""The comparison of returns: what a run's line holds, which runs are made, and that none is made twice."""

import json
import statistics

import arena
import gymnasium
import numpy as np
import pytest
import returns
import returns_rows
import returns_search
from arena import ENTRANTS, PROBLEMS, Entry, Trial
from returns_rows import identity

from gsac import PrioritizedReplayBuffer
from gsac.experiments import presets, runner
from gsac.experiments.environments import make_envs
from gsac.experiments.peers import PEERS, peer_settings
from gsac.experiments.run_file import RunFile
from gsac.experiments.settings import sb3_arguments

ON = {"bound_targets": "true", "target": "mode", "noise_duration": "16", "epsilon": "linear:0.15:0"}
"""Values that do something, three of them the defaults."""
SHORT = "timesteps=2000,learning_starts=100,train_freq=500,gradient_steps=1"


def jobs(*asked):
    return returns.jobs("returns", *asked)


def run_missing(todo, file, n=1):
    return runner.run_missing(todo, file, n, identity, returns.summary)


def built(problem, entry, seed, n_eval_envs):
    """The model, and the environments of its evaluations."""
    model = Trial(problem, "by hand", entry, seed).model()
    return model, make_envs(PROBLEMS[problem].env, n_eval_envs, None, entry.env_wrapper).envs


@pytest.fixture(scope="module")
def line():
    (job,) = jobs(["CartPole-v1"], ["GSAC, defaults"], [100], [SHORT])
    return runner.execute(job)


def test_a_line_holds_forty_whole_episodes_for_each_evaluation_and_their_means(line):
    assert [point["step"] for point in line["curve"]] == [1000, 2000]
    for kind in returns.KINDS:
        episodes = [point[kind] for point in line["curve"]]
        assert [len(each) for each in episodes] == [20, 20]
        assert all(1 <= length <= 500 for each in episodes for length in each)  # a reward of 1 a step
        assert line["final"][kind] == statistics.fmean(episodes[-1])
        assert line["area"][kind] == pytest.approx(statistics.fmean(episodes[0] + episodes[1]))
    assert line["updates"] == 4
    assert 0 < line["evaluation_seconds"] < line["cpu_seconds"]


def test_more_episodes_are_played_if_asked_for_and_make_no_other_run(line):
    few, many = (jobs(["CartPole-v1"], ["GSAC, defaults"], [100], [SHORT], n)[0] for n in (2, 20))
    found = runner.execute(few)
    assert found["episodes"] == 2
    assert [len(point[kind]) for point in found["curve"] for kind in returns.KINDS] == [2] * 4
    assert line["episodes"] == 20
    assert identity(few.described()) == identity(many.described()) == identity(line)


def test_no_episodes_are_refused(capsys):
    with pytest.raises(SystemExit):
        returns.main(["--episodes", "0"])
    assert "--episodes 0 plays nothing: pass a whole number of at least 1, such as 20." in capsys.readouterr().err


def test_every_evaluation_plays_whole_episodes_from_seeds_of_its_own():
    job = jobs(["CartPole-v1"], ["GSAC, defaults"], [3], [SHORT])[0]
    model, envs = built("CartPole-v1", job.trial.entry, 3, 2)
    seen = []
    for env in envs:
        env.reset = lambda *, seed, reset=env.reset: seen.append(seed) or reset(seed=seed)
    callback = returns.EvaluateBothWays([100, 200, 500], envs, seed=3)
    model.learn(500, callback=callback)
    assert seen == [4_000_000 + i for i in range(12)]
    seen.clear()
    again = returns.play(model, envs, 4_000_008, deterministic=True)
    assert again == callback.curve[-1]["deterministic"]
    assert again == [one_by_one(model, 4_000_008 + i) for i in range(2)]


def one_by_one(model, seed):
    """The return of an episode without batches."""
    env = gymnasium.make("CartPole-v1")
    observation, total, over = env.reset(seed=seed)[0], 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(model.predict(observation, deterministic=True)[0])
        total, over = total + reward, terminated or truncated
    return total


def test_normalised_observations_are_those_of_the_training():
    settings = ENTRANTS["PPO"](PROBLEMS["MountainCar-v0"])
    model, envs = built("MountainCar-v0", settings, 0, 2)
    model.learn(64)
    seen = []
    predict = model.predict
    model.predict = lambda observations, *args: seen.append(observations) or predict(observations, *args)
    assert returns.play(model, envs, 7, deterministic=True) == [-200.0, -200.0]
    raw = np.stack([env.reset(seed=7 + i)[0] for i, env in enumerate(envs)])
    np.testing.assert_array_equal(seen[0], model.get_vec_normalize_env().normalize_obs(raw))
    assert np.abs(seen[0] - raw).max() > 0.1


def test_the_return_is_the_environments_own_whatever_rewards_are_trained_with():
    clipped = Entry(env_wrapper=[{"gymnasium.wrappers.ClipReward": {"max_reward": -0.5}}])
    plain = Entry()
    played = []
    for settings in (clipped, plain):
        model, envs = built("CartPole-v1", settings, 0, 3)
        _, reward, *_ = (envs[0].reset(seed=1), envs[0].step(0))[1]
        assert reward == (-0.5 if settings is clipped else 1.0)
        played.append(returns.play(model, envs, 7, deterministic=True))
    assert played[0] == played[1]
    assert min(played[0]) > 0


def test_a_line_tells_every_argument_the_defaults_too(line):
    assert line["configuration"]["learning_rate"] == 1e-3
    assert line["configuration"]["learning_starts"] == 100
    assert line["configuration"]["policy_kwargs"]["critic_layer_norm"] is True
    assert line["arguments"] == {"learning_starts": 100, "train_freq": 500, "gradient_steps": 1}


def test_what_is_in_the_file_is_not_run_again_but_another_setting_is(line, tmp_path, capsys):
    file = RunFile(tmp_path / "returns.jsonl")
    file.append(line)
    todo = jobs(["CartPole-v1"], ["GSAC, defaults"], [100], [SHORT, f"{SHORT},gamma=0.9"])
    assert run_missing(todo, file) == []
    assert [row["configuration"]["gamma"] for row in file.read()] == [0.99, 0.9]
    assert capsys.readouterr().out.count("seed 100") == 1
    assert run_missing(todo, file) == []
    assert len(file.read()) == 2


def test_what_was_superseded_is_run_again(line, tmp_path):
    file = RunFile(tmp_path / "returns.jsonl")
    file.append(line | {"superseded": "by hand"})
    todo = jobs(["CartPole-v1"], ["GSAC, defaults"], [100], [SHORT])
    assert run_missing(todo, file) == []
    assert [row.get("superseded") for row in file.read()] == ["by hand", None]


@pytest.mark.parametrize("results", [returns_rows.RESULTS, returns_search.SEARCH])
def test_every_file_of_results_can_be_gone_on_with(results, tmp_path):
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(results.read_bytes())
    assert run_missing([], RunFile(copy)) == []


def test_the_last_evaluation_is_at_the_last_step(line):
    (job,) = jobs(["CartPole-v1"], ["GSAC, defaults"], [5171], ["timesteps=1500,learning_starts=1500"], 1)
    assert [point["step"] for point in job.run()["curve"]] == [1000, 1500]


def test_large_seeds_can_be_evaluated():
    assert 0 < returns.EvaluateBothWays([], [], 9001).next_seed < 2**32


@pytest.mark.parametrize("argument", ["bound_targets", "target", "noise_duration", "epsilon"])
def test_a_line_from_before_an_argument_came_is_the_run_without_what_it_does(argument):
    """Not the one with its default of today."""
    (job,) = jobs(["CartPole-v1"], ["GSAC, plain"], [0])
    (other,) = jobs(["CartPole-v1"], ["GSAC, plain"], [0], [f"{argument}={ON[argument]}"])
    line = job.described()
    older = line | {"configuration": {k: v for k, v in line["configuration"].items() if k != argument}}
    assert identity(older) == identity(line) != identity(other.described())


@pytest.mark.parametrize(
    ("former", "target"),
    [
        ({"deterministic_target": False, "entropy_in_target": False}, "mean"),
        ({"entropy_in_target": False}, "mean"),
        ({"deterministic_target": True, "entropy_in_target": False}, "mode"),
        ({"deterministic_target": False, "entropy_in_target": True}, "soft"),
    ],
)
def test_a_line_with_the_arguments_that_target_replaced_is_the_same_run(former, target):
    (job,) = jobs(["CartPole-v1"], ["GSAC, plain"], [0], [f"target={target}"])
    line = job.described()
    older = {name: value for name, value in line["configuration"].items() if name != "target"} | former
    assert identity(line | {"configuration": older}) == identity(line)


def test_a_line_with_a_wrapper_by_its_former_module_is_the_same_run():
    (job,) = jobs(["BipedalWalker-v3, 7 bins"], ["PPO"], [0])
    line = job.described()
    older = json.loads(json.dumps(line).replace("gsac.envs.wrappers", "gsac.wrappers"))
    assert older != line
    assert identity(older) == identity(line)


def test_a_line_of_the_former_program_for_defaults_is_the_run_of_the_same_settings():
    for line in RunFile(returns_search.SWEEPS.with_name("estimators_pairs40.jsonl")).read()[-3:]:
        changes = f"{line['variation']},timesteps={line['timesteps']}".replace(
            "deterministic_target=false", "target=mean"
        )
        (job,) = jobs(["Pairs, MultiBinary(40)"], ["GSAC, defaults"], [line["seed"]], [changes])
        assert identity(job.described()) == identity(line)


def test_what_is_reported_of_gsac_was_made_with_the_defaults_and_presets_of_today():
    rows = [row for row in returns_rows.reported(returns_rows.read(returns_rows.RESULTS)) if row["algo"] == "gsac"]
    assert {row["label"] for row in rows} >= {"GSAC, defaults", "GSAC, preset"}
    for row in rows:
        (job,) = jobs([row["problem"]], [row["label"]], [row["seed"]], [row["variation"]])
        assert identity(row) == identity(job.described()), f"{row['problem']}, {row['label']}, {row['seed']}"


def test_a_run_that_fails_is_told_and_does_not_stop_the_others(tmp_path, capsys):
    todo = jobs(["CartPole-v1"], ["GSAC, defaults"], [100], [f"{SHORT},gamma=7", SHORT])
    file = RunFile(tmp_path / "returns.jsonl")
    (failed,) = run_missing(todo, file)
    assert "gamma=7" in failed
    assert "gamma" in capsys.readouterr().out
    assert len(file.read()) == 1


def test_variations_change_arguments_budget_and_policy():
    settings = Entry({"n_steps": 3, "policy_kwargs": {"net_arch": [64]}})
    changed = settings.varied("timesteps=500,n_envs=4,n_steps=5,policy.n_critics=1,policy.net_arch=[32;32]")
    assert (changed.timesteps, changed.n_envs) == (500, 4)
    assert changed.arguments == {"n_steps": 5, "policy_kwargs": {"net_arch": [32, 32], "n_critics": 1}}
    assert settings.arguments == {"n_steps": 3, "policy_kwargs": {"net_arch": [64]}}


def test_a_variation_names_a_replay_buffer_by_its_class():
    changes = "replay_buffer_class=PrioritizedReplayBuffer,buffer_size=500"
    (job,) = jobs(["CartPole-v1"], ["GSAC, preset"], [100], [changes])
    assert type(job.trial.model().replay_buffer) is PrioritizedReplayBuffer
    assert json.loads(json.dumps(job.described()))["arguments"]["replay_buffer_class"] == "PrioritizedReplayBuffer"


@pytest.mark.parametrize("problem", PROBLEMS)
def test_whoever_enters_can_be_built_and_takes_the_problems_actions(problem):
    for label, settings_for in ENTRANTS.items():
        settings = settings_for(PROBLEMS[problem])
        if settings is None:
            continue
        model, (eval_env,) = built(problem, settings, seed=0, n_eval_envs=1)
        assert model.action_space == eval_env.action_space, label
        assert eval_env.action_space.contains(model.predict(eval_env.reset(seed=0)[0])[0]), label
        continuous = label == "SAC, continuous actions"
        assert hasattr(model.action_space, "low") == continuous, label
        json.dumps(settings.complete())
        assert settings.timesteps % PROBLEMS[problem].every == 0, "the last step is an evaluation"


def test_only_factorised_algorithms_enter_where_actions_have_several_parts():
    entered = {label for label, settings in ENTRANTS.items() if settings(PROBLEMS["HalfCheetah-v5, 7 bins"])}
    assert entered.isdisjoint({"DQN", "QRDQN", "SDSAC"})
    assert {"PPO", "SAC, continuous actions", "REINFORCE", "GSAC, defaults"} <= entered


def test_the_zoos_settings_are_read_as_they_stand_there():
    settings = arena.from_the_zoo("qrdqn", PROBLEMS["LunarLander-v3"])
    assert settings.arguments["learning_rate"] == "linear:1.5e-3:0"
    assert settings.arguments["policy_kwargs"] == {"net_arch": [256, 256], "n_quantiles": 170}
    assert settings.timesteps == 100_000
    cheetah = arena.from_the_zoo("ppo", PROBLEMS["HalfCheetah-v5, 7 bins"])
    assert cheetah.normalize
    assert cheetah.arguments["policy_kwargs"]["activation_fn"] == "ReLU"
    assert "zoo" in cheetah.source
    assert arena.from_the_zoo("ppo", PROBLEMS["Pairs, MultiBinary(20)"]).source == "SB3 defaults"


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "LunarLander-v3", "MountainCar-v0"])
@pytest.mark.parametrize("algo", PEERS)
def test_the_package_knows_the_same_published_settings_as_the_zoos_files(algo, env_id):
    read, known = arena.from_the_zoo(algo, PROBLEMS[env_id]), peer_settings(algo, env_id)
    assert (read.n_envs, read.normalize, read.source) == (known.n_envs, known.normalize, known.source)
    assert sb3_arguments(read.arguments) == sb3_arguments(known.arguments)


@pytest.mark.parametrize("env_id", [name for name in presets.read() if name != presets.DEFAULT])
def test_a_preset_is_reported_with_the_steps_that_it_names(env_id):
    (problem,) = [problem for problem in PROBLEMS.values() if problem.env == env_id]
    assert presets.preset(env_id).total_timesteps == problem.timesteps


def test_what_is_planned_can_enter():
    for problem, plan in PROBLEMS.items():
        assert plan.planned
        for label in plan.planned:
            assert ENTRANTS[label](plan) is not None, f"{label} on {problem}"
    todo = jobs(list(PROBLEMS))
    assert {(job.trial.problem, job.trial.label) for job in todo} == {
        (problem, label) for problem, plan in PROBLEMS.items() for label in plan.planned
    }
    assert {job.trial.seed for job in todo if job.trial.problem == "HalfCheetah-v5, 7 bins"} == {0, 1, 2}


def test_a_machine_without_git_runs_as_well(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert runner.provenance()["commit"] is None
