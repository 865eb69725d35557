"""The benchmark of estimators on the way measures without disturbing, and its table says what the file does."""

import statistics

import defaults
import estimator_training
import pytest
import torch

from gsac import GSAC
from gsac.experiments.run_file import RunFile
from gsac.networks.heads import ActionInHead

PAIRS = "gsac/Pairs40-v0"


def test_a_run_is_what_it_would_be_without_the_measurements(monkeypatch):
    for name, value in {"TIMESTEPS": 130, "AT": (110, 120, 130), "SAMPLES": 3, "BATCH_SIZE": 16}.items():
        monkeypatch.setattr(estimator_training, name, value)
    monkeypatch.setitem(estimator_training.PROBLEMS, PAIRS, ({"learning_starts": 100}, {"net_arch": [16]}))
    models = []

    class Kept(GSAC):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            models.append(self)

    monkeypatch.setattr(estimator_training, "GSAC", Kept)
    row = estimator_training.run(PAIRS, 5)
    assert [point["step"] for point in row["curve"]] == [110, 120, 130]
    assert "expected" not in row["curve"][0]
    assert row["curve"][2]["gumbel_softmax"]["relative_bias"] != row["curve"][1]["gumbel_softmax"]["relative_bias"]
    model = GSAC("MlpPolicy", PAIRS, seed=5, learning_starts=100, policy_kwargs={"net_arch": [16]}, **defaults.PLAIN)
    model.learn(130)
    for measured, alone in zip(models[0].policy.parameters(), model.policy.parameters(), strict=True):
        assert torch.equal(measured, alone)


def test_the_table_by_hand(monkeypatch):
    monkeypatch.setattr(estimator_training, "NAMES", ["noisy", "biased"])
    monkeypatch.setattr(estimator_training, "AT", (5, 50, 1_000))

    def row(env, bias):
        points = ({"relative_bias": b, "relative_std": 0.3, "cosine": 0.5} for b in (0.25, 8.0, bias))
        noisy = {"relative_bias": 0.0, "relative_std": 0.6, "cosine": 0.25}
        return {"env": env, "curve": [{"noisy": noisy, "biased": biased} for biased in points]}

    table = estimator_training.markdown([row("A", 0.25), row("A", 0.75), row("B", 9.0)], "A")
    assert table.splitlines() == [
        "| estimator | bias after 5 | bias after 1,000 | noise after 5 | noise after 1,000 | cosine after 5 | cosine after 1,000 |",
        "|---|---|---|---|---|---|---|",
        "| `biased` | 0.25 | 0.50 | 0.30 | 0.30 | 0.50 | 0.50 |",
        "| `noisy` | 0.00 | 0.00 | 0.60 | 0.60 | 0.25 | 0.25 |",
    ]


def test_the_results_say_what_the_document_reads_off_them():
    rows = RunFile(estimator_training.RESULTS).read()

    def means(env_id, figure, at):
        runs = [row["curve"][at] for row in rows if row["env"] == env_id]
        return {name: statistics.fmean(run[name][figure] for run in runs) for name in estimator_training.NAMES}

    for env_id in estimator_training.PROBLEMS:
        for at in (0, -1):
            cosines, noise, bias = (means(env_id, name, at) for name in ("cosine", "relative_std", "relative_bias"))
            assert max(cosines, key=cosines.get) == "local_expectation"
            assert noise["rloo"] < noise["reinforce"] / 2
            assert bias["rloo"] < 0.05
            assert (cosines["gumbel_softmax"] > cosines["rloo"]) or env_id != "gsac/Pairs40-v0"
        assert 0.2 < bias["gumbel_softmax"] < 0.3
        assert sorted(cosines, key=cosines.get)[-2] == ("gumbel_softmax" if "Pairs" in env_id else "rloo")
    switches, joints = (
        [means(env_id, "relative_bias", at) for at in (0, -1)] for env_id in estimator_training.PROBLEMS
    )
    assert min(bias["straight_through"] for bias in switches) > 0.8
    assert switches[1]["reinmax"] < switches[1]["gumbel_softmax"] / 2
    assert 0.45 < joints[0]["straight_through"] < 0.5 < 0.6 < joints[1]["straight_through"]


@pytest.mark.parametrize("env_id", estimator_training.PROBLEMS)
def test_its_critics_read_the_action_at_their_first_layer(env_id):
    _, policy_kwargs = estimator_training.PROBLEMS[env_id]
    model = GSAC("MlpPolicy", env_id, policy_kwargs=policy_kwargs)
    assert isinstance(model.critic.q_net, ActionInHead)
