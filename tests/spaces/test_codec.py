import numpy as np
import pytest
import torch
from gymnasium import spaces

from gsac.spaces.codec import ActionCodec

SPACES = [
    spaces.Discrete(4),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 5, 3]),
    spaces.MultiDiscrete([2, 3], start=[1, -4]),
    spaces.MultiBinary(5),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_round_trip(space):
    space.seed(0)
    codec = ActionCodec(space)
    actions = torch.as_tensor(np.array([space.sample() for _ in range(50)]))
    one_hot = codec.encode(actions)
    assert codec.groups.sum(one_hot).eq(1).all()
    decoded = codec.decode(codec.groups.argmax(one_hot))
    assert decoded.equal(actions)
    assert all(space.contains(action) for action in decoded.numpy())


def test_by_hand():
    assert ActionCodec(spaces.Discrete(3, start=5)).encode(torch.tensor([[6]])).tolist() == [[0, 1, 0]]
    assert ActionCodec(spaces.MultiBinary(2)).encode(torch.tensor([[1, 0]], dtype=torch.int8)).tolist() == [
        [0, 1, 1, 0]
    ]
    assert ActionCodec(spaces.MultiDiscrete([2, 3])).encode(torch.tensor([[1, 2]])).tolist() == [[0, 1, 0, 0, 1]]


@pytest.mark.parametrize(
    ("space", "advice"),
    [
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), r"MultiDiscrete\(\[2, 3, 4, 5\]\)"),
        (spaces.MultiDiscrete([[2, 3], [2, 2]], start=[[1, 0], [5, 0]]), r"\(\[2, 3, 2, 2\], start=\[1, 0, 5, 0\]\)"),
        (spaces.MultiBinary([2, 3]), r"MultiBinary\(6\)"),
    ],
)
def test_spaces_of_two_dimensions_are_refused_with_a_wrapper_to_use(space, advice):
    with pytest.raises(ValueError, match=rf"TransformAction.*{advice}"):
        ActionCodec(space)


def test_a_size_in_a_list_is_refused_with_the_number_to_write():
    with pytest.raises(ValueError, match=r"has its size in a list.*write MultiBinary\(3\)"):
        ActionCodec(spaces.MultiBinary([3]))
