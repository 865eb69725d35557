"""Callbacks for SB3's learn(): checkpoints, evaluation with masks, gradient diagnostics."""

from gsac.callbacks.diagnostics import GradientDiagnostics, measure_gradient, measure_gradients

__all__ = [
    "GradientDiagnostics",
    "measure_gradient",
    "measure_gradients",
]  # version 0.1.0 defined them in gsac.callbacks
