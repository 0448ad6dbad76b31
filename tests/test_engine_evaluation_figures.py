"""Figures against rankings worked out by hand, and what chance does to them."""

import math

import numpy as np
import pytest

from engine.evaluation.asking import ranked
from engine.evaluation.figures import NAMES, compare, summarise, values_of
from engine.evaluation.questions import Question


def question(**relevant: int) -> Question:
    return Question("q", "text->any", "red", relevant)


def value(name: str, *answers: object) -> float:
    return float(values_of(answers)[0, NAMES.index(name)])  # type: ignore[arg-type]


def test_any_of_several_right_answers_counts() -> None:
    answer = ranked(question(b=1, c=1), [("a", 0.9), ("c", 0.8), ("b", 0.7)], 3)
    assert answer.rank == 2
    assert [value(name, answer) for name in ("R@1", "R@5", "MRR", "median rank")] == [0.0, 1.0, 0.5, 2.0]


def test_grades_decide_the_gain() -> None:
    answer = ranked(question(a=1, b=3), [("a", 0.9), ("b", 0.8)], 2)
    ideal = 3 + 1 / math.log2(3)
    assert value("nDCG@10", answer) == pytest.approx((1 + 3 / math.log2(3)) / ideal, abs=1e-4)


def test_ties_count_against_the_model() -> None:
    assert ranked(question(b=1), [("b", 0.5), ("a", 0.5), ("c", 0.5)], 3).rank == 3


def test_what_is_not_found_ranks_behind_everything() -> None:
    answer = ranked(question(z=1), [("a", 0.9)], 50)
    assert answer.rank == 51
    assert value("MRR", answer) == 0.0


def rows(hits: list[float]) -> np.ndarray:
    found = np.zeros((len(hits), len(NAMES)))
    found[:, 0] = hits
    return found


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = [
        figure.low <= 0.3 <= figure.high
        for seed in range(100)
        for figure in [summarise(rows(list((random.random(200) < 0.3).astype(float))), seed=seed)["R@1"]]
    ]
    assert np.mean(held) > 0.88


def test_a_paired_difference_is_seen_where_two_intervals_overlap() -> None:
    random = np.random.default_rng(1)
    before = (random.random(400) < 0.5).astype(float)
    after = before.copy()
    after[np.flatnonzero(before == 0)[:12]] = 1.0
    difference = compare(rows(list(before)), rows(list(after)))["R@1"]
    assert difference.value == pytest.approx(12 / 400)
    assert difference.low > 0
    assert (difference.wins, difference.losses) == (12, 0)


def test_a_smaller_rank_is_a_gain() -> None:
    before, after = np.zeros((5, len(NAMES))), np.zeros((5, len(NAMES)))
    before[:, -1], after[:, -1] = 9, 4
    difference = compare(before, after)["median rank"]
    assert difference.value == 5.0
    assert difference.wins == 5
