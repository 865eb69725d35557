import os
import signal
import subprocess
import sys
import time

import pytest

from gsac.saving.files import atomic_write

WRITER = """
import sys
from gsac.saving.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"new" * 1000)
    file.flush()
    print("halfway", flush=True)
    import time; time.sleep(60)
"""


def test_a_killed_process_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.zip"
    path.write_bytes(b"old")
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"halfway\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert path.read_bytes() == b"old"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "model.zip"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="full"), atomic_write(path) as file:
        file.write(b"new")
        raise RuntimeError("full")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.zip"]


def test_a_finished_file_replaces_the_old_one_and_folders_are_made(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    for content in (b"first", b"second"):
        with atomic_write(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    assert time.time() - path.stat().st_mtime < 60
