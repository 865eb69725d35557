"""The critics: map observations and flat one-hot actions to C values."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from gsac.networks.heads import HEADS, ActionValues
from gsac.networks.observations import preprocessing
from gsac.spaces.codec import ActionCodec


class Critic(BaseModel):
    """C critics on one features extractor, computed together.

    :param net_arch: widths of the hidden layers
    :param features_extractor: observations -> features [B, F]
    :param features_dim: F
    :param activation_fn: between the layers
    :param normalize_images: divide images by 255
    :param n_critics: C
    :param head: how the action enters, a name in :data:`gsac.networks.heads.HEADS`
    :param layer_norm: normalise each hidden layer
    :param share_features_extractor: the extractor is the actor's, and the critics' loss does not train it
    """

    features_extractor: BaseFeaturesExtractor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        n_critics: int = 2,
        head: str = "linear",
        layer_norm: bool = True,
        share_features_extractor: bool = False,
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
        self.n_critics = n_critics
        self.head = head
        self.layer_norm = layer_norm
        self.share_features_extractor = share_features_extractor
        self.codec = ActionCodec(action_space)
        self.q_net = HEADS[head](features_dim, self.codec.groups, net_arch, activation_fn, n_critics, layer_norm)

    def extract_features(self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor) -> Tensor:
        """As in SB3, with the preprocessing chosen once."""
        features: Tensor = features_extractor(self._preprocessing(obs))
        return features

    def action_values(self, obs: PyTorchObs) -> ActionValues:
        """A function from actions to their C values at these observations. No gradient reaches a shared extractor."""
        values: ActionValues = self.q_net(self._features(obs))
        return values

    def forward(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, ...]:
        """The C values as SB3's critics return them, each [B, 1].

        :param actions: flat one-hots (floats) [B, D], or the environment's integers [B], [B, 1] or [B, G]
        """
        one_hot = actions if actions.is_floating_point() else self.codec.encode(actions)
        return tuple(self.action_values(obs)(one_hot).unsqueeze(-1))

    def _features(self, obs: PyTorchObs) -> Tensor:
        if not self.share_features_extractor:
            return self.extract_features(obs, self.features_extractor)
        with torch.no_grad():
            return self.extract_features(obs, self.features_extractor)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "net_arch": self.net_arch,
            "features_extractor": self.features_extractor,
            "features_dim": self.features_dim,
            "activation_fn": self.activation_fn,
            "n_critics": self.n_critics,
            "head": self.head,
            "layer_norm": self.layer_norm,
            "share_features_extractor": self.share_features_extractor,
        }
