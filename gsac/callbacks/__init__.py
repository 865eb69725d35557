"""Callbacks for SB3's learn(): checkpoints, evaluation with masks, gradient diagnostics."""
