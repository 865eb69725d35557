"""Whole runs: training into a folder, evaluation, presets, many runs by a file of results, and the comparison of algorithms.

No command-line parsing.
"""
