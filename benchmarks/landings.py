"""Counts how LunarLander's training episodes end: landed, crashed, or truncated by the time limit in the air or on the legs.

    python benchmarks/returns.py --measure landings --variation ent_coef=0.1
    python benchmarks/landings.py                      # prints the table

The return of a run says that it failed, not how. An episode that runs into the time limit has either never come down, or
stands on the ground and keeps an engine firing: the reward for landing comes when the body has been at rest for a while.
A run trains GSAC's preset with the changes; it is not evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from arena import OURS
from measures import Job, Measure
from stable_baselines3.common.callbacks import BaseCallback
from studies import RESULTS, table

from gsac.experiments.run_file import RunFile
from gsac.experiments.runner import Line

PROBLEM = "LunarLander-v3"
LEGS = slice(6, 8)
"""Of the observation: whether each leg touches the ground."""

STANDING = 0.1
"""An episode of which more than this fraction was spent on both legs had come down."""

ENDS = ("landed", "crashed", "in the air", "on the legs")
"""The last two are of episodes that the time limit cut off."""

PARTS = 5
"""Into which a run is divided in the table."""


def end_of(last_reward: float, time_limit: bool, standing: float) -> str:
    """Names the end of an episode, one of :data:`ENDS`. The last reward is 100 at rest, and -100 for a crash or for leaving.

    :param standing: the fraction of the episode's steps with both legs on the ground
    """
    if time_limit:
        return "on the legs" if standing > STANDING else "in the air"
    return "landed" if last_reward > 0 else "crashed"


class Endings(BaseCallback):
    """Records the step and the kind of each end of an episode, in one environment."""

    def __init__(self, job: Job | None = None) -> None:
        super().__init__()
        self.endings: list[tuple[int, str]] = []
        self._steps = self._standing = 0

    def _on_step(self) -> bool:
        (info,), (done,), (reward,) = self.locals["infos"], self.locals["dones"], self.locals["rewards"]
        observation = info["terminal_observation"] if done else self.locals["new_obs"][0]
        self._steps += 1
        self._standing += bool(np.all(observation[LEGS] > 0))
        if done:
            end = end_of(float(reward), info["TimeLimit.truncated"], self._standing / self._steps)
            self.endings.append((self.num_timesteps, end))
            self._steps = self._standing = 0
        return True

    def line(self) -> Line:
        return {"endings": self.endings}


def counts(row: Line) -> dict[str, list[int]]:
    """Counts each kind of end in each of the run's :data:`PARTS`; an unfinished last episode is not counted."""
    found = {end: [0] * PARTS for end in ENDS}
    for step, end in row["endings"]:
        found[end][min(int((step - 1) / row["timesteps"] * PARTS), PARTS - 1)] += 1
    return found


def summary(row: Line) -> str:
    """Counts each kind of end over the whole run."""
    return "; ".join(f"{end} {sum(parts)}" for end, parts in counts(row).items())


def markdown(rows: Sequence[Line]) -> str:
    """The table of ends: a line for each run, with a number for each of its parts."""
    steps = {row["timesteps"] for row in rows}
    if len(steps) != 1:
        raise ValueError(f"The runs have {sorted(steps)} steps: a table is of runs of one length.")
    lines = []
    for row in sorted(rows, key=lambda row: (row["label"], row["variation"], row["seed"])):
        settings = ", ".join(filter(None, (row["label"].removeprefix("GSAC, "), row["variation"])))
        ends = {end: ", ".join(map(str, parts)) for end, parts in counts(row).items()}
        lines.append({"settings": settings, "seed": row["seed"], **ends})
    return table(lines)


MEASURE = Measure(RESULTS / "landings.jsonl", Endings, summary, planned=((PROBLEM, OURS, ""),), seeds=(211, 748))

if __name__ == "__main__":
    print(markdown(RunFile(MEASURE.results).read()))
