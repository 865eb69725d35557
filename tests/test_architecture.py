"""Imports point down, rooms keep their private attributes to themselves, and public names are documented."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

import gsac

ROOT = Path(gsac.__file__).parents[1]
PACKAGE = ROOT / "gsac"
ROOMS = (
    *("checks", "functional", "schedules", "estimators", "optim", "spaces", "envs", "networks", "replay", "learning"),
    *("saving", "algorithms", "callbacks", "experiments", "cli", "zoo"),
)
"""From the lowest to the highest: a module imports its own room and those before it."""
ABOVE_THE_ALGORITHMS = ROOMS[ROOMS.index("callbacks") :]
ALONE = {"moved"}
"""Imports nothing of the package, and is installed by ``gsac/__init__.py``."""

STANDARD_LIBRARY_OF_THE_MATHS = {
    *("__future__", "collections", "contextlib", "dataclasses", "difflib", "functools", "itertools", "math", "numbers"),
    *("re", "typing"),
}
MATHS = {"functional", "schedules", "estimators", "checks"}
NOT_IN_UPDATES = (
    "stable_baselines3.common.logger",
    "stable_baselines3.common.vec_env",
    "stable_baselines3.common.off_policy",
)
OPTIONAL = {"tyro", "rich", "tqdm", "ray", "rl_zoo3", "matplotlib", "rliable", "scipy", "yaml", "sb3_contrib"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which room it reaches"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def identified(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=identified)
def test_imports_point_down(path):
    here = room(path)
    assert here in ROOMS or here in ALONE, f"{here} is not in the table of rooms"
    for name in imported(path):
        top, *rest = name.split(".")
        if top == "gsac":
            assert rest[0] in ROOMS, f"{path.name} imports {name}: name the module, not the package"
            assert ROOMS.index(rest[0]) <= ROOMS.index(here), f"{path.name} in {here} imports {name} from above"


@pytest.mark.parametrize("path", MODULES, ids=identified)
def test_other_packages_are_imported_where_they_belong(path):
    here = room(path)
    for name in imported(path):
        top = name.split(".")[0]
        if here in MATHS:
            assert top in STANDARD_LIBRARY_OF_THE_MATHS | {"gsac", "torch"}, f"{path.name} imports {name}"
            assert not name.startswith(("torch.optim", "torch.distributions")), f"{path.name} imports {name}"
        if here in ("replay", "learning"):
            assert not name.startswith(NOT_IN_UPDATES), f"{path.name} imports {name}"
        if here not in ABOVE_THE_ALGORITHMS:
            assert top not in OPTIONAL, f"{path.name} imports {name}"


@pytest.mark.parametrize("folder", [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"])
def test_every_room_says_in_its_first_sentence_what_belongs_there(folder):
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def defined_privately(tree: ast.AST) -> Iterator[str]:
    """The private names that a module defines: functions, classes, attributes of ``self``, fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def used_privately(tree: ast.AST) -> Iterator[str]:
    """The private names that a module takes from other objects than ``self``, or imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute | ast.Call):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gsac"):
            yield from (alias.name for alias in node.names)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


OWNERS: dict[str, set[str]] = {}
"""Private name -> the rooms that define it."""
for _path in MODULES:
    for _name in filter(is_private, defined_privately(ast.parse(_path.read_text()))):
        OWNERS.setdefault(_name, set()).add(room(_path))
INHERITED = set(dir(OffPolicyAlgorithm)) | set(dir(OnPolicyAlgorithm)) | {"_orig_mod"}
INHERITED |= {"_n_updates", "_vec_normalize_env", "_last_obs", "_last_episode_starts", "_stats_window_size"}
"""Hooks and attributes of SB3 and PyTorch, which everyone may use."""


@pytest.mark.parametrize(
    "path", [*MODULES, *sorted((ROOT / "benchmarks").glob("*.py"))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_private_attributes_stay_in_their_room(path):
    here = room(path) if path.is_relative_to(PACKAGE) else "benchmarks"
    for name in filter(is_private, used_privately(ast.parse(path.read_text()))):
        owners = OWNERS.get(name, set())
        assert not owners or here in owners or name in INHERITED, f"{path.name} uses {name} of {', '.join(owners)}"


def test_every_public_name_has_a_docstring_and_stands_in_the_documentation():
    pages = "".join(page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
    for name in gsac.__all__:
        if name.startswith("__"):
            continue
        value = getattr(gsac, name)
        if callable(value):
            assert inspect.getdoc(value), f"{name} has no docstring"
        assert re.search(rf"\b{name}\b", pages), f"no page names {name}"


def test_files_are_named_after_what_is_inside():
    assert [path for path in MODULES if path.stem in {"utils", "common", "helpers", "misc"}] == []
