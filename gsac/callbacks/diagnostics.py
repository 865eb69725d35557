"""Measures the quality of the actor's gradient during training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from gsac.algorithms.gsac import GSAC
from gsac.checks import AT_LEAST_1, check_number, is_at_least_1
from gsac.estimators import Estimator
from gsac.estimators.exact import expected, local_expectation
from gsac.estimators.quality import GradientQuality, gradient_quality

MAX_EXACT = 256
"""The most joint actions for which the reference is the exact gradient; beyond, it is a mean over local expectations."""


class GradientDiagnostics(BaseCallback):
    """Logs during training how far the estimator's gradient is from the exact one.

    Each measurement takes the current networks and a batch from the replay buffer, and logs ``gradient/relative_bias``,
    ``gradient/cosine`` and ``gradient/snr`` (see :class:`~gsac.estimators.quality.GradientQuality`) of the gradient of E[q]
    with respect to the actor's parameters. Exact means exact for the critics' q, which may itself be wrong. Beyond 256 joint
    actions, a mean over local expectations takes the place of the exact gradient.

    The measurements do not change the run: random generators are put back. One costs ``samples`` gradients of the actor,
    and one reference gradient, or beyond 256 joint actions ``samples``, each with sum K_g critic evaluations. It takes the
    memory of one update.

    :param every: environment steps between measurements
    :param samples: gradients in a measurement, at least 2; the error of the bias falls as one over their root
    :param batch_size: transitions; ``batch_size`` of the model if None
    :param verbose: 1 prints each measurement
    :raises TypeError: (in ``learn()``) the model is no GSAC
    """

    def __init__(self, every: int = 2000, samples: int = 32, batch_size: int | None = None, verbose: int = 0) -> None:
        super().__init__(verbose)
        check_number("every", every, AT_LEAST_1, is_at_least_1, 2000)
        check_number("samples", samples, "a whole number of at least 2", lambda value: value >= 2, 32)
        if batch_size is not None:
            check_number("batch_size", batch_size, AT_LEAST_1, is_at_least_1, 128)
        self.every, self.samples, self.batch_size = every, samples, batch_size
        self._next = every

    def _init_callback(self) -> None:
        if not isinstance(self.model, GSAC):
            raise TypeError(
                f"GradientDiagnostics measures the estimators of a GSAC model, and this is a {type(self.model).__name__}."
            )
        self._next = (self.model.num_timesteps // self.every + 1) * self.every

    def _on_step(self) -> bool:
        assert isinstance(self.model, GSAC)
        if self.num_timesteps >= self._next:
            self._next = (self.num_timesteps // self.every + 1) * self.every
            if self.model._n_updates > 0:
                self._report(measure_gradient(self.model, self.samples, self.batch_size))
        return True

    def _report(self, found: GradientQuality) -> None:
        for name in ("relative_bias", "cosine", "snr"):
            self.logger.record(f"gradient/{name}", getattr(found, name))
        if self.verbose > 0:
            print(
                f"{self.num_timesteps} steps: relative bias {found.relative_bias:.3f}, cosine {found.cosine:.3f}, "
                f"signal-to-noise ratio {found.snr:.3g}"
            )


def measure_gradient(model: GSAC, samples: int = 32, batch_size: int | None = None) -> GradientQuality:
    """Measures the model's estimator on its current networks and a batch from its replay buffer.

    :param samples: gradients, at least 2
    :param batch_size: transitions; ``batch_size`` of the model if None
    """
    return measure_gradients(model, [model.learner.objective.estimator], samples, batch_size)[0]


def measure_gradients(
    model: GSAC, estimators: Sequence[Estimator], samples: int = 32, batch_size: int | None = None
) -> list[GradientQuality]:
    """Measures estimators on the model's current networks, all on the same batch from its replay buffer.

    :param samples: gradients of each estimator, at least 2
    :param batch_size: transitions; ``batch_size`` of the model if None
    """
    learner = model.learner
    model.policy.set_training_mode(False)
    with _generators_restored(model.device):
        batch = model.sample_batch(batch_size or model.batch_size)
        parameters = [parameter for parameter in model.actor.parameters() if parameter.requires_grad]
        policy = learner.actor.distribution(batch.observations, batch.masks)
        q = learner.action_value(batch.observations)

        def gradients(estimator: Estimator, n: int) -> Tensor:
            """[n, P]"""
            return torch.stack([gradient(estimator) for _ in range(n)])

        def gradient(estimator: Estimator) -> Tensor:
            value = estimator(policy, q, learner.temperature).mean()
            parts = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
            return torch.cat([part.flatten() for part in parts])

        if policy.groups.n_joint <= MAX_EXACT:
            reference = gradients(expected, 1)
        else:
            reference = gradients(local_expectation, samples)
        return [gradient_quality(gradients(estimator, samples), reference) for estimator in estimators]


@contextmanager
def _generators_restored(device: torch.device) -> Iterator[None]:
    """Puts the random generators of PyTorch and NumPy back after the block."""
    state = np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            np.random.set_state(state)
