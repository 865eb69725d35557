import json

import numpy as np
import pytest
from gymnasium import spaces

from gsac.spaces.space_json import space_from_json, space_to_json


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (2, 3)),
        spaces.Box(np.array([-1.1, -np.inf], np.float32), np.array([0.1, 1 / 3], np.float32)),
        spaces.Box(-np.pi, np.inf, (), np.float64),
        spaces.Box(0, 255, (3, 4, 1), np.uint8),
        spaces.Box(-(2**62), 2**62 + 1, (2,), np.int64),
        spaces.Discrete(5, start=-3),
        spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [2, -3]]),
        spaces.MultiDiscrete([2, 3], dtype=np.int32),
        spaces.MultiBinary(3),
        spaces.MultiBinary([2, 3]),
        spaces.Dict(
            {"z": spaces.Discrete(2), "a": spaces.Dict({"b": spaces.Box(0, 1, (1,)), "a": spaces.MultiBinary(2)})}
        ),
    ],
    ids=str,
)
def test_spaces_come_back_exactly(space):
    back = space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False)))
    assert back == space
    assert back.dtype == space.dtype
    if isinstance(space, spaces.Box):
        assert np.array_equal(back.low, space.low)
        assert np.array_equal(back.high, space.high)
        assert back.low.dtype == space.low.dtype
    if isinstance(space, spaces.Dict):
        assert list(back.spaces) == list(space.spaces)


def test_spaces_without_a_form_in_json_are_refused():
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        space_to_json(spaces.Text(3))
