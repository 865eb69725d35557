"""A features extractor for images that are too small for SB3's NatureCNN, and the choice between the two."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from torch import Tensor, nn

LEAST_FOR_NATURE_CNN = 36
"""Height and width in pixels below which NatureCNN's third convolution has no input left."""
FILTERS = 16
KERNEL = 3


class SmallCNN(BaseFeaturesExtractor):
    """One convolution with 16 filters of 3x3 and a linear layer, each with a ReLU: [B, C, H, W] -> [B, features_dim]

    The network of MinAtar (Young & Tian 2019, https://arxiv.org/abs/1903.03176), for images of about 10x10 pixels. It
    can be passed to SB3's own algorithms as well, and like SB3's extractors takes images that are scaled and channels
    first.

    :param observation_space: of the images, channels first
    :param features_dim: width of the linear layer
    :raises ValueError: no images, or less than 3 pixels in height or width
    """

    def __init__(self, observation_space: spaces.Space[Any], features_dim: int = 128) -> None:
        shape = observation_space.shape or ()
        if not isinstance(observation_space, spaces.Box) or len(shape) != 3 or min(shape[1:]) < KERNEL:
            raise ValueError(
                f"SmallCNN reads images [channels, height, width] of at least {KERNEL}x{KERNEL} pixels, and the "
                f"observation space is {observation_space}: use MlpPolicy, or another features_extractor_class."
            )
        super().__init__(observation_space, features_dim)
        channels, height, width = shape
        # In place is safe: the outputs of these layers are used nowhere else, nor by their gradients.
        self.cnn = nn.Sequential(nn.Conv2d(channels, FILTERS, KERNEL), nn.ReLU(inplace=True), nn.Flatten())
        n_flat = FILTERS * (height - KERNEL + 1) * (width - KERNEL + 1)
        self.linear = nn.Sequential(nn.Linear(n_flat, features_dim), nn.ReLU(inplace=True))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.linear(self.cnn(images))
        return features


def choose_extractor(
    usual: type[BaseFeaturesExtractor], space: spaces.Space[Any], normalize_images: bool = True
) -> type[BaseFeaturesExtractor]:
    """Chooses the features extractor: ``usual``, or :class:`SmallCNN` for images that are too small for NatureCNN.

    :param space: of the observations, images channels first
    :param normalize_images: whether images are divided by 255, as in the policies
    """
    return SmallCNN if usual is NatureCNN and _too_small(space, normalize_images) else usual


def check_extractor(kind: type[BaseFeaturesExtractor], space: spaces.Space[Any], normalize_images: bool) -> None:
    """Raises an error if the extractor cannot read the images; parameters as in :func:`choose_extractor`.

    :raises ValueError: images that are too small
    """
    if kind is NatureCNN and _too_small(space, normalize_images):
        raise ValueError(
            f"{_too_small_message('the observation space', space)}: leave features_extractor_class out, or pass gsac.SmallCNN."
        )
    if kind is CombinedExtractor and isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            if _too_small(part, normalize_images):
                raise ValueError(
                    f"{_too_small_message(f'the observation {key!r}', part)}: pass a features_extractor_class of your own, in "
                    "which gsac.SmallCNN may read it, or enlarge the image."
                )


def _too_small(space: spaces.Space[Any], normalize_images: bool) -> bool:
    if not isinstance(space, spaces.Box) or not is_image_space(space, normalized_image=not normalize_images):
        return False
    return min(space.shape[1:]) < LEAST_FOR_NATURE_CNN


def _too_small_message(what: str, space: spaces.Space[Any]) -> str:
    assert space.shape is not None
    least, (_, height, width) = LEAST_FOR_NATURE_CNN, space.shape
    return f"NatureCNN reads images of at least {least}x{least} pixels, and {what} has {height}x{width}"
