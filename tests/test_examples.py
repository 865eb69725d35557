"""The programs under examples/ run, and do what they say."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_runs_as_a_program(path, tmp_path):
    result = subprocess.run(
        [sys.executable, str(path), "--timesteps", "1200"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


@pytest.mark.slow
def test_a_million_joint_actions_are_learned():
    assert runpy.run_path(str(EXAMPLES / "many_joint_actions.py"))["main"](timesteps=8_000, seed=11) > 9


@pytest.mark.slow
def test_an_own_estimator_learns():
    """Sums differ in their last digits from processor to processor, and runs with them: far above 22, chance's, must do."""
    assert runpy.run_path(str(EXAMPLES / "own_estimator.py"))["main"](seed=12) >= 300
