import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs

from gsac.networks.observations import preprocessing

IMAGE = spaces.Box(0, 255, (3, 8, 8), np.uint8)
SPACES = [
    spaces.Box(-1, 1, (4,), np.float64),
    spaces.Box(0, 200, (3, 8, 8), np.uint8),
    IMAGE,
    spaces.Discrete(5),
    spaces.MultiDiscrete([2, 3, 3]),
    spaces.MultiBinary(4),
    spaces.MultiBinary((2, 3)),
    spaces.Dict({"image": IMAGE, "number": spaces.Discrete(3), "vector": spaces.Box(0, 1, (2,))}),
]


@pytest.mark.parametrize("normalize_images", [True, False])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_same_as_sb3s_preprocessing(space, normalize_images):
    drawn = [space.sample() for _ in range(6)]
    if isinstance(space, spaces.Dict):
        observations = {key: torch.as_tensor(np.stack([each[key] for each in drawn])) for key in space.spaces}
    else:
        observations = torch.as_tensor(np.stack(drawn))
    ours = preprocessing(space, normalize_images)(observations)
    theirs = preprocess_obs(observations, space, normalize_images)
    for a, b in zip(*(each.values() if isinstance(each, dict) else [each] for each in (ours, theirs)), strict=True):
        assert a.equal(b)
        assert a.dtype == b.dtype


def test_classes_that_do_not_start_at_0():
    several = preprocessing(spaces.MultiDiscrete([3, 2], start=[1, 0]), True)
    assert several(torch.tensor([[3, 0], [1, 1]])).tolist() == [[0, 0, 1, 1, 0], [1, 0, 0, 0, 1]]
    assert preprocessing(spaces.Discrete(3, start=-1), True)(torch.tensor([1])).tolist() == [[0, 0, 1]]


def test_classes_as_a_buffer_keeps_them():
    stored = torch.tensor([[0], [2], [4]])
    ours, theirs = preprocessing(spaces.Discrete(5), True)(stored), preprocess_obs(stored, spaces.Discrete(5))
    assert ours.shape == theirs.shape == (3, 1, 5)
    assert ours.equal(theirs)
