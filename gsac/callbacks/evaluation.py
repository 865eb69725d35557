"""Evaluation within action masks, by SB3's own ``evaluate_policy`` and ``EvalCallback``."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import VecEnv

from gsac.algorithms.gsac import GSAC
from gsac.algorithms.masking import METHOD, supports_masks


class MaskedModel:
    """Passes the environment's action masks to the model's ``predict()``; all other attributes are the model's.

    SB3's ``evaluate_policy`` knows no masks; given this in the model's place, it obeys them. sb3-contrib's own
    ``evaluate_policy`` does the same with GSAC, but is no dependency of this package.
    """

    def __init__(self, model: GSAC, env: VecEnv) -> None:
        self._model, self._env = model, env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, observation: Any, **kwargs: Any) -> Any:
        """See :meth:`gsac.GSAC.predict`."""
        return self._model.predict(observation, **kwargs, action_masks=np.stack(self._env.env_method(METHOD)))


def masked(model: BaseAlgorithm, env: VecEnv) -> Any:
    """Wraps a GSAC in :class:`MaskedModel` if the environment has masks; returns other models as they are."""
    return MaskedModel(model, env) if isinstance(model, GSAC) and supports_masks(env) else model


class EvalWithMasksCallback(EvalCallback):
    """SB3's ``EvalCallback``, which obeys the action masks of the evaluation environment if it has any.

    :param first_seed: of the environment at the first evaluation, 1 more at each that follows, so that an evaluation does
        not depend on those before it; None leaves the environment's generator as it is
    """

    def __init__(self, *args: Any, first_seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first_seed = first_seed

    def _on_step(self) -> bool:
        if self.first_seed is not None and self.eval_freq > 0 and self.n_calls % self.eval_freq == 0:
            self.eval_env.seed(self.first_seed + self.n_calls // self.eval_freq - 1)
        return super()._on_step()

    def init_callback(self, model: BaseAlgorithm) -> None:
        """Gives the callback the model, so that it obeys the masks of the evaluation environment."""
        super().init_callback(masked(model, self.eval_env))
