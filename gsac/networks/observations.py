"""SB3's preprocessing of observations, chosen once for each space instead of at each forward pass.

At each pass SB3 compares all bounds of an image's space with NumPy, and on the CPU it checks all classes before it makes
one-hots. Both take time, and no compiler can trace them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs
from torch import Tensor

from gsac.functional.groups import Groups, constant_tensor
from gsac.spaces.codec import UnsupportedSpaceError

READABLE = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)

Preprocessing = Callable[[Any], Any]
"""Maps observations, a tensor or a dictionary of tensors, to the input of the features extractor."""


def check_observation_space(space: spaces.Space[Any]) -> None:
    """Raises an error unless networks can read observations of this space.

    :raises UnsupportedSpaceError: neither one of :data:`READABLE` nor a ``Dict`` of them
    """
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    if not all(isinstance(part, READABLE) for part in parts):
        raise UnsupportedSpaceError(
            f"Networks cannot read observations of {space}: they take Box, Discrete, MultiDiscrete and MultiBinary, or a Dict of "
            "such. gymnasium.wrappers.FlattenObservation(env) makes one vector of it, in gsac train "
            "--env-wrapper '\"gymnasium.wrappers.FlattenObservation\"'."
        )


def preprocessing(space: spaces.Space[Any], normalize_images: bool) -> Preprocessing:
    """Makes the function that does what SB3's ``preprocess_obs`` does for this space, with any ``start`` of classes.

    :param normalize_images: divide images by 255
    """
    if isinstance(space, spaces.Dict):
        return partial(_each, {key: preprocessing(part, normalize_images) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return _scaled if normalize_images and isinstance(space, spaces.Box) and is_image_space(space) else _numbers
    if isinstance(space, spaces.Discrete):
        return partial(_one_hot, Groups([int(space.n)]), (int(space.start),))
    if isinstance(space, spaces.MultiDiscrete):
        return partial(_one_hots, Groups(space.nvec.tolist()), tuple(space.start.tolist()))
    return partial(preprocess_obs, observation_space=space)


def _each(parts: dict[str, Preprocessing], observations: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: parts[key](values) for key, values in observations.items()}


def _scaled(observations: Tensor) -> Tensor:
    return observations.float() / 255.0


def _one_hot(groups: Groups, start: tuple[int], classes: Tensor) -> Tensor:
    """[B] or [B, 1] -> [B, n] or [B, 1, n], as ``torch.nn.functional.one_hot``"""
    return _one_hots(groups, start, classes.unsqueeze(-1))


def _one_hots(groups: Groups, start: tuple[int, ...], classes: Tensor) -> Tensor:
    """[B, G] -> [B, D]"""
    classes = classes.long()
    return groups.one_hot(classes - constant_tensor(start, classes.device) if any(start) else classes)


def _numbers(observations: Tensor) -> Tensor:
    return observations.float()
