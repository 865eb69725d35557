import math
import pickle

import pytest

from gsac.schedules import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    Piecewise,
    as_schedule,
    check_schedule,
    parse_schedule,
    value_at,
)


def test_dall_e_schedule_over_updates():
    schedule = Cosine(1.0, 1 / 16, updates=150_000)
    assert value_at(schedule, 0.9, 0) == 1.0
    assert value_at(schedule, 0.9, 75_000) == pytest.approx((1 + 1 / 16) / 2)
    assert value_at(schedule, 0.9, 150_000) == pytest.approx(1 / 16)
    assert value_at(schedule, 0.9, 3_000_000) == pytest.approx(1 / 16)


def test_progress_of_the_run_ignores_updates():
    assert value_at(Linear(1.0, 0.0), 0.25, 10**9) == 0.25
    assert value_at(lambda progress_remaining: 3 * progress_remaining, 0.5, 7) == 1.5


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("0.3", Constant(0.3)),
        ("constant:0.3", Constant(0.3)),
        ("linear:1:0.1", Linear(1.0, 0.1)),
        ("exponential:1:0.1:500", Exponential(1.0, 0.1, updates=500)),
        ("cosine:1:0.0625:150000", Cosine(1.0, 0.0625, updates=150_000)),
        ("piecewise:0=1,0.5=0.4,1=0.1", Piecewise(((0.0, 1.0), (0.5, 0.4), (1.0, 0.1)))),
        ("piecewise:0=1,1=0.1:800", Piecewise(((0.0, 1.0), (1.0, 0.1)), updates=800)),
    ],
)
def test_strings(text, schedule):
    assert parse_schedule(text) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule


@pytest.mark.parametrize(
    "text",
    ["", "fast", "linear", "linear:1", "linear:a:b", "cosine:1:0:0.5", "linear:1:0:100:5", "piecewise:1", "linear:1:0:-3",
     "exponential:1:0", "piecewise:0.5=1,0.1=2", "constant:1:100"],
)  # fmt: skip
def test_wrong_strings_name_the_argument_and_the_forms(text):
    with pytest.raises(ValueError, match="temperature=.*is not a schedule.*cosine:1:0.0625:150000"):
        as_schedule(text, "temperature")


@pytest.mark.parametrize("value", [None, [1.0], True])
def test_wrong_types(value):
    with pytest.raises(TypeError, match="temperature="):
        as_schedule(value, "temperature")


def test_every_form_runs_from_start_to_end():
    for schedule in (Linear(2.0, 0.5), Exponential(2.0, 0.5), Cosine(2.0, 0.5), Piecewise(((0.0, 2.0), (1.0, 0.5)))):
        values = [schedule(p) for p in (1.0, 0.8, 0.5, 0.2, 0.0)]
        assert math.isclose(values[0], 2.0)
        assert math.isclose(values[-1], 0.5)
        assert values == sorted(values, reverse=True)


def test_a_schedule_is_checked_at_its_points_or_at_every_twentieth():
    def is_small(value):
        return value <= 1

    assert check_schedule("x", "linear:1:0", "at most 1", is_small, 0.5) == Linear(1.0, 0.0)
    with pytest.raises(
        ValueError, match=r"x='linear:1:2', 1\.05 with 95% of its progress left, is out of range: pass at"
    ):
        check_schedule("x", "linear:1:2", "at most 1", is_small, 0.5)
    with pytest.raises(ValueError, match=r"x='piecewise.*, 5 with 67% of its progress left, is out of range"):
        check_schedule("x", "piecewise:0=1,0.33=5,0.34=1", "at most 1", is_small, 0.5)
    with pytest.raises(ValueError, match=r"x=2 is out of range: pass at most 1, such as x=0\.5"):
        check_schedule("x", 2, "at most 1", is_small, 0.5)
    with pytest.raises(TypeError, match="x: the schedule gives 'a' with 100% of its progress left: let it return"):
        check_schedule("x", lambda progress_remaining: "a", "at most 1", is_small, 0.5)
