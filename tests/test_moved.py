"""Names of version 0.1.0 that code and files still use."""

import subprocess
import sys
from importlib import import_module

import pytest

from gsac import GradientDiagnostics, moved
from gsac.envs.wrappers import EpisodeStatistics

MODULES = [
    "action_codec", "algorithms", "algorithms.archive", "algorithms.arguments", "algorithms.base",
    "algorithms.gsac", "algorithms.plain_data", "algorithms.reinforce", "algorithms.weights", "callbacks",
    "checkpoint", "cli", "compare", "curves", "estimators", "estimators.base", "estimators.exact",
    "estimators.pathwise", "estimators.quality", "estimators.score", "experiment", "files", "flags",
    "functional", "functional.categorical", "functional.groups", "functional.losses", "functional.relaxation",
    "functional.returns", "minatar", "networks", "networks.actor", "networks.critic", "networks.ensemble",
    "networks.heads", "networks.observations", "networks.small_cnn", "onnx_export", "optimizer", "peers",
    "policies", "presets", "processes", "run_file", "schedules", "space_json", "training",
    "training.acceleration", "training.batch", "training.descent", "training.device_reads",
    "training.device_rows", "training.episodes", "training.learner", "training.masks", "training.metrics",
    "training.n_step", "training.prioritized", "training.replay", "training.replay_memory", "training.sum_tree",
    "training.threads", "wrappers", "zoo",
]  # fmt: skip


pytestmark = pytest.mark.filterwarnings("ignore:gsac.* is now gsac:DeprecationWarning")


@pytest.fixture
def forgotten(monkeypatch):
    """The old modules as if nobody had imported them yet."""
    for name in [*moved.MOVED, moved.EMPTY_PACKAGE]:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_of_version_0_1_0_can_be_imported(name):
    assert import_module(f"gsac.{name}").__name__ == f"gsac.{name}"


@pytest.mark.parametrize(("old", "new"), moved.MOVED.items(), ids=list(moved.MOVED))
def test_old_modules_define_the_same_objects(old, new):
    before, now = vars(import_module(old)), vars(import_module(new))
    public = {name for name in now if not name.startswith("__")}
    assert public
    assert all(before[name] is now[name] for name in public)


def test_a_renamed_class_is_found_under_its_old_name():
    assert import_module("gsac.wrappers").ToldEpisodes is EpisodeStatistics


@pytest.mark.parametrize(
    "code",
    ["import gsac.wrappers", "from gsac.wrappers import DiscretizeAction", "from gsac import wrappers"],
)
def test_code_that_imports_an_old_name_is_told_the_new_one(code, forgotten, monkeypatch):
    monkeypatch.delattr("gsac.wrappers", raising=False)
    with pytest.warns(DeprecationWarning, match=r"gsac\.wrappers is now gsac\.envs\.wrappers: import that") as caught:
        exec(compile(code, "their_script.py", "exec"), {})
    assert [warning.filename for warning in caught] == ["their_script.py"]


@pytest.mark.parametrize(
    "read",
    [
        "from stable_baselines3.common.save_util import load_from_pkl; load_from_pkl(file)",
        "import pickle; pickle._loads(file.getvalue())",
        "from gsac.envs.wrappers import _wrapper_class; _wrapper_class('gsac.wrappers.DiscretizeAction')",
    ],
    ids=["pickle in C", "pickle in Python", "a name in a YAML file"],
)
def test_reading_a_file_with_old_names_prints_nothing(read):
    code = f"""import gsac, io, sys
file = io.BytesIO({b"cgsac.wrappers" + bytes([10]) + b"DiscretizeAction" + bytes([10]) + b"."!r})
{read}
assert "gsac.wrappers" in sys.modules"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_gsac_callbacks_defines_what_the_module_of_that_name_defined():
    from gsac import callbacks

    assert callbacks.GradientDiagnostics is GradientDiagnostics
    assert {"measure_gradient", "measure_gradients"} <= set(vars(callbacks))


def test_names_that_were_never_there_are_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"gsac\.nothing"):
        import_module("gsac.nothing")
    with pytest.raises(ModuleNotFoundError, match=r"gsac\.training\.nothing"):
        import_module("gsac.training.nothing")


def test_installing_again_changes_nothing():
    before = list(sys.meta_path)
    moved.install()
    assert sys.meta_path == before


def test_importing_gsac_imports_no_old_name():
    code = f"import gsac, sys; print([name for name in {list(moved.MOVED)!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
