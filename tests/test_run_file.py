import json

import pytest

from gsac.run_file import RunFile


@pytest.mark.parametrize("cut", [1, 10, 20])
def test_a_torn_last_line_is_cut_off_and_one_that_lacks_its_end_of_line_only_is_kept(cut, tmp_path):
    file = RunFile(tmp_path / "runs.jsonl")
    file.append({"seed": 0})
    whole = file.path.read_bytes()
    file.path.write_bytes(whole + json.dumps({"seed": 1, "final": 5.0}).encode()[:cut])
    assert file.read() == [{"seed": 0}]
    assert file.path.read_bytes() == whole
    file.path.write_bytes(whole + b'{"seed": 1}')
    assert file.read() == [{"seed": 0}, {"seed": 1}]
    file.append({"seed": 2})
    assert file.read() == [{"seed": 0}, {"seed": 1}, {"seed": 2}]


def test_a_line_in_the_middle_that_is_no_run_is_named(tmp_path):
    (tmp_path / "runs.jsonl").write_text('{"seed": 0}\nsome notes\n{"seed": 1}\n')
    with pytest.raises(ValueError, match="Line 2 of"):
        RunFile(tmp_path / "runs.jsonl").read()
