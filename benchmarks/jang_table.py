"""Repeats the categorical columns of Table 1 of Jang et al. 2017 (https://arxiv.org/abs/1611.01144) on small images.

    python benchmarks/jang_table.py --tune      # every estimator, learning rate and temperature, seeds 100 and 101
    python benchmarks/jang_table.py --report    # the best of them on the test set, seeds 0 to 5
    python benchmarks/jang_table.py --table     # the README's table
    python benchmarks/jang_table.py --tried     # everything that was tried

The images are the 1,797 digits of scikit-learn, 8x8, black where at least half of full ink, split once into 1,197 for
training, 300 for validation and 300 for testing. Two tasks, with 10 variables of 10 classes where the paper has 20:

- ``structured``: the lower half from the upper, by two linear layers of latents and a linear decoder,
  32-(10x10)-(10x10)-32. The loss is the negative log-likelihood by 1000 samples; training sees one.
- ``vae``: a linear encoder and decoder, 64-(10x10)-64, and a uniform prior. The loss is the negative evidence lower bound.

A run makes 1,500 steps of Adam on batches of 100. Each 100 steps the validation loss is taken, and the parameters of
the lowest are kept. Settings are chosen by the mean of that lowest validation loss; only seeds below 100 ever see the
test images. Where the best setting stood at the edge of the grid, ``--rates`` and ``--temperatures`` went on beyond it.
A run that stands in the results is not run again; start one program at a time.
"""

from __future__ import annotations

import copy
import itertools
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, partial
from pathlib import Path

import studies
import torch
from scipy import stats
from stochastic_networks import StochasticNetwork, slope_annealed
from studies import FIRST_TUNING_SEED, command_line, groups, run_jobs, table
from torch import Tensor, nn

from gsac.estimators import Estimator, resolve_estimator
from gsac.experiments.run_file import RunFile
from gsac.experiments.runner import Line, identity_of
from gsac.schedules import as_schedule

RESULTS = studies.RESULTS / "jang.jsonl"
TASKS = {"structured": "structured prediction", "vae": "VAE"}
"""With their names in the table."""

BASELINE = "gumbel_softmax"
NO_TEMPERATURE: tuple[str | None, ...] = (None,)
TEMPERATURES: dict[str, tuple[str | None, ...]] = {
    "gumbel_softmax": ("1", "0.5", "exponential:1:0.5", "exponential:1:0.1"),
    "straight_through_gumbel": ("1", "0.5", "exponential:1:0.5", "exponential:1:0.1"),
    "slope_annealed": ("exponential:1:0.5", "exponential:1:0.2"),
    "straight_through": NO_TEMPERATURE,
    "reinforce": NO_TEMPERATURE,
    "gumbel_rao:samples=4": ("1", "0.5"),
    "reinmax": NO_TEMPERATURE,
    "mixed": NO_TEMPERATURE,
    "rloo": NO_TEMPERATURE,
    "local_expectation": NO_TEMPERATURE,
}
PAPER = {
    "gumbel_softmax": {"structured": 59.0, "vae": 101.5},
    "straight_through_gumbel": {"structured": 59.7, "vae": 107.8},
    "slope_annealed": {"structured": 61.1, "vae": 107.8},
    "straight_through": {"structured": 61.8, "vae": 110.9},
    "reinforce": {"structured": 73.1, "vae": 110.6},
}
LEARNING_RATES = {"structured": (1e-2, 3e-2, 1e-1), "vae": (3e-3, 1e-2, 3e-2)}
TOO_SLOW = {("structured", "local_expectation")}  # it asks a second layer for each of a hundred neighbours
TUNING_SEEDS, REPORTED_SEEDS = (100, 101), tuple(range(6))
STEPS, BATCH, EVALUATE_EVERY = 1500, 100, 100
VALIDATION_SAMPLES, TEST_SAMPLES = 50, 1000
SIZES = (10,) * 10


@cache
def images() -> dict[str, Tensor]:
    """Splits the binary images [N, 64] into ``training``, ``validation`` and ``test``, in the same way for every run."""
    from sklearn.datasets import load_digits

    pixels = torch.from_numpy(load_digits().data >= 8).float()
    pixels = pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))]
    return dict(zip(("training", "validation", "test"), pixels.split([1197, 300, 300]), strict=True))


def given_and_wanted(task: str, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Splits images into the network's input and the pixels that it predicts."""
    return (pixels[:, :32], pixels[:, 32:]) if task == "structured" else (pixels, pixels)


def network(task: str) -> StochasticNetwork:
    d = sum(SIZES)
    if task == "structured":
        return StochasticNetwork([nn.Linear(32, d), nn.Linear(d, d)], SIZES, nn.Linear(d, 32), prior=False)
    return StochasticNetwork([nn.Linear(64, d)], SIZES, nn.Linear(d, 64), prior=True)


def estimator_named(name: str) -> Estimator:
    return slope_annealed if name == "slope_annealed" else resolve_estimator(name, linear=False)


@dataclass(frozen=True)
class Job:
    """One training of the task's network."""

    task: str
    estimator: str
    lr: float
    temperature: str | None
    seed: int
    steps: int = STEPS

    def described(self) -> Line:
        return asdict(self)

    def run(self) -> Line:
        """Trains. Returns the validation losses on the way, and the test loss if the seed is one to report."""
        torch.manual_seed(self.seed)
        net, estimator = network(self.task), estimator_named(self.estimator)
        optimizer = torch.optim.Adam(net.parameters(), lr=self.lr)
        temperature_at = as_schedule(float("nan") if self.temperature is None else self.temperature, "temperature")
        split = {name: given_and_wanted(self.task, pixels) for name, pixels in images().items()}
        given, wanted = split["training"]
        order = torch.Generator().manual_seed(self.seed)  # the same batches for every estimator
        curve: list[float] = []
        for step in range(self.steps):
            rows = torch.randint(len(given), (BATCH,), generator=order)
            optimizer.zero_grad()
            temperature = torch.tensor(temperature_at(1 - step / self.steps))
            net.step(given[rows], wanted[rows], estimator, temperature)
            optimizer.step()
            if (step + 1) % EVALUATE_EVERY == 0 or step + 1 == self.steps:
                curve.append(net.losses(*split["validation"], VALIDATION_SAMPLES).mean().item())
                if curve[-1] == min(curve):
                    best = copy.deepcopy(net)
        found: Line = {"validation": min(curve), "curve": [round(loss, 3) for loss in curve]}
        if self.seed < FIRST_TUNING_SEED:
            found["test"] = best.losses(*split["test"], TEST_SAMPLES).mean().item()
        return found


def load(path: Path = RESULTS, steps: int = STEPS) -> list[Line]:
    """Reads the finished runs of this many steps; losses after other numbers of steps are not comparable."""
    return [row for row in RunFile(path).read() if row["steps"] == steps]


def settings(row: Line) -> tuple[float, str | None]:
    return row["lr"], row["temperature"]


def tuning_jobs(
    tasks: Iterable[str],
    estimators: Iterable[str],
    rates: Iterable[float] | None,
    temperatures: Iterable[str] | None,
    steps: int,
) -> list[Job]:
    """:raises SystemExit: temperatures are given for an estimator without one"""
    for name in estimators:
        if temperatures and TEMPERATURES[name] is NO_TEMPERATURE:
            raise SystemExit(f"{name} has no temperature: leave --temperatures out, or name other --estimators.")
    return [
        Job(task, name, lr, temperature, seed, steps)
        for seed in TUNING_SEEDS
        for task in tasks
        for name in estimators
        if (task, name) not in TOO_SLOW
        for lr in rates or LEARNING_RATES[task]
        for temperature in temperatures or TEMPERATURES[name]
    ]


def tried(rows: list[Line], task: str, name: str) -> dict[tuple[float, str | None], float]:
    """The mean of the tuning seeds' lowest validation losses for each setting of an estimator, the best first."""
    found = [
        row for row in rows if (row["task"], row["estimator"]) == (task, name) and row["seed"] >= FIRST_TUNING_SEED
    ]
    means = {
        settings(group[0]): statistics.mean(row["validation"] for row in group) for group in groups(found, settings)
    }
    return dict(sorted(means.items(), key=lambda item: item[1]))


def reporting_jobs(rows: list[Line], tasks: Iterable[str], names: Iterable[str], steps: int) -> list[Job]:
    """:raises SystemExit: an estimator has not been tuned"""
    jobs = []
    for seed, task, name in itertools.product(REPORTED_SEEDS, tasks, names):
        if (task, name) not in TOO_SLOW:
            found = tried(rows, task, name)
            if not found:
                raise SystemExit(f"{name} has not been tuned for {task}: run with --tune first.")
            jobs.append(Job(task, name, *next(iter(found)), seed, steps))
    return jobs


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95% interval by Student's t."""
    return statistics.mean(values), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def reported(rows: list[Line], task: str) -> dict[str, dict[int, float]]:
    """The test loss of each estimator and seed at the chosen settings; estimators by mean loss, lowest first."""
    losses: dict[str, dict[int, float]] = {}
    for row in rows:
        name = row["estimator"]
        if (
            row["task"] == task
            and row["seed"] in REPORTED_SEEDS
            and settings(row) == next(iter(tried(rows, task, name)))
        ):
            losses.setdefault(name, {})[row["seed"]] = row["test"]
    return dict(sorted(losses.items(), key=lambda item: statistics.mean(item[1].values())))


def ranks(losses: Mapping[str, float]) -> dict[str, int]:
    """Ranks names by loss: 1 for the lowest; equal losses share a rank."""
    return dict(zip(losses, stats.rankdata(list(losses.values()), "min").tolist(), strict=True))


def markdown(rows: list[Line]) -> str:
    """The table of test losses in nats with 95% intervals, beside those of the paper."""
    lines: dict[str, dict[str, str]] = {}
    for task, title in TASKS.items():
        losses, paper = reported(rows, task), {name: figures[task] for name, figures in PAPER.items()}
        means = {name: statistics.mean(found.values()) for name, found in losses.items()}
        of_all, of_paper = ranks(means), ranks(paper)
        of_five = ranks({name: mean for name, mean in means.items() if name in PAPER})
        for name, found in losses.items():
            gaps = [found[seed] - losses[BASELINE][seed] for seed in sorted(found)]
            gap = "" if name == BASELINE else "{:+.2f} ± {:.2f}".format(*mean_and_interval(gaps))
            lines.setdefault(name, {"estimator": f"`{name}`"}).update(
                {
                    title: "{:.2f} ± {:.2f}".format(*mean_and_interval([*found.values()])),
                    f"{title}: minus `{BASELINE}`": gap,
                    f"{title}: rank": str(of_all[name]),
                    f"{title}: of five": str(of_five.get(name, "")),
                    f"{title}: paper": f"{paper[name]} ({of_paper[name]})" if name in PAPER else "",
                }
            )
    titles = "|".join(TASKS.values())  # both tasks have columns of the same names
    return re.sub(f"({titles}): ", "", table(lines.values()))


def listing(rows: list[Line]) -> str:
    """All settings that were tried, as text; the best of each estimator first."""
    return "\n".join(
        f"{task:10} {name:24} " + "  ".join(f"{lr:g}/{t}: {loss:.3f}" for (lr, t), loss in found.items())
        for task in TASKS
        for name in TEMPERATURES
        if (found := tried(rows, task, name))
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--tune", action="store_true", help="run every setting on the tuning seeds")
    what.add_argument("--report", action="store_true", help="run the best settings on the reported seeds")
    what.add_argument("--table", action="store_true", help="print the table of the test losses")
    what.add_argument("--tried", action="store_true", help="print the validation loss of every setting")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--estimators", nargs="+", choices=list(TEMPERATURES), default=list(TEMPERATURES))
    parser.add_argument("--rates", nargs="+", type=float, help="to tune over, in the place of those of the task")
    parser.add_argument("--temperatures", nargs="+", help="numbers or schedules to tune over, in the place of its own")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    rows = load(args.results, args.steps)
    if args.table:
        print(markdown(rows))
    elif args.tried:
        print(listing(rows))
    else:
        if args.tune:
            jobs = tuning_jobs(args.tasks, args.estimators, args.rates, args.temperatures, args.steps)
        else:
            jobs = reporting_jobs(rows, args.tasks, args.estimators, args.steps)
        identity = partial(identity_of, names=[f.name for f in fields(Job)])
        run_jobs(jobs, args.results, args.jobs, identity, lambda row: f"validation {row['validation']:.3f}")


if __name__ == "__main__":
    main()
