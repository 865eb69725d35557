"""The policies that users name: actor and critics, with the optimisers, as one SB3 policy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
    get_actor_critic_arch,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from gsac.networks.actor import Actor
from gsac.networks.critic import Critic
from gsac.networks.heads import HEADS, fitting_head
from gsac.networks.small_cnn import check_extractor, fitting_extractor
from gsac.optim.adam import FusedAdam
from gsac.spaces.codec import ActionCodec


class GSACPolicy(BasePolicy):
    """Actor, twin critics and their targets for a discrete action space.

    The parameters are those of SB3's off-policy policies, and two more that say how the critics are built. The buffers
    ``lowest_value`` and ``highest_value`` [] are what the rewards seen in training can add up to, see
    :func:`gsac.functional.losses.value_range`, and 0, as an episode may end anywhere.

    :param lr_schedule: remaining progress -> learning rate; the optimisers start with its value at 1
    :param net_arch: widths of the hidden layers, a list for both or ``dict(pi=[...], qf=[...])``; [64, 64] by default
    :param activation_fn: between the layers
    :param features_extractor_class: observation -> features; by default the class's own
    :param features_extractor_kwargs: for its constructor
    :param normalize_images: divide images by 255
    :param optimizer_class: of actor and critics; by default :class:`gsac.optim.adam.FusedAdam`
    :param optimizer_kwargs: for its constructor, without the learning rate
    :param n_critics: how many critics
    :param share_features_extractor: one extractor for actor and critics, which learns from the actor's loss alone
    :param critic_head: how the critics read the action: ``"linear"``, a value for each class, summed over the groups;
        ``"action_in"``, an MLP over features and action; ``"auto"``, the first for ``Discrete`` actions, the second for
        several choices at once
    :param critic_layer_norm: layer normalisation in the critics
    :raises ValueError: a number of critics below 1, an unknown head, or images that are too small for the extractor
    """

    features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor
    actor: Actor
    critic: Critic
    critic_target: Critic
    lowest_value: Tensor
    highest_value: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = FusedAdam,
        optimizer_kwargs: dict[str, Any] | None = None,
        n_critics: int = 2,
        share_features_extractor: bool = False,
        critic_head: str = "auto",
        critic_layer_norm: bool = True,
    ) -> None:
        usual = fitting_extractor(type(self).features_extractor_class, observation_space, normalize_images)
        check_extractor(features_extractor_class or usual, observation_space, normalize_images)
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class or usual,
            features_extractor_kwargs,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            normalize_images=normalize_images,
        )
        if isinstance(n_critics, bool) or not isinstance(n_critics, int | np.integer) or n_critics < 1:
            raise ValueError(
                f"n_critics={n_critics!r} critics cannot be built: pass a whole number of at least 1, such as 2."
            )
        if isinstance(activation_fn, str):
            raise TypeError(f"activation_fn={activation_fn!r} is no class of modules: pass one, such as torch.nn.Tanh.")
        if critic_head not in ("auto", *HEADS):
            names = ", ".join(map(repr, ("auto", *HEADS)))
            raise ValueError(f"critic_head={critic_head!r} is unknown: pass one of {names}.")
        self.net_arch = [64, 64] if net_arch is None else net_arch
        self.activation_fn = activation_fn
        self.n_critics = int(n_critics)
        self.share_features_extractor = share_features_extractor
        self.critic_head = critic_head
        self.critic_layer_norm = critic_layer_norm
        self._build(lr_schedule)

    def _build(self, lr_schedule: Schedule) -> None:
        self.actor = self.make_actor()
        self.critic = self.make_critic(self.actor.features_extractor if self.share_features_extractor else None)
        self.critic_target = self.make_critic()
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.critic_target.set_training_mode(False)
        # With the weights they go wherever those go: into files, and into another model.
        for name in ("lowest_value", "highest_value"):
            self.register_buffer(name, torch.zeros((), device=self.device))

        self.actor.optimizer = self._make_optimizer(self.actor.parameters(), lr_schedule)
        own = self.critic.q_net if self.share_features_extractor else self.critic
        self.critic.optimizer = self._make_optimizer(own.parameters(), lr_schedule)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """An actor with its own extractor, or with the given one."""
        pi_arch, _ = get_actor_critic_arch(self.net_arch)
        kwargs = self._update_features_extractor({**self._network_kwargs(), "net_arch": pi_arch}, features_extractor)
        return Actor(**kwargs).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Critic:
        """Critics with an extractor of their own, or with the actor's, which they then do not train."""
        _, qf_arch = get_actor_critic_arch(self.net_arch)
        kwargs = self._update_features_extractor({**self._network_kwargs(), "net_arch": qf_arch}, features_extractor)
        return Critic(
            **kwargs,
            n_critics=self.n_critics,
            head=fitting_head(ActionCodec(self.action_space).groups)
            if self.critic_head == "auto"
            else self.critic_head,
            layer_norm=self.critic_layer_norm,
            share_features_extractor=features_extractor is not None,
        ).to(self.device)

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> Tensor:
        """The env's own integers: the mode, or an exact sample. [B] for ``Discrete``, else [B, G]"""
        return self._predict(obs, deterministic)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return self.actor(observation, deterministic)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
        noise: Tensor | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """The action in a state, as SB3's policies give it, within ``action_masks``, bool [D] or [n, D], if given.

        :param noise: standard Gumbel noise [n, D] that decides what is sampled; fresh if None. The same noise again is
            the same choice wherever the policy is the same
        :raises ValueError: masks of another shape or number, or one that allows nothing
        """
        if isinstance(observation, tuple):
            return super().predict(observation, state, episode_start, deterministic)  # says what is wrong with it
        self._switch(self.actor, False)
        obs, vectorized = self.obs_to_tensor(observation)
        masks = None if action_masks is None else self._mask_tensor(action_masks, obs)
        with torch.no_grad():
            actions = self.actor(obs, deterministic, masks, None if noise is None else noise.to(self.device))
        in_space = actions.cpu().numpy().reshape(-1, *self.action_space.shape)  # type: ignore[misc]
        return (in_space if vectorized else in_space.squeeze(axis=0)), state

    def _mask_tensor(self, action_masks: np.ndarray, obs: PyTorchObs) -> Tensor:
        n = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
        masks = self.actor.codec.check_masks(action_masks if np.ndim(action_masks) > 1 else [action_masks])
        if len(masks) != n:
            raise ValueError(f"{len(masks)} action_masks do not go with {n} observations: pass one for each.")
        return torch.as_tensor(masks, device=self.device)

    def set_training_mode(self, mode: bool) -> None:
        """Switches actor and critics. The targets stay in evaluation mode."""
        for part in (self.actor, self.critic):
            self._switch(part, mode)
        self.training = mode

    @staticmethod
    def _switch(part: Actor | Critic, mode: bool) -> None:
        # To walk through a small network takes longer than to evaluate it.
        if part.training != mode:
            part.set_training_mode(mode)

    def _make_optimizer(self, parameters: Any, lr_schedule: Schedule) -> torch.optim.Optimizer:
        return self.optimizer_class(parameters, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _network_kwargs(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "activation_fn": self.activation_fn,
            "normalize_images": self.normalize_images,
        }

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "lr_schedule": self._dummy_schedule,  # a policy loaded alone is not trained by its optimisers
            "net_arch": self.net_arch,
            "activation_fn": self.activation_fn,
            "features_extractor_class": self.features_extractor_class,
            "features_extractor_kwargs": self.features_extractor_kwargs,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
            "n_critics": self.n_critics,
            "share_features_extractor": self.share_features_extractor,
            "critic_head": self.critic_head,
            "critic_layer_norm": self.critic_layer_norm,
        }


MlpPolicy = GSACPolicy


class CnnPolicy(GSACPolicy):
    """:class:`GSACPolicy` for images.

    By default SB3's ``NatureCNN`` reads them; where they are smaller than 36 pixels on a side, which it refuses,
    :class:`gsac.SmallCNN` does.
    """

    features_extractor_class = NatureCNN


class MultiInputPolicy(GSACPolicy):
    """:class:`GSACPolicy` for dictionaries of observations."""

    features_extractor_class = CombinedExtractor
