"""The benchmark of estimators on the way measures without disturbing, and its table says what the file does."""

import statistics

import gradients
import pytest
import returns
import torch
from arena import trials
from gradients import CHEETAH, PAIRS
from measures import Job
from returns_rows import identity, read

from gsac.experiments.run_file import RunFile
from gsac.networks.heads import ActionInHead


def test_a_run_is_what_it_would_be_without_the_measurements(monkeypatch):
    for name, value in {"AT": (110, 120, 130), "SAMPLES": 3, "BATCH_SIZE": 16}.items():
        monkeypatch.setattr(gradients, name, value)
    variation = "timesteps=130,learning_starts=100,policy.net_arch=[16]"
    (trial,) = trials([PAIRS], ["GSAC, plain"], [5], [variation])
    models, build = [], type(trial).model
    monkeypatch.setattr(type(trial), "model", lambda self: models.append(build(self)) or models[-1])
    curve = Job(trial, gradients.MEASURE).run()["curve"]
    assert [point["step"] for point in curve] == [110, 120, 130]
    assert "expected" not in curve[0]
    assert curve[2]["gumbel_softmax"]["relative_bias"] != curve[1]["gumbel_softmax"]["relative_bias"]
    alone = trial.model().learn(130)
    for measured, parameter in zip(models[0].policy.parameters(), alone.policy.parameters(), strict=True):
        assert torch.equal(measured, parameter)


def test_the_lines_of_the_former_program_are_the_runs_that_are_planned():
    known = {identity(line) for line in RunFile(gradients.MEASURE.results).read()}
    assert known == {identity(job.described()) for job in returns.jobs("gradients")}


def test_the_table_by_hand(monkeypatch):
    monkeypatch.setattr(gradients, "NAMES", ["noisy", "biased"])
    monkeypatch.setattr(gradients, "AT", (5, 50, 1_000))

    def row(problem, bias):
        points = ({"relative_bias": b, "relative_std": 0.3, "cosine": 0.5} for b in (0.25, 8.0, bias))
        noisy = {"relative_bias": 0.0, "relative_std": 0.6, "cosine": 0.25}
        return {"problem": problem, "curve": [{"noisy": noisy, "biased": biased} for biased in points]}

    table = gradients.markdown([row("A", 0.25), row("A", 0.75), row("B", 9.0)], "A")
    assert table.splitlines() == [
        "| estimator | bias after 5 | bias after 1,000 | noise after 5 | noise after 1,000 | cosine after 5 | cosine after 1,000 |",
        "|---|---|---|---|---|---|---|",
        "| `biased` | 0.25 | 0.50 | 0.30 | 0.30 | 0.50 | 0.50 |",
        "| `noisy` | 0.00 | 0.00 | 0.60 | 0.60 | 0.25 | 0.25 |",
    ]


def test_the_results_say_what_the_document_reads_off_them():
    rows = read(gradients.MEASURE.results)

    def means(problem, figure, at):
        runs = [row["curve"][at] for row in rows if row["problem"] == problem]
        return {name: statistics.fmean(run[name][figure] for run in runs) for name in gradients.NAMES}

    for problem in (PAIRS, CHEETAH):
        for at in (0, -1):
            cosines, noise, bias = (means(problem, name, at) for name in ("cosine", "relative_std", "relative_bias"))
            assert max(cosines, key=cosines.get) == "local_expectation"
            assert noise["rloo"] < noise["reinforce"] / 2
            assert bias["rloo"] < 0.05
            assert (cosines["gumbel_softmax"] > cosines["rloo"]) or problem != PAIRS
        assert 0.2 < bias["gumbel_softmax"] < 0.3
        assert sorted(cosines, key=cosines.get)[-2] == ("gumbel_softmax" if problem == PAIRS else "rloo")
    switches, joints = ([means(problem, "relative_bias", at) for at in (0, -1)] for problem in (PAIRS, CHEETAH))
    assert min(bias["straight_through"] for bias in switches) > 0.8
    assert switches[1]["reinmax"] < switches[1]["gumbel_softmax"] / 2
    assert 0.45 < joints[0]["straight_through"] < 0.5 < 0.6 < joints[1]["straight_through"]


@pytest.mark.parametrize(("problem", "label", "variation"), gradients.PLANNED)
def test_its_critics_read_the_action_at_their_first_layer(problem, label, variation):
    (trial,) = trials([problem], [label], [0], [variation])
    assert isinstance(trial.model().critic.q_net, ActionInHead)
