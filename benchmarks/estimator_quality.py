"""Measures the bias and the variance of every estimator against the exact gradient.

    python benchmarks/estimator_quality.py               # measures what is missing, then writes the picture
    python benchmarks/estimator_quality.py --table       # everything that was measured

A problem is a value q over the joint actions of G groups of K classes, and random logits; each is drawn anew for each
of ten seeds. The values:

- ``linear``: a weight for each class
- ``quadratic``: a random quadratic form of the flat one-hot
- ``mlp``: this package's action-in critics (64, 64), fitted to random values at the one-hots; ``mlp_layer_norm`` has
  layer normalisation, as by default. The random values are a table for each group and each pair of groups.

All figures are relative to the norm of the exact gradient: bias, standard deviation of one estimate, and the root mean
square error of the mean of B estimates, sqrt(bias^2 + std^2 / B). One line of ``results/estimator_quality.jsonl`` is one
drawn problem with all estimators; a problem that stands there is not measured again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial

import pandas as pd
import studies
import torch
from studies import command_line, run_jobs
from torch import Tensor, nn

from gsac import RLOO, FactorisedCategorical, GumbelRao, Mixed, Reinforce
from gsac.estimators import ESTIMATORS, Estimator, enumerates_actions
from gsac.estimators.quality import gradient_quality
from gsac.experiments.run_file import RunFile
from gsac.experiments.runner import Line, identity_of
from gsac.functional.groups import Groups
from gsac.functional.losses import average
from gsac.networks.heads import ActionInHead, AggregatedValues

RESULTS = studies.RESULTS / "estimator_quality.jsonl"
KINDS = ("linear", "quadratic", "mlp", "mlp_layer_norm")
GROUPINGS = ((2, 1), (4, 1), (16, 1), (4, 2), (4, 5), (2, 10))
"""K classes in each of G groups"""
TEMPERATURES = (2.0, 1.0, 0.5, 0.25, 0.125)
DRAWS = range(10)
SAMPLES = 8_192
BATCH_SIZES = (1, 64, 256, 1024)
RELAXED = ("gumbel_softmax", "straight_through_gumbel", "gumbel_rao")
FURTHER: dict[str, Estimator] = {
    "reinforce:baseline=none": Reinforce("none"),
    "reinforce:baseline=exact": Reinforce("exact"),
    "rloo:samples=16": RLOO(16),
    "gumbel_rao:samples=100": GumbelRao(100),
    "mixed:rho=0.5": Mixed(0.5),
}

NOT_IN_TABLE = {f"{name}({temperature:g})" for name in RELAXED for temperature in (2.0, 0.125)} | {
    "gumbel_rao:samples=100(0.5)",
    "mixed:rho=0.5",
}
FOUND = 0.02
"""A lesser bias is within the measurement's noise."""
RIVALS = ("reinforce", "reinforce:baseline=exact", "rloo")

Value = Callable[[int], Callable[[Tensor], Tensor]]
"""How many states -> q, the same at each of them"""


def draw_values(groups: Groups) -> Tensor:
    """Draws a value for each joint action: normal tables for groups and pairs of groups, scaled to mean 0, variance 1. [N]"""
    actions = groups.joint_actions(torch.device("cpu")).split(groups.sizes, -1)
    total = torch.zeros(groups.n_joint)
    for part in actions:
        total += part @ torch.randn(part.shape[-1])
    for a, b in itertools.combinations(actions, 2):
        total += ((a @ torch.randn(a.shape[-1], b.shape[-1])) * b).sum(-1)
    return (total - total.mean()) / total.std()


def fit(groups: Groups, layer_norm: bool) -> tuple[Value, float]:
    """Fits critics to drawn values at the one-hots. Returns them and their root mean square error there."""
    actions, target = groups.joint_actions(torch.device("cpu")), draw_values(groups)
    head = ActionInHead(1, groups, [64, 64], nn.ReLU, n_critics=2, layer_norm=layer_norm)
    optimizer = torch.optim.Adam(head.parameters(), 3e-3, fused=True)
    feature, error = torch.ones(len(actions), 1), math.inf
    for _ in range(3000):
        optimizer.zero_grad()
        loss = (head(feature)(actions) - target).square().mean(-1).sum()
        loss.backward()
        optimizer.step()
        error = math.sqrt(loss.item() / 2)
        if error < 0.03:
            break
    head.requires_grad_(False)
    return lambda n: AggregatedValues(head(torch.ones(n, 1)), average), error


def draw_problem(kind: str, groups: Groups) -> tuple[Value, float]:
    """Draws a value function. Returns it and the root mean square error of its fit, 0 if nothing had to be fitted."""
    d = groups.flat_size
    if kind == "linear":
        weight = torch.randn(d)
        return (lambda n: lambda a: a @ weight), 0.0
    if kind == "quadratic":
        matrix = torch.randn(d, d)
        return (lambda n: lambda a: ((a @ matrix) * a).sum(-1)), 0.0
    return fit(groups, layer_norm=kind == "mlp_layer_norm")


def sampled_gradients(
    estimator: Estimator, logits: Tensor, groups: Groups, value: Value, temperature: float, n: int
) -> Tensor:
    """Draws n independent estimates of the gradient at these logits. [D] -> [n, D]"""
    at_once = max(1, 2**24 // (groups.flat_size * (groups.n_joint if enumerates_actions(estimator) else 128)))
    found = []
    for start in range(0, n, at_once):
        batch = logits.expand(min(at_once, n - start), -1).clone().requires_grad_()
        estimates = estimator(FactorisedCategorical(batch, groups), value(len(batch)), torch.tensor(temperature))
        found.append(torch.autograd.grad(estimates.sum(), batch)[0])
    return torch.cat(found)


@dataclass(frozen=True)
class Job:
    """One drawn problem: a kind of value over G groups of K classes, and the number of the draw, which seeds it."""

    kind: str
    classes: int
    groups: int
    draw: int

    def described(self) -> Line:
        return asdict(self)

    def run(self) -> Line:
        """Measures all estimators."""
        torch.manual_seed(1000 * self.draw + KINDS.index(self.kind))
        groups = Groups([self.classes] * self.groups)
        value, fit_error = draw_problem(self.kind, groups)
        logits = torch.randn(groups.flat_size)
        exact = sampled_gradients(ESTIMATORS["expected"], logits, groups, value, 1.0, n=1)
        rows = []
        for name, temperature in measured():
            n = 2 if name == "expected" else SAMPLES
            estimator = (ESTIMATORS | FURTHER)[name]
            estimates = sampled_gradients(estimator, logits, groups, value, temperature or 0.5, n)
            figures = gradient_quality(estimates, exact)._asdict().items()
            # JSON has no infinity
            rounded = {key: None if math.isinf(figure) else float(f"{figure:.5g}") for key, figure in figures}
            rows.append({"estimator": name, "temperature": temperature, **rounded})
        return {"fit_error": round(fit_error, 4), "samples": SAMPLES, "rows": rows}


def measured() -> Iterator[tuple[str, float | None]]:
    """Lists estimators with temperatures: all temperatures for relaxed ones, 0.5 for their further variants, None for others."""
    for name in ESTIMATORS | FURTHER:
        relaxed = name.partition(":")[0] in RELAXED
        for temperature in TEMPERATURES if name in RELAXED else (0.5 if relaxed else None,):
            yield name, temperature


def qualities(problems: Iterable[Line]) -> pd.DataFrame:
    """Collects the measurements: a row for each estimator on each problem, with the error of a batch of B as ``rmse_B``."""
    found = pd.json_normalize(list(problems), "rows", [field.name for field in fields(Job)])
    found["label"] = found.estimator + found.temperature.map("({:g})".format, na_action="ignore").fillna("")
    for n in BATCH_SIZES:
        found[f"rmse_{n}"] = (found.relative_bias**2 + found.relative_std**2 / n) ** 0.5
    return found


def chosen(kind: str, classes: int = 4, n_groups: int = 5) -> pd.DataFrame:
    """Reads the measurements on all draws of one kind of problem."""
    problem = (kind, classes, n_groups)
    return qualities(p for p in RunFile(RESULTS).read() if (p["kind"], p["classes"], p["groups"]) == problem)


def ranking() -> str:
    """The table of estimators by the error of a batch's gradient, with means and standard errors over draws."""
    plain, normalised = (chosen(kind).groupby("label") for kind in ("mlp", "mlp_layer_norm"))
    columns = {
        "bias": plain.relative_bias,
        "std of one estimate": plain.relative_std,
        "RMSE, batch of 256": plain.rmse_256,
        "RMSE with layer normalisation": normalised.rmse_256,
    }
    return studies.table(
        {"estimator": f"`{name}`"}
        | {title: f"{column.mean()[name]:.3f} ± {column.sem()[name]:.3f}" for title, column in columns.items()}
        for name in plain.rmse_256.mean().drop(NOT_IN_TABLE).sort_values().index
    )


def against_reinforce(kinds: tuple[str, ...] = ("mlp",)) -> str:
    """The table of how often Gumbel-Softmax has a lower standard deviation than each of its rivals."""
    cells = []
    for kind, (classes, n_groups), temperature in itertools.product(kinds, GROUPINGS, TEMPERATURES):
        std = chosen(kind, classes, n_groups).pivot(index="draw", columns="label", values="relative_std")
        wins = (std[f"gumbel_softmax({temperature:g})"] < std[rival] for rival in RIVALS)
        problem = f"{f'{kind} ' if len(kinds) > 1 else ''}{classes} x {n_groups}"
        cells.append((problem, f"temperature {temperature:g}", " / ".join(str(won.sum()) for won in wins)))
    return studies.pivot("K x G", cells)


def table() -> str:
    """All that was measured, as text: medians over the draws, and the error of batches of several sizes."""
    figures = ["relative_bias", "relative_std", *(f"rmse_{n}" for n in BATCH_SIZES)]
    found = qualities(RunFile(RESULTS).read()).groupby(["kind", "classes", "groups", "label"], sort=False)
    return found[figures].median().reset_index().to_string(index=False, float_format="{:.3f}".format)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--table", action="store_true", help="print what has been measured, and stop")
    args = parser.parse_args()
    if args.table:
        print(table(), against_reinforce(KINDS), ranking(), sep="\n\n")
        return
    problems = itertools.product(DRAWS, GROUPINGS, KINDS)
    jobs = [Job(kind, classes, n_groups, draw) for draw, (classes, n_groups), kind in problems]
    identity = partial(identity_of, names=[f.name for f in fields(Job)])
    run_jobs(jobs, RESULTS, 1, identity, lambda line: f"fitted to {line['fit_error']}")
    picture()


def picture() -> None:
    """Draws bias against standard deviation for the problem with five groups of four classes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), sharey=True, layout="constrained")
    for axis, kind in zip(axes, ("quadratic", "mlp"), strict=True):
        means = chosen(kind).groupby("label").mean(numeric_only=True)
        colours = plt.get_cmap("tab10").colors
        shown = [name for name in ESTIMATORS if name != "expected"]
        for colour, name in zip(colours, shown, strict=False):
            members = [name] if name not in RELAXED else [f"{name}({t:g})" for t in TEMPERATURES]
            x, y = means.relative_std[members], means.relative_bias[members].clip(lower=FOUND)
            axis.plot(x, y, "o-", color=colour, label=name)
            if name == "gumbel_softmax":
                for temperature, place in zip(TEMPERATURES, zip(x, y, strict=True), strict=True):
                    axis.annotate(f"{temperature:g}", place, xytext=(4, 5), textcoords="offset points", fontsize=8)
        grid = [10 ** (i / 50) for i in range(-75, 101)]
        for batch_size, style in ((64, ":"), (1024, "--")):
            noise = [x / math.sqrt(batch_size) for x in grid]
            axis.plot(grid, noise, style, color="grey", linewidth=0.8, label=f"bias = noise of a batch of {batch_size}")
        axis.set(
            xscale="log",
            yscale="log",
            xlim=(0.2, 10),
            ylim=(0.8 * FOUND, 1),
            xlabel="standard deviation of one estimate / norm of the gradient",
            title={"quadratic": "a quadratic value", "mlp": "a critic fitted at the one-hots"}[kind],
        )
    axes[0].set_ylabel(f"bias / norm of the gradient (on the lower edge: below {FOUND:g})")
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside right center")
    figure.suptitle("Five groups of four classes, means over ten drawn problems; numbers are temperatures")
    figure.savefig(RESULTS.with_suffix(".png"), dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
