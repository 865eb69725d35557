import math

import numpy as np
import pytest
from rliable.metrics import aggregate_iqm

from gsac.experiments import curves


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 10])
def test_the_interquartile_mean_is_rliables(n):
    scores = np.random.default_rng(n).normal(size=(n, 3))
    expected = [aggregate_iqm(scores[:, [i]]) for i in range(3)]
    np.testing.assert_allclose(curves.interquartile_mean(scores), expected)


def test_the_interval_is_that_of_the_exact_bootstrap():
    scores = np.array([[1.0], [2.0], [4.0]])
    resampled = [np.mean([a, b, c]) for a in scores[:, 0] for b in scores[:, 0] for c in scores[:, 0]]
    state = np.random.get_state()[1].copy()
    low, high = curves.interval(scores)
    # 1 of 27 resamples is (1, 1, 1), more than 2.5% of them, and as many are (4, 4, 4)
    assert (low[0], high[0]) == (min(resampled), max(resampled)) == (1.0, 4.0)
    assert curves.interval(scores) == (low, high)
    np.testing.assert_array_equal(np.random.get_state()[1], state)

    five = np.array([[10.0], [20.0], [30.0], [40.0], [50.0]])
    exact = [sorted(five[list(i), 0])[1:4] for i in np.ndindex(5, 5, 5, 5, 5)]
    low, high = curves.interval(five)
    ends = np.percentile(np.mean(exact, axis=1), [2.5, 97.5])
    np.testing.assert_allclose([low[0], high[0]], ends, atol=2.0)


def run(seed, means, final=0.0):
    return {
        "label": "a",
        "seed": seed,
        "env": "Hand-v0",
        "total_timesteps": 30,
        "eval_episodes": 4,
        "settings_from": "defaults",
        "curve": [{"step": 10 * (i + 1), "mean": mean} for i, mean in enumerate(means)],
        "final": final,
        "cpu_seconds": 3.0 + seed,
    }


def test_steps_to_the_threshold_by_hand():
    assert curves.steps_to(5.0, run(0, [4.9, 5.0, 1.0])) == 20
    assert curves.steps_to(5.0, run(0, [4.9, 4.0, 1.0])) == math.inf
    assert curves.median_steps([30, 10, 20]) == "20"
    assert curves.median_steps([1000, math.inf, 2000]) == "2,000 (1 of 3 not reached)"
    assert curves.median_steps([1000, math.inf, math.inf]) == "not reached by 2 of 3"


def test_the_table_by_hand():
    runs = {"a": [run(seed, [seed, 10, 10], final) for seed, final in enumerate([1.0, 1.0, 1.0, 1.0, 9.0])]}
    assert curves.table(runs, threshold=3.0).splitlines()[2] == (
        "| a | defaults | 0, 1, 2, 3, 4 | 1, 1, 1, 1, 9 | 1 [1, 6.333] | 20 | 5 |"
    )
    assert curves.table({"a": runs["a"][:1]}, threshold=None).splitlines()[2] == "| a | defaults | 0 | 1 | 1 | 3 |"


def test_curves_are_drawn_for_one_seed_and_for_more_labels_than_colours(tmp_path):
    runs = {f"algorithm {i}": [run(seed, [i, seed, 3]) for seed in range(1 + i % 3)] for i in range(12)}
    curves.draw(tmp_path / "curves.png", runs, threshold=2.0)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_the_interval_over_tasks_draws_each_tasks_runs_apart():
    # the middle two of four: from (0 + 10) / 2 to (1 + 12) / 2, but from 5.5 to 6 if whole runs were drawn
    assert curves.interval_over_tasks(np.array([[0.0, 12.0], [1.0, 10.0]])) == (5.0, 6.5)


def test_a_picture_of_the_same_data_is_the_same_bytes(tmp_path):
    runs = {"a": [run(seed, [seed, 10, 10]) for seed in range(3)]}
    for name in ("first.png", "second.png"):
        curves.draw(tmp_path / name, runs, threshold=2.0)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
