"""Exports a policy to ONNX, to act without PyTorch and without this package.

The graph takes the environment's observations and returns its integer actions. Its inputs, for any batch size B:

- ``observation``, or ``observation.KEY`` for each key of a dictionary: [B, ...] with the space's shape and type. Images
  are passed as they are; the graph scales them and moves the channels to the front;
- ``mask``, if exported with masks: bool [B, D], True where a class may be chosen, group after group. Each group needs a
  True;
- ``noise``, if exported to sample: float32 [B, D], standard exponential variates, drawn anew for each call, such as
  ``numpy.random.default_rng().standard_exponential((B, D), dtype=numpy.float32)``. Minus their logarithm is Gumbel noise,
  and the greatest logit with Gumbel noise is an exact sample of the policy.

The output ``action`` is [B] for ``Discrete`` and [B, G] for several groups. The running statistics of ``VecNormalize``
belong to the environment and are not in the graph: normalise observations by its ``normalize_obs()``.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnvWrapper, VecTransposeImage
from torch import Tensor, nn

from gsac.functional.categorical import FactorisedCategorical
from gsac.networks.actor import Actor
from gsac.saving.files import atomic_write
from gsac.spaces.space_json import space_to_json


def export_onnx(
    model: BaseAlgorithm, path: str | os.PathLike[str], stochastic: bool = False, masks: bool = False
) -> None:
    """Writes the policy to an ONNX file, whole or not at all.

    The file's metadata are ``gsac``, the version; ``actions``, ``"deterministic"`` or ``"stochastic"``; and both spaces as
    JSON. If the model has no environment, the graph expects images with channels first, as in its observation space.

    :param model: a :class:`gsac.GSAC`
    :param path: of the file
    :param stochastic: sample, with an input ``noise``; otherwise take the mode
    :param masks: with an input ``mask`` of the allowed classes
    :raises ValueError: another kind of model
    :raises ImportError: onnx or onnxscript is not installed
    """
    actor: Any = _uncompiled(getattr(model, "actor", None))
    if not isinstance(actor, Actor):
        raise ValueError(f"The policy of {type(model).__name__} cannot be exported: pass a model of GSAC.")
    try:
        import onnx
        import onnxscript  # noqa: F401  # without it torch.onnx fails later with a long message
    except ImportError as error:
        raise ImportError(f'ONNX files need more packages ({error}). Write: pip install "gsac[onnx]"') from None

    actor = copy.deepcopy(actor).cpu()
    actor.set_training_mode(False)
    space = _given_observation_space(model)
    graph = _Graph(actor, space, stochastic, masks)
    examples = graph.examples()
    graph(
        *examples.values()
    )  # fills the caches of constant tensors with real tensors, not the exporter's symbolic ones
    with _quiet():
        program = torch.onnx.export(
            graph,
            tuple(examples.values()),
            dynamo=True,
            verbose=False,
            input_names=list(examples),
            output_names=["action"],
            dynamic_shapes=(tuple({0: torch.export.Dim("batch")} for _ in examples),),
        )
    assert program is not None
    proto = program.model_proto
    metadata = {
        "gsac": version("gsac"),
        "actions": "stochastic" if stochastic else "deterministic",
        "observation_space": json.dumps(space_to_json(space)),
        "action_space": json.dumps(space_to_json(model.action_space)),
    }
    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto)
    with atomic_write(path) as file:
        file.write(proto.SerializeToString())


class _Graph(nn.Module):
    """Maps observations, mask and noise, in this order, to the environment's integer actions.

    :param space: of the observations, before SB3 moves channels
    """

    def __init__(self, actor: Actor, space: spaces.Space[Any], stochastic: bool, masks: bool) -> None:
        super().__init__()
        self.actor = actor
        self.stochastic = stochastic
        self.masks = masks
        inside = actor.observation_space
        self.parts: dict[str, Any] = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
        self.reordered = [
            key
            for key, part in self.parts.items()
            if part.shape != (inside[key] if isinstance(inside, spaces.Dict) else inside).shape
        ]

    def examples(self) -> dict[str, Tensor]:
        """Example inputs by name, with B = 2, since the exporter would take B = 1 for a constant."""
        inputs = {
            f"observation.{key}" if key else "observation": torch.as_tensor(np.zeros((2, *part.shape), part.dtype))
            for key, part in self.parts.items()
        }
        shape = (2, self.actor.codec.groups.flat_size)
        if self.masks:
            inputs["mask"] = torch.ones(shape, dtype=torch.bool)
        if self.stochastic:
            inputs["noise"] = torch.ones(shape)
        return inputs

    def forward(self, *inputs: Tensor) -> Tensor:
        observations = dict(zip(self.parts, inputs, strict=False))
        for key in self.reordered:
            observations[key] = observations[key].permute(0, 3, 1, 2)
        logits = self.actor.distribution(observations.get("", observations)).logits
        mask = inputs[len(self.parts)] if self.masks else None
        policy = FactorisedCategorical(logits, self.actor.codec.groups, mask)
        scores = policy.logits
        if self.stochastic:
            scores = scores - inputs[-1].clamp_min(torch.finfo(torch.float32).tiny).log()
        return self.actor.codec.decode(policy.groups.argmax(scores))


def _given_observation_space(model: BaseAlgorithm) -> spaces.Space[Any]:
    """The observation space of the environment before SB3's VecTransposeImage, which the exported policy does without."""
    env: Any = model.get_env()
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecTransposeImage):
            return env.venv.observation_space
        env = env.venv
    return model.observation_space


def _uncompiled(module: Any) -> Any:
    """The module that ``torch.compile`` wraps, or the module itself."""
    return getattr(module, "_orig_mod", module)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the exporter's log and its warnings about packages that the policy does not need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
