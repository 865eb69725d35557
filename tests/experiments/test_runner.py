"""What a run is made with is written down."""

import shutil
import subprocess
from dataclasses import dataclass

import pytest

from gsac.experiments import runner


@dataclass(frozen=True)
class Job:
    seed: int

    def described(self):
        return {"seed": self.seed, "settings": {"b": 1, "a": (2, 3)}}

    def run(self):
        return {"final": 2.0 * self.seed}


def test_a_line_holds_the_description_the_outcome_the_seconds_and_what_it_was_made_with():
    line = runner.execute(Job(3))
    assert {"seed": 3, "final": 6.0}.items() <= line.items()
    assert line["wall_seconds"] >= 0
    assert line["cpu_seconds"] >= 0
    assert line["versions"].keys() >= {"python", "gsac", "torch", "stable-baselines3", "gymnasium", "numpy"}
    assert "cores" in line["machine"]


def test_the_identity_is_the_same_after_a_line_was_written_down():
    line = {"settings": {"b": 1, "a": (2, 3)}, "seed": 0}
    written = {"seed": 0, "final": 1.0, "settings": {"a": [2, 3], "b": 1}}
    names = ("seed", "settings", "missing")
    assert runner.identity_of(line, names) == runner.identity_of(written, names)
    assert runner.identity_of(line, names) != runner.identity_of(line | {"seed": 1}, names)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_repository_that_tracks_the_package(tmp_path, monkeypatch):
    def git(*command):
        options = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path))
        return subprocess.run(["git", *options, *command], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "runner.py").touch()
    monkeypatch.setattr(runner, "__file__", str(tmp_path / "runner.py"))
    git("commit", "-q", "--allow-empty", "-m", "of a project in whose folder the package is installed")
    assert runner.commit() is None
    git("add", "runner.py")
    git("commit", "-q", "-m", "of the package")
    assert runner.commit() == git("rev-parse", "--short", "HEAD")
