import json
import subprocess
import sys

import pytest

from gsac.experiments.run_file import RunFile

APPEND = """
import sys
from pathlib import Path
from gsac.experiments.run_file import RunFile
for i in range(200):
    RunFile(Path(sys.argv[1])).append({"process": int(sys.argv[2]), "i": i, "long": "x" * 30_000})
"""


@pytest.mark.parametrize("cut", [1, 10, 20])
def test_a_torn_line_is_no_run_and_those_after_it_are(cut, tmp_path):
    file = RunFile(tmp_path / "runs.jsonl")
    file.append({"seed": 0})
    torn = file.path.read_bytes() + json.dumps({"seed": 1, "final": 5.0}).encode()[:cut]
    file.path.write_bytes(torn)
    assert file.read() == [{"seed": 0}]
    assert file.path.read_bytes() == torn, "another process may be about to write the rest"
    file.append({"seed": 2})
    with pytest.warns(UserWarning, match="Line 2 of .* broke off"):
        assert file.read() == [{"seed": 0}, {"seed": 2}]


def test_a_last_line_that_lacks_its_end_of_line_only_is_kept(tmp_path):
    file = RunFile(tmp_path / "runs.jsonl")
    file.path.write_bytes(b'{"seed": 0}\n{"seed": 1}')
    assert file.read() == [{"seed": 0}, {"seed": 1}]
    file.append({"seed": 2})
    assert file.read() == [{"seed": 0}, {"seed": 1}, {"seed": 2}]


def test_no_run_is_lost_where_processes_append_and_others_read(tmp_path):
    path = tmp_path / "runs.jsonl"
    processes = [subprocess.Popen([sys.executable, "-c", APPEND, str(path), str(i)]) for i in range(2)]
    while any(process.poll() is None for process in processes):
        RunFile(path).read()
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted((run["process"], run["i"]) for run in RunFile(path).read()) == [
        (process, i) for process in range(2) for i in range(200)
    ]


def test_a_line_in_the_middle_that_is_no_run_is_named(tmp_path):
    (tmp_path / "runs.jsonl").write_text('{"seed": 0}\nsome notes\n{"seed": 1}\n')
    with pytest.raises(ValueError, match="Line 2 of"):
        RunFile(tmp_path / "runs.jsonl").read()
