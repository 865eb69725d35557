"""The report of returns shows every reported run and no other, calls missing what is missing, and judges bars by hand."""

import io
import itertools
import json
import math
import shlex

import numpy as np
import pytest
import returns_bars
import returns_pictures
import returns_report
import returns_rows
import returns_scores
from arena import OURS, PROBLEMS
from PIL import Image

from gsac.experiments.environments import reward_threshold
from gsac.experiments.run_file import RunFile


def row(problem, label, seed, final, timesteps=100, algo=None, evaluations=None, **changes):
    """A finished run of two evaluations of two episodes; the stochastic policy is one worse."""
    evaluations = evaluations or [final / 2, final]
    means = {"deterministic": evaluations, "stochastic": [mean - 1 for mean in evaluations]}
    curve = [
        {"step": timesteps * (i + 1) // len(evaluations)} | {kind: [means[kind][i]] * 2 for kind in means}
        for i in range(len(evaluations))
    ]
    return {
        **{"problem": problem, "label": label, "algo": algo or ("gsac" if "GSAC" in label else label.lower())},
        **{"seed": seed, "timesteps": timesteps, "n_envs": 1, "normalize": False, "arguments": {"gamma": 0.98}},
        **{"settings_from": "hand", "curve": curve, "final": {kind: means[kind][-1] for kind in means}},
        "area": {kind: sum(means[kind]) / len(evaluations) for kind in means},
        **{"cpu_seconds": 30.0 + seed, "evaluation_seconds": 10.0},
    } | changes


def rows(problem, label, finals, timesteps=100, **changes):
    return [row(problem, label, seed, final, timesteps, **changes) for seed, final in enumerate(finals)]


def verdict(*of_problem, problem):
    field = [entrant for entrant in returns_rows.entrants(itertools.chain(*of_problem)) if entrant.problem == problem]
    return returns_bars.judged(returns_bars.BARS[problem], field)


def test_a_line_by_hand():
    (entrant,) = returns_rows.entrants(rows("Acrobot-v1", OURS, [1.0, 1.0, 9.0, 1.0, 1.0], 2000))
    assert (*returns_report.row(OURS, entrant).values(),) == (
        *("GSAC, preset", "2,000", "1, 1, 9, 1, 1", "1", "1 [1, 6.333]", "0", "0.75", "22"),
    )  # on the way 0.75, 0.75, 6.75, 0.75, 0.75; 20 to 24 seconds without those of the evaluations
    (single,) = returns_rows.entrants([row("Acrobot-v1", OURS, 1, 7.0)])
    assert tuple(returns_report.row(OURS, single).values())[2:5] == ("missing, 7, missing, missing, missing", "7", "7")


def test_one_entrant_on_all_problems_has_a_line_for_each():
    found = [*rows("MountainCar-v0", "DQN", [-100.0] * 5), *rows("Acrobot-v1", OURS, [-80.0] * 5)]
    found += rows("MountainCar-v0", OURS, [-110.0] * 5)
    lines = returns_report.label_table(OURS, returns_rows.entrants(found)).splitlines()
    assert lines[0].startswith("| environment | steps | return at the end, by seed |")
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| Acrobot-v1", "| MountainCar-v0"]
    assert lines[3].split(" | ")[2] == "-110, -110, -110, -110, -110"


def test_tuning_seeds_and_superseded_runs_are_not_shown():
    good = rows("Acrobot-v1", OURS, [-80.0] * 5)
    tuning = [row("Acrobot-v1", OURS, 100, 1.0), row("Acrobot-v1", "DQN", 748, 1.0)]
    old = rows("Acrobot-v1", OURS, [-500.0] * 5, superseded="ran with an error", arguments={})
    assert returns_report.group("classic", returns_rows.entrants(old + tuning + good)) == returns_report.group(
        "classic", returns_rows.entrants(good)
    )
    (entrant,) = returns_rows.entrants(old + tuning + good)
    assert entrant.seeds == [0, 1, 2, 3, 4]
    assert entrant.finals.tolist() == [-80.0] * 5


def test_other_budgets_and_variations_are_lines_of_their_own():
    short, long = rows("Acrobot-v1", "DQN", [1.0], 100), rows("Acrobot-v1", "DQN", [2.0], 200)
    varied = rows("Acrobot-v1", "DQN", [3.0], 100, variation="gamma=1", arguments={"gamma": 1})
    found = returns_rows.entrants(long + varied + short)
    assert [(entrant.label, entrant.timesteps) for entrant in found] == [
        ("DQN", 100),
        ("DQN", 200),
        ("DQN, gamma=1", 100),
    ]


def test_a_label_names_its_changes_and_wrappers_by_their_classes():
    clipped = 'env_wrapper=[{"gymnasium.wrappers.ClipReward":{"min_reward":-20;"max_reward":100}}]'
    assert returns_rows.named("DQN", "") == "DQN"
    assert (
        returns_rows.named("SDSAC", "gamma=0.95,policy.net_arch=[64;64]") == "SDSAC, gamma=0.95,policy.net_arch=[64;64]"
    )
    assert returns_rows.named("DQN", clipped) == "DQN, ClipReward(min_reward=-20, max_reward=100)"
    assert returns_rows.named("DQN", f"{clipped},tau=0.1") == "DQN, ClipReward(min_reward=-20, max_reward=100),tau=0.1"


def test_seeds_that_do_not_belong_together_are_an_error():
    twice = rows("Acrobot-v1", "DQN", [1.0]) + rows("Acrobot-v1", "DQN", [2.0])
    with pytest.raises(ValueError, match='DQN on Acrobot-v1 with 100 steps: seed 0 stands there twice. Write "supers'):
        returns_rows.entrants(twice)
    first, second = rows("Acrobot-v1", "DQN", [1.0, 2.0])
    with pytest.raises(ValueError, match="seeds 0, 1 have different settings"):
        returns_rows.entrants([first, second | {"n_envs": 4}])
    clipped = [{"gymnasium.wrappers.ClipReward": {"min_reward": -20}}]
    with pytest.raises(ValueError, match="seeds 0, 1 have different settings"):
        returns_rows.entrants([first, second | {"env_wrapper": clipped}])
    older, newer = rows("Acrobot-v1", OURS, [1.0, 2.0], configuration={"tau": 1})
    assert len(returns_rows.entrants([older, newer | {"configuration": {"tau": 1, "noise_duration": 1}}])) == 1
    for other in ({"tau": 2}, {"tau": 1, "noise_duration": 16}):  # which it had not when the older one was made
        with pytest.raises(ValueError, match="seeds 0, 1 have different settings"):
            returns_rows.entrants([older, newer | {"configuration": other}])
    with pytest.raises(ValueError, match="seeds 0, 1 have different evaluation steps"):
        returns_rows.entrants([first, row("Acrobot-v1", "DQN", 1, 2.0, evaluations=[0.0, 1.0, 2.0])])


def test_everything_is_missing_before_the_first_run(tmp_path):
    empty = tmp_path / "none.jsonl"
    none = returns_rows.load(empty)
    for group in returns_rows.GROUPS:
        planned = (name for name, problem in PROBLEMS.items() if problem.group == group)
        assert returns_report.group(group, none) == "\n\n".join(f"### {name}\n\nmissing" for name in planned)
    assert [line.split(" | ")[-1] for line in returns_report.bars(none).splitlines()[2:]] == ["missing |"] * 9
    assert returns_report.scores(none) == "missing"
    for text in (returns_report.compact(none), returns_report.estimators(none)):
        cells = [cell.strip() for line in text.splitlines()[2:] for cell in line.split("|")[2:-1]]
        assert {*cells} == {"missing", "-"}
    assert returns_pictures.draw_all(returns_rows.load(empty), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_planned_runs_that_are_not_there_are_called_missing_and_no_cell_is_blank():
    some = rows("CartPole-v1", OURS, [500.0, 498.0], 10_000) + rows("Unplanned-v0", "PPO", [1.0] * 5)
    entrants = returns_rows.entrants(some)
    text = "\n".join(returns_report.group(name, entrants) for name in returns_rows.GROUPS)
    assert "| GSAC, preset | 10,000 | 500, 498, missing, missing, missing | 499 |" in text
    assert f"| DQN |{' missing |' * 7}" in text
    assert "### Unplanned-v0" in text
    compact = returns_report.compact(entrants)
    assert "| CartPole-v1 | 10,000 | 499 [498, 500] (3 of 5 seeds missing) | missing |" in compact
    tables = text + compact + returns_bars.bars(entrants)
    headless = [line for line in tables.splitlines() if line.startswith("|") and not line.endswith("| |")]
    assert not any("|  |" in line or "| |" in line for line in headless)


def test_the_table_of_estimators_has_those_that_were_planned_or_run(tmp_path):
    file = RunFile(tmp_path / "results.jsonl")
    for line in rows("Breakout", "GSAC, preset, rloo", [1.0] * 5) + rows("Asterix", OURS, [2.0] * 5):
        file.append(line)
    head, _, *lines = returns_report.estimators(returns_rows.load(file.path)).split("\n\n")[-1].splitlines()
    assert [line.split(" | ")[0] for line in lines] == [
        f"| {name}" for name in PROBLEMS if PROBLEMS[name].group == "classic" or name == "Breakout"
    ]
    shown = ("gumbel_softmax", "straight_through_gumbel", "rloo", "expected")
    assert head == f"| environment | steps | {' | '.join((OURS, *(f'{OURS}, {name}' for name in shown)))} |"


def test_the_command_that_replicates_a_table_names_its_problem_and_seeds():
    entrants = returns_rows.entrants(rows("HalfCheetah-v5, 7 bins", "PPO", [1.0, 2.0, 3.0]))
    text = returns_report.group("large", entrants)
    (command,) = [line.split("`")[1] for line in text.splitlines() if line.startswith("To replicate")]
    words = shlex.split(command)
    assert words[words.index("--problems") + 1] == "HalfCheetah-v5, 7 bins"
    assert words[words.index("--seeds") + 1 : words.index("--results")] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("finals", "met"),
    [([500.0] * 4 + [9.0], True), ([500.0] * 4 + [500.0], True), ([500.0] * 3 + [499.95] * 2, False)],
)
def test_the_bar_of_cartpole_at_its_edge(finals, met):
    state, figures = verdict(rows("CartPole-v1", OURS, finals, 10_000), problem="CartPole-v1")
    assert state is met
    assert f"{finals.count(500.0)} of 5 seeds at 500 or more" in figures


@pytest.mark.parametrize(("last", "met"), [(-75.0, True), (-74.0, True), (-75.05, False)])
def test_the_bar_of_acrobot_is_the_mean_of_all_seeds(last, met):
    finals = [-74.9, -75.1, -65.0, -85.0, last]
    assert verdict(rows("Acrobot-v1", OURS, finals, 50_000), problem="Acrobot-v1")[0] is met


def test_a_bar_counts_runs_with_its_budget_only():
    assert verdict(rows("CartPole-v1", OURS, [500.0] * 5, 20_000), problem="CartPole-v1") == (
        None,
        "GSAC, preset missing",
    )
    state, figures = verdict(rows("CartPole-v1", OURS, [500.0] * 3, 10_000), problem="CartPole-v1")
    assert state is None
    assert figures.startswith("seeds 3, 4 missing; IQM 500")


@pytest.mark.parametrize(("rival", "met"), [(249.0, True), (250.0, False)])
def test_the_mean_has_to_lie_above_the_intervals_of_both_rivals(rival, met):
    own = rows("LunarLander-v3", OURS, [0.0, 250.0, 250.0, 250.0, 250.0], 50_000)
    sdsac = rows("LunarLander-v3", "SDSAC", [100.0] * 5, 100_000)
    dqn = rows("LunarLander-v3", "DQN", [0.0, rival, rival, rival, rival], 100_000)
    state, figures = verdict(own, sdsac, dqn, problem="LunarLander-v3")
    assert state is met
    assert "SDSAC 100 [100, 100] with 100,000 steps" in figures
    short = rows("LunarLander-v3", "DQN", [0.0] * 5, 50_000)
    assert verdict(own, sdsac, short, problem="LunarLander-v3")[0] is None
    assert verdict(own, sdsac, dqn[:4], problem="LunarLander-v3")[0] is None


def test_one_condition_that_fails_decides_even_where_rivals_are_missing():
    state, figures = verdict(rows("LunarLander-v3", OURS, [239.9] * 5, 50_000), problem="LunarLander-v3")
    assert state is False
    assert "DQN with 100,000 steps missing" in figures


@pytest.mark.parametrize(
    ("own", "ppo", "sac", "met"),
    [(800.0, 799.0, 1000.0, True), (800.0, 800.0, 1000.0, False), (799.0, 9.0, 1000.0, False)],
)
def test_the_bar_of_halfcheetah_at_both_edges(own, ppo, sac, met):
    problem = "HalfCheetah-v5, 7 bins"
    rivals = rows(problem, "PPO", [ppo] * 3, 100_000)
    rivals += rows(problem, "SAC, continuous actions", [sac] * 3, 100_000, algo="sac")
    assert verdict(rows(problem, OURS, [own] * 3, 100_000), rivals, problem=problem)[0] is met


def test_minatar_compares_interquartile_means_at_the_same_steps():
    own = rows("Breakout", OURS, [0.0, 5.0, 5.0, 5.0, 99.0], 300)
    equal = rows("Breakout", "DQN", [5.0] * 5, 300) + rows("Breakout", "SDSAC", [-9.0, 5.0, 5.0, 5.0, 5.0], 300)
    assert verdict(own, equal, problem="Breakout")[0] is True
    longer = rows("Breakout", "DQN", [6.0] * 5, 600)
    assert verdict(own, equal, longer, problem="Breakout")[0] is True
    assert "| Breakout | GSAC, preset | 300 |" in returns_bars.bars(returns_rows.entrants(own + equal))


ANCHORS = {"CartPole-v1": {"random": 0.0, "threshold": 100.0}, "Acrobot-v1": {"random": -500.0, "threshold": -100.0}}


def test_scores_over_problems_by_hand():
    both = rows("CartPole-v1", OURS, [0.0, 100.0]) + rows("Acrobot-v1", OURS, [500.0, 300.0])  # 0, 1; 2.5, 2
    others = rows("CartPole-v1", "DQN", [50.0]) + rows("CartPole-v1", "DQN", [60.0], variation="tau=0.1")
    lines = returns_scores.scores(returns_rows.entrants(both + others), ANCHORS).splitlines()
    # of one problem: 0 or 1, and 2.5 or 2, drawn apart: from (0 + 2) / 2 to (1 + 2.5) / 2
    assert lines[2] == "| GSAC, preset | 0.50 (100) | 2.25 (100) | 1.50 [1.00, 1.75] | 0, 1 |"
    assert lines[3:] == ["| DQN | 0.50 (100) | missing | missing | missing |"]  # one problem's change is no line


def test_what_was_planned_for_one_problem_only_is_not_called_missing_on_the_others():
    ran = rows("CartPole-v1", f"{OURS}, straight_through_gumbel", [50.0])
    line = returns_scores.scores(returns_rows.entrants(ran), ANCHORS).splitlines()[2]
    assert line == "| GSAC, preset, straight_through_gumbel | 0.50 (100) | - | - | - |"


def test_scores_over_problems_count_common_seeds_and_the_longest_budget():
    some = rows("CartPole-v1", OURS, [7.0, 7.0], 10) + rows("CartPole-v1", OURS, [100.0, 100.0, 0.0], 20)
    some += rows("Acrobot-v1", OURS, [-100.0, -100.0])
    line = returns_scores.scores(returns_rows.entrants(some), ANCHORS).splitlines()[2]
    assert line == "| GSAC, preset | 0.67 (20) | 1.00 (100) | 1.00 [1.00, 1.00] | 0, 1 |"


def test_uniform_actions_are_measured(tmp_path):
    returns_scores.measure(tmp_path / "random.json", episodes=3, env_ids=["CartPole-v1", "MountainCar-v0"])
    measured = returns_scores.anchors(tmp_path / "random.json")
    assert measured["MountainCar-v0"] == {"random": -200.0, "standard_error": 0.0, "episodes": 3, "threshold": -110.0}
    assert 8 <= measured["CartPole-v1"]["random"] <= 100
    returns = returns_scores.random_returns("CartPole-v1", 3)
    assert measured["CartPole-v1"]["random"] == pytest.approx(sum(returns) / 3)
    assert measured["CartPole-v1"]["standard_error"] == pytest.approx(np.std(returns, ddof=1) / math.sqrt(3))


def test_the_measured_anchors_are_those_of_all_classic_problems():
    measured = returns_scores.anchors()
    assert [*measured] == [name for name, problem in PROBLEMS.items() if problem.group == "classic"]
    assert {anchor["episodes"] for anchor in measured.values()} == {100}
    assert measured["CartPole-v1"]["threshold"] == reward_threshold("CartPole-v1") == 475.0


def test_each_label_has_one_colour_of_its_own():
    assert (*returns_pictures.COLOURS,) == returns_rows.LABELS
    some = returns_rows.entrants(rows("CartPole-v1", "Other", [1.0]) + rows("Acrobot-v1", OURS, [1.0]))
    found = returns_pictures.colours(some)
    assert len({*found.values()}) == len(found) == len(returns_rows.LABELS) + 1


def test_pictures_are_the_same_bytes_until_what_they_show_changes(tmp_path):
    some = rows("CartPole-v1", OURS, [400.0, 500.0], 10_000) + rows("CartPole-v1", "DQN", [300.0], 100_000)
    other = rows("Breakout", OURS, [4.0, 5.0])
    first = returns_pictures.draw_all(returns_rows.entrants(some + other), tmp_path)
    assert [path.name for path in first] == ["returns_classic.png", "returns_minatar.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["returns_classic.png", "returns_minatar.png"]
    assert returns_pictures.draw_all(returns_rows.entrants(other + some), tmp_path) == []
    more = rows("CartPole-v1", f"{OURS}, expected", [450.0], 10_000)
    changed = returns_pictures.draw_all(returns_rows.entrants(some + more + other), tmp_path)
    assert [path.name for path in changed] == ["returns_estimators.png"]
    changed = returns_pictures.draw_all(returns_rows.entrants(some + rows("Breakout", OURS, [4.0, 6.0])), tmp_path)
    assert [path.name for path in changed] == ["returns_minatar.png"]


def test_a_picture_says_what_it_shows():
    entrants = returns_rows.entrants(rows("CartPole-v1", OURS, [400.0, 500.0]))
    (picture,) = [picture for picture in returns_pictures.PICTURES if picture.name == "classic"]
    drawn = Image.open(io.BytesIO(returns_pictures.draw(picture, entrants)))
    assert drawn.text == {"Description": returns_pictures.fingerprint(picture, entrants)}


@pytest.mark.parametrize("picture", returns_pictures.PICTURES, ids=lambda picture: picture.name)
def test_the_pictures_are_those_of_the_result_file(picture):
    entrants, path = returns_rows.load(), returns_rows.RESULTS.parent / picture.file
    if returns_pictures.panels(picture, entrants):
        assert Image.open(path).text["Description"] == returns_pictures.fingerprint(picture, entrants)


def test_the_command_prints_all_tables_and_draws(tmp_path, capsys):
    results = tmp_path / "again.jsonl"
    results.write_text("".join(json.dumps(run) + "\n" for run in rows("CartPole-v1", OURS, [500.0] * 5, 10_000)))
    returns_report.main(["--results", str(results), "--pictures", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "5 of 5 seeds at 500 or more | **met** |" in printed
    assert str(tmp_path / "returns_classic.png") in printed
    assert all(f"### {problem}" in printed for problem in returns_rows.problems())
