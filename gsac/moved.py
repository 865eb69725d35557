"""Imports modules under the names they had in version 0.1.0, so that files and code that use those names still work."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

MOVED = {
    "gsac.action_codec": "gsac.spaces.codec",
    "gsac.algorithms.archive": "gsac.saving.archive",
    "gsac.algorithms.plain_data": "gsac.saving.plain_data",
    "gsac.algorithms.weights": "gsac.saving.weights",
    "gsac.checkpoint": "gsac.callbacks.checkpoint",
    "gsac.compare": "gsac.experiments.compare",
    "gsac.curves": "gsac.experiments.curves",
    "gsac.experiment": "gsac.experiments.run",
    "gsac.files": "gsac.saving.files",
    "gsac.flags": "gsac.cli.flags",
    "gsac.minatar": "gsac.envs.minatar",
    "gsac.onnx_export": "gsac.saving.onnx_export",
    "gsac.optimizer": "gsac.optim.adam",
    "gsac.peers": "gsac.experiments.peers",
    "gsac.policies": "gsac.networks.policies",
    "gsac.presets": "gsac.experiments.presets",
    "gsac.processes": "gsac.experiments.processes",
    "gsac.run_file": "gsac.experiments.run_file",
    "gsac.space_json": "gsac.spaces.space_json",
    "gsac.training.acceleration": "gsac.learning.acceleration",
    "gsac.training.batch": "gsac.replay.batch",
    "gsac.training.descent": "gsac.optim.descent",
    "gsac.training.device_reads": "gsac.learning.device_reads",
    "gsac.training.device_rows": "gsac.replay.device_rows",
    "gsac.training.episodes": "gsac.replay.episodes",
    "gsac.training.learner": "gsac.learning.learner",
    "gsac.training.masks": "gsac.replay.masks",
    "gsac.training.metrics": "gsac.learning.metrics",
    "gsac.training.n_step": "gsac.replay.n_step",
    "gsac.training.prioritized": "gsac.replay.prioritized",
    "gsac.training.replay": "gsac.replay.device_buffer",
    "gsac.training.replay_memory": "gsac.replay.storage",
    "gsac.training.sum_tree": "gsac.replay.sum_tree",
    "gsac.training.threads": "gsac.learning.threads",
    "gsac.wrappers": "gsac.envs.wrappers",
}
"""Old name -> new name of a module. Pickled files and YAML files name classes by their module."""

RENAMED = {
    "gsac.checkpoint": {"_Trimmed": "gsac.saving.snapshot:Trimmed"},
    "gsac.wrappers": {"ToldEpisodes": "gsac.envs.wrappers:EpisodeStatistics"},
}
"""Old module -> old name of a class -> ``"module:Class"`` now, for renamed classes that pickled files may refer to."""

EMPTY_PACKAGE = "gsac.training"
"""A package that no longer exists; of its modules, :data:`MOVED` has the new names."""


class _MovedModules(MetaPathFinder, Loader):
    """Finds and loads modules by their old names; each gets everything that the new module defines."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in MOVED or fullname == EMPTY_PACKAGE:
            return spec_from_loader(fullname, self, is_package=fullname == EMPTY_PACKAGE)
        return None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        if old == EMPTY_PACKAGE:
            return
        # Python hides this warning unless the import stands in the user's script or test. If a file is unpickled, the import
        # stands in the module that reads it.
        warnings.warn(f"{old} is now {MOVED[old]}: import that instead.", DeprecationWarning, stacklevel=2)
        new = import_module(MOVED[old])
        vars(module).update({name: value for name, value in vars(new).items() if not name.startswith("__")})
        for old_class, place in RENAMED.get(old, {}).items():
            new_module, _, new_class = place.partition(":")
            setattr(module, old_class, getattr(import_module(new_module), new_class))


def install() -> None:
    """Registers the finder of old names with Python's import system, unless it is registered already."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
