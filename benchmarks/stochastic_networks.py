"""Networks with layers of categorical latent variables, trained by an estimator of ``gsac``.

In an actor-critic, q is frozen while the policy learns. Here q is log p(pixels | latent), and what lies behind the
latent has to learn too. So a step has one backward pass for each layer: an estimator's values train the layer whose
policy it was given and nothing else, and all that follows learns at the estimator's own sample, held fixed. Its gradient
is then that of the plain log-likelihood, whatever the estimator does with q: weigh it, or ask without a gradient.
The sample of Gumbel-Softmax is relaxed, so its decoder learns at relaxed samples, as in Jang et al. 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gsac import FactorisedCategorical
from gsac.estimators import ActionValue, Estimator
from gsac.functional.groups import Groups
from gsac.functional.relaxation import straight_through


def slope_annealed(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Q at an exact one-hot sample, whose gradient is that of softmax(logits / temperature). [B]

    The slope, 1 / temperature, grows from 1 during training, so that the softmax approaches the sample. Chung et al. 2016,
    https://arxiv.org/abs/1609.01704, have it for binary units; with classes, the sigmoid becomes the softmax.
    """
    return q(straight_through(policy.sample(), policy.groups.softmax(policy.logits / temperature)))


class RecordingValue:
    """A value function that records the first sample at which an estimator evaluates it; later layers learn at this sample.

    It records one sample for each row of the batch, also if the estimator draws several. ``expected`` draws none: it evaluates
    every action.

    :param value: [..., B, D] -> [..., B]
    """

    def __init__(self, value: ActionValue, groups: Groups) -> None:
        self.value = value
        self.groups = groups
        self.sample: Tensor | None = None

    def __call__(self, latent: Tensor) -> Tensor:
        self._remember(latent)
        return self.value(latent)

    def neighbours(self, latent: Tensor) -> Tensor:
        """As :func:`gsac.estimators.base.neighbours`; the sample is ``latent``, not one of its neighbours."""
        self._remember(latent)
        return self.value(self.groups.neighbours(latent)).movedim(0, -1)

    def _remember(self, latent: Tensor) -> None:
        if self.sample is None:
            self.sample = latent.detach().flatten(0, -3)[0] if latent.dim() > 2 else latent.detach()


class StochasticNetwork(nn.Module):
    """Input -> layers of categorical latents, each the input of the next -> decoder -> logits of binary pixels.

    :param layers: modules whose outputs are the logits of ``sizes``; the first takes the input, the others one-hots
    :param sizes: the classes of each latent variable of a layer
    :param decoder: one-hots [..., D] -> logits of the pixels [..., P]
    :param prior: whether the first layer's divergence from the uniform distribution counts as loss, as in a VAE
    """

    def __init__(self, layers: Sequence[nn.Module], sizes: Sequence[int], decoder: nn.Module, prior: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.groups = Groups(sizes)
        self.decoder = decoder
        self.prior = prior

    def policy(self, layer: int, given: Tensor) -> FactorisedCategorical:
        return FactorisedCategorical(self.layers[layer](given), self.groups)

    def log_likelihood(self, latent: Tensor, pixels: Tensor) -> Tensor:
        """log p(pixels | latent) of the last layer, in nats. [..., B, D], [B, P] -> [..., B]"""
        logits = self.decoder(latent)
        return (pixels * logits - F.softplus(logits)).sum(-1)

    def divergence(self, policy: FactorisedCategorical) -> Tensor:
        """KL(policy || uniform), in nats. [...]"""
        return math.log(self.groups.n_joint) - policy.entropy()

    def step(self, given: Tensor, pixels: Tensor, estimator: Estimator, temperature: Tensor) -> None:
        """Adds a one-sample estimate of the loss's gradient, averaged over the batch, to the parameters' ``grad``.

        The layers behind a latent are sampled anew when it is their turn to learn; that leaves the mean of every
        gradient as it is. [B, ...], [B, P]
        """
        for index, layer in enumerate(self.layers):
            policy, q = self.policy(index, given), self._value_of(index, pixels, estimator, temperature)
            loss = -estimator(policy, q, temperature)
            if self.prior and index == 0:
                loss = loss + self.divergence(policy)
            loss.mean().backward(inputs=list(layer.parameters()))
            assert q.sample is not None
            given = q.sample
        loss = -self.log_likelihood(given, pixels)
        loss.mean().backward(inputs=list(self.decoder.parameters()))

    @torch.no_grad()
    def losses(self, given: Tensor, pixels: Tensor, samples: int) -> Tensor:
        """The loss of each image in nats, by exact samples. [B]

        With the prior the negative evidence lower bound, its divergence exact; without it the negative log-likelihood,
        -log mean p(pixels | sample), which with few samples lies above the true one.
        """
        first = self.policy(0, given)
        parts = []
        for start in range(0, samples, 100):  # to bound the memory
            latent = first.sample(min(100, samples - start))
            for index in range(1, len(self.layers)):
                latent = self.policy(index, latent).sample()
            parts.append(self.log_likelihood(latent, pixels))
        values = torch.cat(parts)
        if self.prior:
            return self.divergence(first) - values.mean(0)
        return math.log(samples) - values.logsumexp(0)

    def _value_of(self, index: int, pixels: Tensor, estimator: Estimator, temperature: Tensor) -> RecordingValue:
        """The value function of a layer: the log-likelihood of its latent, estimated by one sample of the next layers."""

        def value(latent: Tensor) -> Tensor:
            if index + 1 == len(self.layers):
                return self.log_likelihood(latent, pixels)
            policy, q = self.policy(index + 1, latent), self._value_of(index + 1, pixels, estimator, temperature)
            if torch.is_grad_enabled():
                return estimator(policy, q, temperature)
            return q(policy.sample())

        return RecordingValue(value, self.groups)
