"""The README's commands and code are those that work."""

import re
import shlex
from inspect import signature
from pathlib import Path

import pytest
import readme
from gymnasium import spaces
from problems import Allowed

import gsac
from gsac.algorithms.arguments import BASELINES
from gsac.cli import main as cli
from gsac.learning.acceleration import MODES
from gsac.networks.heads import HEADS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


TEXTS = "".join(document.read_text() for document in readme.DOCUMENTS)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXTS, re.DOTALL)


def commands(start):
    lines = (line.split("  #")[0].strip() for block in blocks("bash") for line in block.splitlines())
    return [line for line in lines if line.startswith(start)]


def trained_with_masks():
    env = Allowed(spaces.Discrete(5), 2)
    observation, _ = env.reset()
    return {"model": gsac.GSAC("MlpPolicy", env), "env": env, "observation": observation}


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip().splitlines()[-1])
def test_python_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(
        code.replace("15_000", "1_200").replace("tuned.total_timesteps", "1_200"),
        trained_with_masks() if "action_masks" in code else {},
    )


def test_ci_runs_the_readmes_test_command_as_it_stands():
    (command,) = [line for line in commands("pip install") if "[test]" in line]
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_train_and_evaluate_commands_are_understood():
    lines = [line for block in commands("pip install") + commands("gsac ") for line in block.split(" && ")]
    lines = [line for line in lines if line.startswith("gsac ")]
    assert len(lines) >= 3
    for line in lines:
        cli.parse(shlex.split(line)[1:])


def test_every_argument_and_value_that_it_names_exists():
    names = set(re.findall(r'`"?([a-z_]+)"?`', README.split("## Temperature")[1].split("## Command line")[0]))
    kinds = (gsac.GSAC, gsac.MlpPolicy, gsac.PrioritizedReplayBuffer)
    arguments = {name for kind in kinds for name in signature(kind.__init__).parameters}
    assert names <= arguments | {"auto", *gsac.ESTIMATORS, *HEADS, *MODES}
    assert {*gsac.ESTIMATORS, *MODES} <= names


def test_every_argument_and_baseline_of_reinforce_that_it_names_exists():
    names = set(re.findall(r'`"?([a-z_]+)"?`', README.split("## REINFORCE")[1].split("## Results")[0]))
    assert names <= {*signature(gsac.REINFORCE.__init__).parameters, *BASELINES}
    assert set(BASELINES) <= names


def test_the_constraints_hold_every_dependency():
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    project = (ROOT / "pyproject.toml").read_text()
    listed = project.split("[project.optional-dependencies]")[0].split("dependencies = [")[1].split("]")[0]
    assert {re.match(r"[\w-]+", name)[0].lower() for name in re.findall(r'"([^"]+)"', listed)} <= pinned


@pytest.mark.parametrize("document", readme.DOCUMENTS, ids=lambda path: path.name)
def test_the_tables_are_those_of_the_result_files(document):
    assert readme.filled(document.read_text()) == document.read_text()


def test_every_table_is_shown():
    shown = "".join(document.read_text() for document in readme.DOCUMENTS)
    assert [name for name in readme.TABLES if f"<!-- {name} -->" not in shown] == []


def test_every_file_that_a_document_links_to_is_there():
    for document in readme.DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert link.startswith("https://") or (document.parent / link).exists(), link
