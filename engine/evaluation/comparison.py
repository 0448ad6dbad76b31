"""Two runs side by side: paired differences on the questions both were asked, and a gate for a shop's continuous integration."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import InvalidInput
from engine.evaluation.figures import NAMES, RANK, Difference, compare
from engine.evaluation.run import FORMAT, Evaluation

GATED = tuple(name for name in NAMES if name != RANK)
MOST_SHOWN = 24
ROUNDING = 1e-9  # the last bits of a mean are no fall


@dataclass(frozen=True, slots=True)
class Change:
    """One question that another run answered differently: the ranks of the best right answer, before and now."""

    question: str
    label: str
    before: int
    now: int
    relevant: tuple[str, ...]
    found_before: tuple[str, ...]
    found_now: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a run differs from an earlier one, by direction; `wins` and `losses` are those that moved furthest."""

    before: Mapping[str, Any]
    directions: Mapping[str, Mapping[str, Difference]]
    wins: Sequence[Change]
    losses: Sequence[Change]

    def as_dict(self) -> dict[str, Any]:
        """Lay the comparison out as JSON."""
        return {
            "before": dict(self.before),
            "directions": {
                name: {figure: difference.as_dict() for figure, difference in differences.items()}
                for name, differences in self.directions.items()
            },
        }


def read_run(path: Path) -> dict[str, Any]:
    """Read what `Evaluation.save` wrote; raises `InvalidInput` when it is something else."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the run {path} cannot be read ({error}): write one with semblance evaluate --output {path}") from None
    if not isinstance(run, dict) or run.get("format") != FORMAT or run.get("names") != list(NAMES):
        raise InvalidInput(f"{path} is no run of this version: write one with semblance evaluate --output {path}")
    return run


def compare_runs(before: Mapping[str, Any], now: Evaluation) -> Comparison:
    """Compare question by question; raises `InvalidInput` when the runs share none."""
    earlier = {question["id"]: question for question in before["questions"]}
    shared = [row for row, answer in enumerate(now.answered) if answer.question.id in earlier]
    if not shared:
        raise InvalidInput(
            "the two runs share no question: ask both the same pairs file, or the same collection with the same seed"
        )
    directions = {}
    for direction in now.directions:
        rows = [row for row in shared if now.answered[row].question.direction == direction]
        if rows:
            first = np.array([earlier[now.answered[row].question.id]["values"] for row in rows], np.float64)
            directions[direction] = compare(first, now.values[rows])
    changes = [_change(earlier, now, row) for row in shared]
    moved = sorted((change for change in changes if change.before != change.now), key=lambda c: c.now / c.before)
    wins = [change for change in moved if change.now < change.before][:MOST_SHOWN]
    losses = [change for change in reversed(moved) if change.now > change.before][:MOST_SHOWN]
    about = {name: before.get(name) for name in ("collection", "encoder", "fingerprint", "documents")}
    return Comparison(about, directions, wins, losses)


def _change(earlier: Mapping[str, Any], now: Evaluation, row: int) -> Change:
    answer = now.answered[row]
    held = earlier[answer.question.id]
    return Change(
        answer.question.id,
        answer.question.label,
        int(held["values"][-1]),
        int(now.values[row, -1]),
        tuple(answer.question.relevant),
        tuple(held["found"]),
        answer.ids[: len(held["found"])],
    )


def gate(baseline: Mapping[str, Any], now: Evaluation) -> list[str]:
    """List the figures that fell by more than their noise, one clear line each; none: the gate is open.

    A fall counts when 95 % of the paired resamples say so, on the questions both runs were asked; where a direction was asked of
    the baseline alone, that is a line too.
    """
    comparison = compare_runs(baseline, now)
    lines = [
        f"{direction}: was in the baseline and was not asked now"
        for direction in baseline["directions"]
        if direction not in now.directions
    ]
    for direction, differences in comparison.directions.items():
        for name in GATED:
            fall = differences[name]
            if fall.high < -ROUNDING:
                before = baseline["directions"][direction]["figures"][name]["value"]
                current = now.directions[direction].figures[name].value
                lines.append(
                    f"{direction}: {name} fell from {before:.4f} to {current:.4f} "
                    f"(difference {fall.value:+.4f}, 95 % interval {fall.low:+.4f} to {fall.high:+.4f})"
                )
    return lines
