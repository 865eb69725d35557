"""The actor: maps observations to the logits of the policy."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from gsac.functional.categorical import FactorisedCategorical
from gsac.networks.observations import preprocessing
from gsac.spaces.codec import ActionCodec


class Actor(BasePolicy):
    """Maps observations to logits [B, D] for the groups of a discrete action space.

    It can be saved, loaded and exported without the critics, as SB3's policies can.

    :param net_arch: widths of the hidden layers
    :param features_extractor: observations -> features [B, F]
    :param features_dim: F
    :param activation_fn: between the layers
    :param normalize_images: divide images by 255
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            features_extractor=features_extractor,
            normalize_images=normalize_images,
        )
        self._preprocessing = preprocessing(observation_space, normalize_images)
        self.net_arch = net_arch
        self.features_dim = features_dim
        self.activation_fn = activation_fn
        self.codec = ActionCodec(action_space)
        self.logits = nn.Sequential(*create_mlp(features_dim, self.codec.groups.flat_size, net_arch, activation_fn))

    def extract_features(self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor) -> Tensor:
        """As in SB3, with the preprocessing chosen once."""
        features: Tensor = features_extractor(self._preprocessing(obs))
        return features

    def distribution(self, obs: PyTorchObs, masks: Tensor | None = None) -> FactorisedCategorical:
        """The policy at a batch of observations; with masks, bool [B, D], only allowed classes have a probability."""
        features = self.extract_features(obs, self.features_extractor)
        return FactorisedCategorical(self.logits(features), self.codec.groups, masks)

    def forward(
        self,
        obs: PyTorchObs,
        deterministic: bool = False,
        masks: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """The environment's integer actions. [B] for ``Discrete``, else [B, G]

        :param deterministic: take the mode; otherwise an exact sample
        :param masks: bool [B, D], True where a class may be chosen
        :param noise: standard Gumbel noise [B, D] that is added to the logits to sample; drawn if None
        """
        policy = self.distribution(obs, masks)
        return self.codec.decode(policy.mode_classes() if deterministic else policy.sample_classes(noise=noise))

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return self(observation, deterministic)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "net_arch": self.net_arch,
            "features_extractor": self.features_extractor,
            "features_dim": self.features_dim,
            "activation_fn": self.activation_fn,
        }
