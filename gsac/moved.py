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
    "gsac.minatar": "gsac.envs.minatar",
    "gsac.onnx_export": "gsac.saving.onnx_export",
    "gsac.optimizer": "gsac.optim.adam",
    "gsac.peers": "gsac.experiments.peers",
    "gsac.policies": "gsac.networks.policies",
    "gsac.presets": "gsac.experiments.presets",
    "gsac.run_file": "gsac.experiments.run_file",
    "gsac.space_json": "gsac.spaces.space_json",
    "gsac.training": "gsac.learning",
    "gsac.training.batch": "gsac.replay.batch",
    "gsac.training.episodes": "gsac.replay.episodes",
    "gsac.training.learner": "gsac.learning.learner",
    "gsac.training.masks": "gsac.replay.masks",
    "gsac.training.n_step": "gsac.replay.n_step",
    "gsac.training.prioritized": "gsac.replay.prioritized",
    "gsac.training.replay": "gsac.replay.device_buffer",
    "gsac.training.sum_tree": "gsac.replay.sum_tree",
    "gsac.wrappers": "gsac.envs.wrappers",
}
"""Old name -> new name. Model files hold pickled references to classes by module, and YAML files name wrappers by it."""


class _MovedModules(MetaPathFinder, Loader):
    """Fills a module of an old name with everything that the new module defines."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_loader(fullname, self, is_package=True) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        new = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is now {new}: write that instead.", DeprecationWarning, stacklevel=2)
        defined = vars(import_module(new)).items()
        vars(module).update({name: value for name, value in defined if not name.startswith("__")})


def install() -> None:
    """Makes the old names importable. Calling it again changes nothing."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
