"""README and docs/: their code runs, their commands parse, their links lead somewhere, and what they name exists."""

import ast
import importlib
import re
import shlex
from inspect import signature
from itertools import pairwise
from pathlib import Path

import pytest
import readme
from environments import Allowed
from gymnasium import spaces
from markdown_it import MarkdownIt
from stable_baselines3.common.logger import KVWriter, Logger
from test_architecture import ROOMS

import gsac
from gsac.algorithms.arguments import ARGUMENTS, BASELINES
from gsac.cli import main as cli
from gsac.envs.wrappers import DiscretizeAction
from gsac.estimators import resolve_estimator, score
from gsac.experiments.presets import Preset, preset, read
from gsac.learning.acceleration import MODES
from gsac.learning.learner import TARGETS
from gsac.networks.heads import HEADS
from gsac.schedules import parse_schedule

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
MEASURED = {"results.md", "speed.md", "estimators-measured.md"}
MANUAL = [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in MEASURED]


def named(page):
    return str(page.relative_to(ROOT))


def tokens(page):
    """All of a page's tokens of Markdown, those within lines included."""
    for token in MarkdownIt().enable("table").parse(page.read_text()):
        yield token
        yield from token.children or ()


def blocks(page, language):
    return [token.content for token in tokens(page) if token.type == "fence" and token.info == language]


def inline_code(page):
    return [token.content for token in tokens(page) if token.type == "code_inline"]


def links(page):
    for token in tokens(page):
        if token.type in ("link_open", "image"):
            yield token.attrs["href" if token.type == "link_open" else "src"]


def anchors(page):
    """The names by which GitHub links to a page's headings."""
    for token, content in pairwise(MarkdownIt().enable("table").parse(page.read_text())):
        if token.type == "heading_open":
            text = "".join(child.content for child in content.children)
            yield re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def commands(start):
    lines = (
        line.split("  #")[0].strip()
        for page in readme.DOCUMENTS
        for block in blocks(page, "bash")
        for line in block.splitlines()
    )
    return [line for line in lines if line.startswith(start)]


PYTHON = [(page, code) for page in readme.DOCUMENTS for code in blocks(page, "python")]


def trained_with_masks():
    env = Allowed(spaces.Discrete(5), 2)
    observation, _ = env.reset()
    return {"model": gsac.GSAC("MlpPolicy", env), "env": env, "observation": observation}


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[named(page) for page, _ in PYTHON])
def test_python_runs(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(
        code.replace("15_000", "1_200").replace("tuned.total_timesteps", "1_200"),
        trained_with_masks() if "action_masks" in code else {},
    )


def test_the_readme_fits_on_two_screens():
    assert len(README.read_bytes()) <= 8192


def test_the_readme_has_ten_lines_of_python():
    (code,) = blocks(README, "python")
    assert len([line for line in code.splitlines() if line]) <= 10


def test_ci_runs_the_readmes_test_command_as_it_stands():
    (command,) = {line for block in blocks(README, "bash") for line in block.splitlines() if "[test]" in line}
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def commands_of_ours():
    lines = [line for block in commands("pip install") + commands("gsac ") for line in block.split(" && ")]
    yield from (line for line in lines if line.startswith("gsac "))
    for page in readme.DOCUMENTS:
        for code in inline_code(page):
            if re.match(r"gsac \w+ (--resume )?(ENV|FOLDER|\w+-v\d)", code) and "--help" not in code:
                yield code.replace("ENV", "CartPole-v1")


def test_commands_are_understood():
    lines = list(commands_of_ours())
    assert len(lines) >= 20
    for line in lines:
        cli.parse(shlex.split(line)[1:])


def test_programs_that_pages_name_exist():
    spans = [code for page in readme.DOCUMENTS for code in (*inline_code(page), *blocks(page, "bash"))]
    programs = {program for code in spans for program in re.findall(r"python ([\w/]+\.py)", code)}
    assert len(programs) >= 5
    assert [program for program in programs if not (ROOT / program).exists()] == []


def test_files_and_modules_that_pages_name_exist():
    for page in readme.DOCUMENTS:
        for code in inline_code(page):
            room = re.fullmatch(r"gsac/(\w+)(/|\.py)", code)
            if re.fullmatch(r"(gsac|tests|benchmarks|examples|docs)/[\w/.]*", code) and not (room and room[1] in ROOMS):
                assert (ROOT / code).exists(), f"{named(page)}: {code}"
            if re.fullmatch(r"gsac(\.\w+)+", code):
                module, _, name = code.rpartition(".")
                assert hasattr(importlib.import_module(module), name) or importlib.import_module(code), code


@pytest.mark.parametrize("page", [*readme.DOCUMENTS, ROOT / "CHANGELOG.md"], ids=named)
def test_links_lead_somewhere(page):
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{link}: there is no such file"
        assert not anchor or anchor in set(anchors(there)), f"{link}: {there.name} has no such heading"


def test_every_page_is_in_a_table_of_contents():
    for page in (ROOT / "docs").rglob("*.md"):
        contents = page.parent / "README.md"
        if page != contents:
            assert page.name in {link.partition("#")[0] for link in links(contents)}, (
                f"{contents} does not link to {page}"
            )


@pytest.mark.parametrize("page", readme.DOCUMENTS, ids=named)
def test_headings_have_anchors_of_their_own(page):
    found = list(anchors(page))
    assert len(found) == len(set(found))


def defaults_of(page, heading):
    """Argument -> default, from the table below the heading; None where there is no default."""
    section = page.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)? *\|", section, re.MULTILINE)
    return {name: ast.literal_eval(default) if default else None for name, default in rows}


@pytest.mark.parametrize(("heading", "algorithm"), [("GSAC", gsac.GSAC), ("REINFORCE arguments", gsac.REINFORCE)])
def test_every_argument_is_listed_with_its_default(heading, algorithm):
    arguments = {
        name: None if parameter.default is parameter.empty else parameter.default
        for name, parameter in signature(algorithm.__init__).parameters.items()
        if name != "self" and not name.startswith("_")
    }
    assert defaults_of(ROOT / "docs" / "arguments.md", heading) == arguments


VALUES = {"auto", "cpu", "episode", *HEADS, *score.BASELINES, *gsac.GSAC.policy_aliases}
VALUES |= {choice for argument in ARGUMENTS.values() for choice in argument.choices}


def is_value(text):
    """Whether some argument takes this string."""
    if text in VALUES:
        return True
    if re.fullmatch(r"auto_[\d.]+", text):
        return True
    for understood in (lambda: resolve_estimator(text, linear=True), lambda: parse_schedule(text)):
        try:
            understood()
        except ValueError:
            continue
        return True
    return False


@pytest.mark.parametrize("page", MANUAL, ids=named)
def test_values_that_a_page_names_exist(page):
    values = {code.strip('"') for code in inline_code(page) if re.fullmatch(r'"[^"]*"', code)}
    values |= {value for code in inline_code(page) for value in re.findall(r'[=:] ?"([^"]*)"', code)}
    placeholders = {value for value in values if re.search(r"\b(START|END|V|A)\b", value)}
    assert [value for value in values - placeholders if not is_value(value)] == []


KNOWN = {*gsac.ESTIMATORS, "evaluate_policy", "reward_threshold", "slope_annealed"}
for _kind in (
    *(gsac.GSAC, gsac.REINFORCE, gsac.MlpPolicy, gsac.PrioritizedReplayBuffer, gsac.Checkpoint, gsac.resume, Preset),
    *(gsac.GSAC.learn, gsac.GSAC.predict, gsac.GSAC.from_weights, gsac.GradientDiagnostics, DiscretizeAction),
    *(gsac.RLOO, gsac.Mixed, gsac.Reinforce, gsac.MlpPolicy.predict),
):
    KNOWN |= signature(_kind).parameters.keys()


@pytest.mark.parametrize("page", readme.DOCUMENTS, ids=named)
def test_arguments_that_a_page_names_exist(page):
    names = {code for code in inline_code(page) if re.fullmatch(r"[a-z]+(_[a-z]+)+", code)}
    names |= {
        name
        for code in inline_code(page)
        if "python " not in code
        for name in re.findall(r"(?<![\w.-])([a-z_]+)=", code)
    }
    assert names <= KNOWN


class Keys(KVWriter):
    """Remembers under which names something was logged."""

    def __init__(self):
        self.seen = set()

    def write(self, key_values, key_excluded, step=0):
        self.seen |= key_values.keys()

    def close(self):
        pass


def test_keys_of_the_log_that_pages_name_are_logged():
    keys = Keys()
    model = gsac.GSAC("MlpPolicy", "CartPole-v1", bound_targets=True, learning_starts=50, seed=0)
    model.set_logger(Logger(None, [keys]))
    model.learn(300, log_interval=1, callback=gsac.GradientDiagnostics(every=100, samples=2))
    named_keys = {
        code for page in MANUAL for code in inline_code(page) if re.fullmatch(r"(train|rollout|gradient)/\w+", code)
    }
    assert len(named_keys) >= 5
    assert named_keys <= keys.seen


def test_every_estimator_head_mode_target_and_baseline_is_documented():
    text = {page.name: "\n".join(inline_code(page)) for page in MANUAL}
    for page, names in (
        ("estimators.md", (*gsac.ESTIMATORS, *HEADS)),
        ("acceleration.md", ("auto", *MODES)),
        ("entropy.md", TARGETS),
        ("reinforce.md", BASELINES),
    ):
        assert [name for name in names if f'"{name}"' not in text[page]] == []


def test_every_argument_of_the_policy_and_of_prioritised_replay_is_documented():
    for page, kind in (("estimators.md", gsac.MlpPolicy), ("replay.md", gsac.PrioritizedReplayBuffer)):
        names = signature(kind).parameters.keys() - {
            "lr_schedule",
            "observation_space",
            "action_space",
            "device",
            "n_envs",
        }
        text = " ".join(inline_code(ROOT / "docs" / page))
        assert [name for name in names if name not in text] == []


def test_every_preset_is_named():
    text = (ROOT / "docs" / "command-line.md").read_text()
    for name in read().keys() - {"default"}:
        preset(name)
        assert name.removeprefix("gsac/MinAtar-").removesuffix("-v1") in text, name


def test_the_rooms_are_listed_in_the_order_of_imports():
    table = (ROOT / "docs" / "development.md").read_text().split("\n## Rooms\n")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `gsac/(\w+)(?:/|\.py)` \|", table, re.MULTILINE)) == ROOMS


def test_the_constraints_hold_every_dependency():
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    project = (ROOT / "pyproject.toml").read_text()
    listed = project.split("[project.optional-dependencies]")[0].split("dependencies = [")[1].split("]")[0]
    assert {re.match(r"[\w-]+", name)[0].lower() for name in re.findall(r'"([^"]+)"', listed)} <= pinned


@pytest.mark.parametrize("page", readme.DOCUMENTS, ids=named)
def test_the_tables_are_those_of_the_result_files(page):
    assert readme.filled(page.read_text()) == page.read_text()


def test_every_table_is_shown():
    shown = "".join(page.read_text() for page in readme.DOCUMENTS)
    assert [name for name in readme.TABLES if f"<!-- {name} -->" not in shown] == []


def rows(table):
    """The lines of the first table in a text as dictionaries: column -> cell."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:] if len(line) == len(lines[0])]


def first_number(cell):
    return float(re.search(r"-?[\d,.]+", cell)[0].replace(",", ""))


def test_what_the_readme_says_of_others_is_in_the_results():
    field = {row["environment"]: row for row in rows(readme.TABLES["returns_compact"]())}
    in_bins = [row for row in field.values() if row["SAC, continuous actions"] != "-"]
    higher = [first_number(row["GSAC, preset"]) > first_number(row["SAC, continuous actions"]) for row in in_bins]
    assert (sum(higher), len(higher)) == (2, 3)

    (found,) = [
        row
        for row in rows(readme.TABLES["returns_minatar"]().split("### Asterix")[1])
        if "ent_coef" in row["algorithm"]
    ]
    assert first_number(found["IQM [95% interval]"]) == 8.0

    one_thread = readme.TABLES["update_speed_threads"]().split("2 threads:")[0]
    updates = {row.pop("updates a second (of SB3's SAC)"): row for row in rows(one_thread)}
    ours, dqn = updates["GSAC, `Discrete(2)`, eager"], updates["SB3 DQN, `Discrete(2)`"]
    assert all(first_number(dqn[width]) > 2 * first_number(ours[width]) for width in ours)


def test_rloo_ends_above_the_default_where_choices_depend_on_each_other():
    for name in ("estimators_pairs", "estimators_pairs40", "estimators_halfcheetah"):
        found = {row["`estimator`"]: row for row in rows(readme.TABLES[name]())}
        order = list(found)  # the best first
        assert order.index("`rloo`") < order.index("`gumbel_softmax`")
        seconds = [float(found[f"`{estimator}`"]["CPU seconds a run"]) for estimator in ("rloo", "gumbel_softmax")]
        assert 1.14 < seconds[0] / seconds[1] < 1.26
