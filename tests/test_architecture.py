"""Imports point down only, and the floors below know nothing of what stands above them."""

import ast
from pathlib import Path

import pytest

import gsac

PACKAGE = Path(gsac.__file__).parent
FLOORS = {
    "functional": 0,
    "schedules": 0,
    "files": 0,
    "estimators": 1,
    "action_codec": 2,
    "space_json": 2,
    "networks": 2,
    "optimizer": 2,
    "policies": 2,
    "wrappers": 2,
    "training": 3,
    "algorithms": 4,
    "callbacks": 4,
    "checkpoint": 4,
    "experiment": 5,
    "onnx_export": 5,
    "peers": 5,
    "presets": 5,
    "processes": 5,
    "run_file": 5,
    "compare": 5,
    "curves": 5,
    "cli": 5,
    "flags": 5,
    "minatar": 5,
    "zoo": 5,
}
NOT_BELOW_2 = {"stable_baselines3", "gymnasium", "numpy"}
NOT_ON_3 = (
    "stable_baselines3.common.logger",
    "stable_baselines3.common.vec_env",
    "stable_baselines3.common.off_policy",
)
OUTSIDE_ONLY = {"tyro", "rich", "tqdm", "tensorboard", "ray", "rl_zoo3", "matplotlib", "rliable", "yaml", "minatar"}
OUTSIDE_ONLY |= {"onnx", "onnxruntime", "onnxscript"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which floor it reaches"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(path):
    return FLOORS[path.relative_to(PACKAGE).parts[0].removesuffix(".py")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = floor(path)
    for name in imported(path):
        top, *rest = name.split(".")
        if top == "gsac":
            assert rest[0] in FLOORS, f"{path.name} imports {name}: name the module, not the package"
            assert FLOORS[rest[0]] <= here, f"{path.name} on floor {here} imports {name} on floor {FLOORS[rest[0]]}"
        if here < 2:
            assert top not in NOT_BELOW_2, f"{path.name} on floor {here} imports {name}"
            assert not name.startswith(("torch.optim", "torch.distributions"))
        if here == 3:
            assert not name.startswith(NOT_ON_3), f"{path.name} imports {name}"
        if here < 5:
            assert top not in OUTSIDE_ONLY, f"{path.name} on floor {here} imports {name}"


def test_the_maths_imports_nothing_but_torch_and_the_standard_library():
    for path in MODULES:
        if floor(path) < 2:
            tops = {name.split(".")[0] for name in imported(path)}
            allowed = {"gsac", "torch", "__future__", "collections", "dataclasses", "difflib", "functools", "itertools"}
            assert tops <= allowed | {"math", "numbers", "typing", "os", "contextlib", "glob", "io", "pathlib", "re"}, (
                path
            )


def test_files_are_short_and_named_after_what_is_inside():
    for path in MODULES:
        assert len(path.read_text().splitlines()) <= 400, f"{path} is more than one idea"
        assert path.stem not in {"utils", "common", "helpers", "misc"}
