"""Figures of answered questions, through ir-measures, with bootstrap intervals.

R@k is the share of questions with at least one right answer among the first k (Success@k in TREC's words), so products that
share a title are all right. How answers come about does not belong here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float64

from engine.errors import MissingExtra
from engine.evaluation.questions import Question

try:
    import ir_measures
except ImportError:
    raise MissingExtra("evaluating a collection", "lab") from None

DEPTH = 1_000
RESAMPLES = 1_000
RUN_PER_CALL = 200
MEASURES = {
    "R@1": ir_measures.Success @ 1,
    "R@5": ir_measures.Success @ 5,
    "R@10": ir_measures.Success @ 10,
    "MRR": ir_measures.RR,
    "nDCG@10": ir_measures.nDCG @ 10,
}
RANK = "median rank"
NAMES = (*MEASURES, RANK)
Values: TypeAlias = Float64[np.ndarray, "q f"]


@dataclass(frozen=True, slots=True)
class Answered:
    """A question and what was found for it: ids best first, at most `DEPTH`; `rank` of the best right one, from 1.

    Among equal scores the wrong ids come first, so that equal vectors earn nothing.
    """

    question: Question
    ids: tuple[str, ...]
    rank: int


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean (or median) with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Give plain numbers, rounded to what is worth reading."""
        return {"value": round(self.value, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


def values_of(answered: Sequence[Answered]) -> Values:
    """Compute every measure of `NAMES` for every question, one row each; ranks count from 1."""
    values = np.zeros((len(answered), len(NAMES)))
    values[:, -1] = [answer.rank for answer in answered]
    columns = {measure: column for column, measure in enumerate(MEASURES.values())}
    for start in range(0, len(answered), RUN_PER_CALL):
        chunk = answered[start : start + RUN_PER_CALL]
        judged = (ir_measures.Qrel(str(i), id, grade) for i, a in enumerate(chunk) for id, grade in a.question.relevant.items())
        for found in ir_measures.iter_calc(list(MEASURES.values()), judged, _run(chunk)):
            values[start + int(found.query_id), columns[found.measure]] = found.value
    return values


def _run(answered: Sequence[Answered]) -> Iterator[Any]:
    for number, answer in enumerate(answered):
        for place, id in enumerate(answer.ids):
            yield ir_measures.ScoredDoc(str(number), id, float(-place))


def summarise(values: Values, *, seed: int = 0) -> dict[str, Figure]:
    """Average over the questions, with intervals from resampling them."""
    drawn = _resamples(len(values), seed)
    return {name: _figure(values[:, column], name, drawn) for column, name in enumerate(NAMES)}


def _figure(values: Float64[np.ndarray, " q"], name: str, drawn: np.ndarray) -> Figure:
    average: Callable[..., Any] = np.median if name == RANK else np.mean
    low, high = np.percentile(average(values[drawn], axis=1), (2.5, 97.5))
    return Figure(float(average(values)), float(low), float(high))


def _resamples(questions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, questions, (RESAMPLES, questions))


@dataclass(frozen=True, slots=True)
class Difference:
    """How a second run differs from a first on the same questions; positive is better, of ranks too.

    `low` and `high` bound 95 % of paired resamples; `wins` and `losses` count questions.
    """

    value: float
    low: float
    high: float
    wins: int
    losses: int

    def as_dict(self) -> dict[str, float]:
        """Give plain numbers."""
        return {
            "value": round(self.value, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "wins": self.wins,
            "losses": self.losses,
        }


def compare(first: Values, second: Values, *, seed: int = 0) -> dict[str, Difference]:
    """Compare two runs question by question (paired bootstrap, Efron and Tibshirani 1993); rows are the same questions."""
    drawn = _resamples(len(first), seed)
    differences = {}
    for column, name in enumerate(NAMES):
        sign = -1.0 if name == RANK else 1.0
        gained = sign * (second[:, column] - first[:, column])
        if name == RANK:
            medians = np.median(first[:, column][drawn], axis=1) - np.median(second[:, column][drawn], axis=1)
            value = float(np.median(first[:, column]) - np.median(second[:, column]))
        else:
            medians, value = gained[drawn].mean(axis=1), float(gained.mean())
        low, high = np.percentile(medians, (2.5, 97.5))
        differences[name] = Difference(value, float(low), float(high), int((gained > 0).sum()), int((gained < 0).sum()))
    return differences
