"""Saves and loads models without running code: a safetensors file with the configuration as JSON in its metadata.

One file, so that weights and configuration cannot be separated, and both are replaced at once or not at all.
safetensors (https://github.com/huggingface/safetensors), since it reads only names, types, shapes and numbers, and many
programs read it. Its metadata are strings: ``gsac`` is the configuration, ``sha256`` the digest of the whole file with
zeros in the digest's place. The digest detects damage. It does not prove who made the file; but no file can make
``from_weights()`` run code.

The tensors are the policy's (``policy.actor...``, ``policy.critic...``, ``policy.critic_target...``) and the entropy
coefficient. The optimisers' state and the replay buffer are not saved: further training starts with new ones.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from gsac.saving.files import atomic_write, existing_file
from gsac.saving.plain_data import from_json, to_json
from gsac.spaces.space_json import space_from_json, space_to_json

SUFFIX = ".safetensors"
FORMAT = 1
NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class Weights:
    """The contents of a file.

    :param path: of the file, for errors
    :param algorithm: name of the algorithm's class
    :param policy: name of the policy, such as ``"MlpPolicy"``; None if it is the user's own class
    :param arguments: of the constructor, without entries that cannot be written as JSON
    :param to_pass: arguments that cannot be written as JSON and must be passed again: name -> how the value looked. A dot in
        the name stands for an entry, as in ``"policy_kwargs.activation_fn"``
    :param counters: ``num_timesteps`` and ``_n_updates`` of the model
    :param tensors: by the names of :func:`tensors_of`
    """

    path: Path
    algorithm: str
    policy: str | None
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    arguments: dict[str, Any]
    to_pass: dict[str, str]
    counters: dict[str, int]
    tensors: dict[str, Tensor]


def write_weights(path: str | os.PathLike[str], model: BaseAlgorithm, arguments: dict[str, Any]) -> None:
    """Writes the model, whole or not at all. A ``path`` without a suffix gets ``.safetensors``.

    :param arguments: of the constructor
    :raises ValueError: a space that cannot be written as JSON
    """
    path = Path(path)
    plain, to_pass = _to_plain_data(arguments)
    policy = next((name for name, kind in model.policy_aliases.items() if kind is model.policy_class), None)
    if policy is None:
        to_pass["policy"] = _description(model.policy_class)
    configuration = {
        "format": FORMAT,
        "algorithm": _algorithm(type(model)),
        "policy": policy,
        "observation_space": space_to_json(model.observation_space),
        "action_space": space_to_json(model.action_space),
        "arguments": plain,
        "to_pass": to_pass,
        "counters": {"num_timesteps": int(model.num_timesteps), "_n_updates": int(model._n_updates)},
    }
    # Copies, as safetensors refuses two names for one tensor, and a shared extractor has two.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors_of(model).items()}
    metadata = {"gsac": json.dumps(configuration, allow_nan=False), "sha256": NO_DIGEST}
    whole = tensors_to_bytes(tensors, metadata)
    assert whole.count(NO_DIGEST.encode()) == 1
    with atomic_write(path if path.suffix else path.with_suffix(SUFFIX)) as file:
        file.write(whole.replace(NO_DIGEST.encode(), hashlib.sha256(whole).hexdigest().encode()))


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Reads a file after checking its digest. No code in it is run.

    :raises ValueError: the file is damaged, has a newer format, or is no file of :func:`write_weights`
    :raises FileNotFoundError: there is no such file
    """
    path = existing_file(path, SUFFIX)
    whole = path.read_bytes()
    metadata = _metadata(path, whole)
    digest = metadata["sha256"].encode()
    if (
        whole.count(digest) != 1
        or hashlib.sha256(whole.replace(digest, NO_DIGEST.encode())).hexdigest().encode() != digest
    ):
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one that was written into it.")
    try:
        read = json.loads(metadata["gsac"])
        if read["format"] != FORMAT:
            raise ValueError(f"it has format {read['format']}, and this version reads {FORMAT}: install a newer gsac")
        return Weights(
            path,
            read["algorithm"],
            read["policy"],
            space_from_json(read["observation_space"]),
            space_from_json(read["action_space"]),
            from_json(read["arguments"]),
            dict(read["to_pass"]),
            {name: int(read["counters"][name]) for name in ("num_timesteps", "_n_updates")},
            tensors_from_bytes(whole),
        )
    except (KeyError, TypeError, AttributeError, RecursionError, SafetensorError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} cannot be read: {reason}.") from None


def merge_arguments(
    weights: Weights, kind: type[BaseAlgorithm], known: Collection[str], saved: Collection[str], given: dict[str, Any]
) -> dict[str, Any]:
    """Merges the file's arguments, ``policy`` among them, with the given ones, which replace them.

    Dictionaries such as ``policy_kwargs`` are merged entry by entry.

    :param known: the constructor's arguments
    :param saved: those of them that a file may hold
    :raises ValueError: the file holds a model of another algorithm, an argument that the class does not have, or lacks
        an argument that is not given
    :raises TypeError: the constructor has no such argument
    """
    if weights.algorithm != _algorithm(kind):
        raise ValueError(
            f"{weights.path} holds a model of {weights.algorithm}: use {weights.algorithm}.from_weights(...)."
        )
    foreign = [name for name in weights.arguments if name not in saved]
    if foreign:
        raise ValueError(
            f"{weights.path} has the argument {foreign[0]!r}, which {kind.__name__} does not take from a file: use the "
            "version or the subclass that wrote it."
        )
    unknown = [name for name in given if name not in known]
    if unknown:
        raise TypeError(f"{kind.__name__} has no argument {unknown[0]!r}: it has {', '.join(known)}.")
    missing = [name for name in weights.to_pass if not _is_given(name, given)]
    if missing:
        first = missing[0].split(".")
        example = f"{first[0]}={{{first[1]!r}: ...}}" if len(first) > 1 else f"{first[0]}=..."
        were = ", ".join(f"{name} (was {weights.to_pass[name]})" for name in missing)
        raise ValueError(
            f"{weights.path} lacks arguments that are no plain data: {were}. Pass them again, as in "
            f"{kind.__name__}.from_weights(path, {example})."
        )
    stored = {"policy": weights.policy} | weights.arguments
    merged = {
        name: stored[name] | value if isinstance(value, dict) and isinstance(stored.get(name), dict) else value
        for name, value in given.items()
    }
    return stored | merged


def restore_weights(weights: Weights, model: BaseAlgorithm, keep: Collection[str] = ()) -> None:
    """Copies the file's tensors and counters into the model.

    :param keep: names of tensors to leave as they are in the model
    :raises ValueError: the file's tensors differ from the model's in names, shapes or types; the model stays as it is
    """
    targets = {name: tensor for name, tensor in tensors_of(model).items() if name not in keep}
    differences = [f"{name} is missing" for name in targets.keys() - weights.tensors.keys()]
    differences += [f"{name} is one too many" for name in weights.tensors.keys() - targets.keys() - {*keep}]
    for name in targets.keys() & weights.tensors.keys():
        ours, theirs = ((tuple(t.shape), t.dtype) for t in (targets[name], weights.tensors[name]))
        if ours != theirs:
            differences.append(f"{name} is {theirs} and not {ours}")
    if differences:
        more = f", and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ValueError(
            f"The tensors in {weights.path} do not fit the networks: {'; '.join(sorted(differences)[:3])}{more}. Pass no "
            "other policy_kwargs than those of the saved model."
        )
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(weights.tensors[name])
    for name, count in weights.counters.items():
        setattr(model, name, count)


def tensors_of(model: BaseAlgorithm) -> dict[str, Tensor]:
    """The policy's tensors and the entropy coefficient by name, not copied."""
    policy: Any = getattr(model.policy, "_orig_mod", model.policy)  # of a compiled one
    variables = {name: reduce(getattr, name.split("."), model) for name in model._get_torch_save_params()[1]}
    return {f"policy.{name}": tensor for name, tensor in policy.state_dict().items()} | variables


def _metadata(path: Path, whole: bytes) -> dict[str, str]:
    """The metadata of a safetensors file.

    :raises ValueError: the file is not a safetensors file of this package
    """
    size = int.from_bytes(whole[:8], "little")
    try:
        metadata = json.loads(whole[8 : 8 + size])["__metadata__"]
        if not isinstance(metadata["gsac"], str) or len(metadata["sha256"]) != len(NO_DIGEST):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        what = "it is a zip file, which load() reads" if whole.startswith(b"PK") else "it is another file, or damaged"
        raise ValueError(
            f"{path} holds no model: {what if whole else 'it is empty'}. Pass a file that save_weights() wrote."
        ) from None
    return metadata


def _to_plain_data(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments as JSON, and a description of those that cannot be written as JSON."""
    plain: dict[str, Any] = {}
    to_pass: dict[str, str] = {}
    for name, value in arguments.items():
        try:
            plain[name] = to_json(value)
        except TypeError:
            entries = value if isinstance(value, dict) and all(isinstance(key, str) for key in value) else {}
            if not entries:
                to_pass[name] = _description(value)
                continue
            plain[name] = {}
            for key, entry in entries.items():
                try:
                    plain[name][key] = to_json(entry)
                except TypeError:
                    to_pass[f"{name}.{key}"] = _description(entry)
    return plain, to_pass


def _description(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if name else repr(value)


def _is_given(name: str, given: dict[str, Any]) -> bool:
    argument, _, entry = name.partition(".")
    return argument in given and (not entry or entry in (given[argument] or {}))


def _algorithm(kind: type[BaseAlgorithm]) -> str:
    """The name of this package's class; of a user's subclass, that of the class it derives from."""
    return next(base.__name__ for base in kind.__mro__ if base.__module__.startswith("gsac."))
