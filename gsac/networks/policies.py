"""The policies that users name: actor, critics and their optimisers as one SB3 policy."""

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

from gsac.checks import AT_LEAST_1, check_choice, check_number, is_at_least_1
from gsac.networks.actor import Actor
from gsac.networks.critic import Critic
from gsac.networks.heads import HEADS, choose_head
from gsac.networks.small_cnn import check_extractor, choose_extractor
from gsac.optim.adam import FusedAdam
from gsac.spaces.codec import ActionCodec


class GSACPolicy(BasePolicy):
    """Actor, twin critics and target critics for a discrete action space.

    The parameters are those of SB3's off-policy policies and two more for the critics. The buffers ``lowest_value`` and
    ``highest_value`` [] are the range of the returns seen in training, 0 included since an episode may end anywhere; see
    :func:`gsac.functional.losses.value_range`.

    :param lr_schedule: remaining progress -> learning rate; the optimisers start with its value at 1
    :param net_arch: widths of the hidden layers, one list for all networks or ``dict(pi=[...], qf=[...])`` for actor and
        critics; by default [64, 64]. Widen them, such as to [256, 256], for observations of dozens of numbers and more;
        it costs time on a CPU
    :param activation_fn: class of the activation between the layers. SB3's SAC uses ``ReLU`` as well; ``Tanh`` is common
        in on-policy methods
    :param features_extractor_class: observations -> features; by default the policy's own class attribute. Pass your own
        for images or dictionaries that need another network
    :param features_extractor_kwargs: for its constructor, such as ``dict(features_dim=256)``
    :param normalize_images: divide images by 255. Pass False if they are scaled already
    :param optimizer_class: of actor and critics; by default :class:`gsac.optim.adam.FusedAdam`. Others make an update
        slower and cannot be captured as a CUDA graph
    :param optimizer_kwargs: for its constructor, without the learning rate, such as ``dict(weight_decay=1e-4)``
    :param n_critics: C. The target takes their mean or minimum: more lower the minimum further, against values that are
        too high; 1 saves time if values are not overestimated
    :param share_features_extractor: one extractor for actor and critics, trained by the actor's loss only. Saves time and
        memory with large images; with False the critics train an extractor of their own
    :param critic_head: how the action enters the critics. ``"linear"``: a value for each class, summed over the groups.
        ``"action_in"``: an MLP over features and action. ``"auto"``: linear for one group, ``Discrete``, and action_in
        for several. Pass ``"linear"`` for several groups whose effects add up: it is faster and has no interactions
    :param critic_layer_norm: layer normalisation in the critics, which keeps values from diverging at many updates for
        each step. Pass False to compare with SAC as published
    :raises TypeError: an argument of another kind
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
        usual = choose_extractor(type(self).features_extractor_class, observation_space, normalize_images)
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
        check_number("n_critics", n_critics, AT_LEAST_1, is_at_least_1, 2)
        check_choice("critic_head", critic_head, ("auto", *HEADS))
        if isinstance(activation_fn, str):
            raise TypeError(f"activation_fn={activation_fn!r} is not a class: pass one, such as torch.nn.Tanh.")
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
        # Buffers are saved, loaded and copied together with the weights.
        for name in ("lowest_value", "highest_value"):
            self.register_buffer(name, torch.zeros((), device=self.device))

        self.actor.optimizer = self._make_optimizer(self.actor.parameters(), lr_schedule)
        own = self.critic.q_net if self.share_features_extractor else self.critic
        self.critic.optimizer = self._make_optimizer(own.parameters(), lr_schedule)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """Makes an actor with a new features extractor, or with the given one."""
        pi_arch, _ = get_actor_critic_arch(self.net_arch)
        kwargs = self._update_features_extractor({**self._network_kwargs(), "net_arch": pi_arch}, features_extractor)
        return Actor(**kwargs).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Critic:
        """Makes critics with a new features extractor, or with the actor's, which they then do not train."""
        _, qf_arch = get_actor_critic_arch(self.net_arch)
        kwargs = self._update_features_extractor({**self._network_kwargs(), "net_arch": qf_arch}, features_extractor)
        return Critic(
            **kwargs,
            n_critics=self.n_critics,
            head=choose_head(ActionCodec(self.action_space).groups) if self.critic_head == "auto" else self.critic_head,
            layer_norm=self.critic_layer_norm,
            share_features_extractor=features_extractor is not None,
        ).to(self.device)

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> Tensor:
        """The environment's integer actions: the mode, or an exact sample. [B] for ``Discrete``, else [B, G]"""
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
        """The actions at one or n observations, as SB3's policies return them.

        :param action_masks: bool [D] or [n, D], True where a class may be chosen
        :param noise: standard Gumbel noise [n, D] that is added to the logits to sample; drawn if None. The same noise
            gives the same action as long as the policy is the same
        :raises ValueError: masks of another shape or number, or one that allows nothing
        """
        if isinstance(observation, tuple):
            return super().predict(observation, state, episode_start, deterministic)  # raises SB3's error
        self._set_mode_of(self.actor, False)
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
            raise ValueError(f"{len(masks)} action_masks do not fit {n} observations: pass one for each.")
        return torch.as_tensor(masks, device=self.device)

    def set_training_mode(self, mode: bool) -> None:
        """Sets training or evaluation mode of actor and critics; the target critics stay in evaluation mode."""
        for part in (self.actor, self.critic):
            self._set_mode_of(part, mode)
        self.training = mode

    @staticmethod
    def _set_mode_of(part: Actor | Critic, mode: bool) -> None:
        # Only if it changes, as visiting all modules of a small network takes longer than evaluating it.
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
            "lr_schedule": self._dummy_schedule,  # a policy that is loaded without its algorithm is not trained
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

    The features extractor is SB3's ``NatureCNN`` by default, and :class:`gsac.SmallCNN` for images of less than 36 pixels
    in height or width, which NatureCNN cannot read.
    """

    features_extractor_class = NatureCNN


class MultiInputPolicy(GSACPolicy):
    """:class:`GSACPolicy` for dictionaries of observations."""

    features_extractor_class = CombinedExtractor
