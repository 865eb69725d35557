"""Whole runs on disk: training, evaluation, presets, and the comparison of algorithms. No command-line parsing."""
