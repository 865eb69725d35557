import numpy as np
import pytest

from gsac.checks import check_bool, check_choice, check_number, did_you_mean


@pytest.mark.parametrize("value", [1, 3, np.int64(2)])
def test_whole_numbers_are_accepted_of_any_kind(value):
    check_number("n", value, "a whole number of at least 1", lambda value: value >= 1, 2)


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.25)])
def test_where_the_example_is_no_whole_number_fractions_are_accepted(value):
    check_number("share", value, "a number within [0, 1]", lambda value: 0 <= value <= 1, 0.5)


@pytest.mark.parametrize("value", [1.0, True, np.True_, "1", None, [1]])
def test_other_kinds_say_what_came_what_is_allowed_and_what_to_write(value):
    with pytest.raises(TypeError) as refusal:
        check_number("n", value, "a whole number of at least 1", lambda value: value >= 1, 2)
    assert str(refusal.value) == f"n={value!r} is not a whole number: pass a whole number of at least 1, such as n=2."


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_numbers_out_of_range_do_too(value):
    with pytest.raises(ValueError, match="share=") as refusal:
        check_number("share", value, "a number within [0, 1]", lambda value: 0 <= value <= 1, 0.5)
    assert str(refusal.value) == f"share={value!r} is out of range: pass a number within [0, 1], such as share=0.5."


def test_truth_is_pythons_or_numpys():
    for value in (True, False, np.True_, np.bool_(False)):
        check_bool("flag", value)
    for value in (1, 0, None, "true", np.array([True])):
        with pytest.raises(TypeError, match="flag=.* is not a bool: pass True or False"):
            check_bool("flag", value)


def test_a_choice_close_to_what_came_is_suggested():
    check_choice("head", "linear", ["linear", "action_in"])
    with pytest.raises(
        ValueError, match=r"head='linaer' is unknown\. Did you mean 'linear'\? Pass one of 'linear', 'action_in'\."
    ):
        check_choice("head", "linaer", iter(["linear", "action_in"]))
    with pytest.raises(ValueError, match=r"head=3 is unknown\. Pass one of 'linear'\."):
        check_choice("head", 3, ["linear"])
    assert did_you_mean("rlo", ["rloo", "expected"]) == " Did you mean 'rloo'?"
    assert did_you_mean("x", ["rloo", "expected"]) == ""
