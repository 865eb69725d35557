"""``gsac export``: writes a trained model to an ONNX or a safetensors file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gsac.cli.messages import one_line_errors
from gsac.experiments.models import load_to_export
from gsac.saving.onnx_export import export_onnx
from gsac.saving.weights import SUFFIX


@dataclass
class Export:
    """Write a trained model to a file that acts without PyTorch (ONNX), or to one that holds no code (safetensors)."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")]
    """A run's folder, or a model's .zip or .safetensors file."""
    onnx: Path | None = None
    """The ONNX file to write: its input is the observation, its output an action of the environment."""
    stochastic: tyro.conf.FlagCreatePairsOff[bool] = False
    """Sample actions in the ONNX file, with noise as a further input, in place of the most probable ones."""
    masks: tyro.conf.FlagCreatePairsOff[bool] = False
    """Add a mask of the allowed classes to the inputs of the ONNX file."""
    weights: Path | None = None
    """The .safetensors file to write, for GSAC.from_weights()."""
    env: str | None = None
    """The environment; None reads it from config.json beside the model. Only models of images need it, for the order of
    their channels."""
    algo: str | None = None
    """The algorithm; None reads it from the file or config.json, and takes gsac if neither names it."""

    def run(self) -> None:
        """Writes the files that are asked for."""
        with one_line_errors(ValueError, ImportError, OSError):
            if self.onnx is None and (self.stochastic or self.masks):
                raise ValueError("--stochastic and --masks change the ONNX file only: pass --onnx FILE.onnx.")
            if self.onnx is None and self.weights is None:
                raise ValueError(
                    "No file is named to write to: pass --onnx FILE.onnx, --weights FILE.safetensors, or both."
                )
            if self.weights is not None and self.weights.suffix != SUFFIX:
                raise ValueError(f"--weights {self.weights} has another suffix than {SUFFIX}: pass FILE{SUFFIX}.")
            model = load_to_export(self.path, self.env, self.algo)
            if self.onnx is not None:
                export_onnx(model, self.onnx, self.stochastic, self.masks)
                print(f"{self.onnx}: {'stochastic' if self.stochastic else 'deterministic'} actions")
            if self.weights is not None:
                model.save_weights(self.weights)
                print(f"{self.weights}: networks and arguments")
