"""What the scores of a result are described by."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evidence import FEATURES, Background, Null, Outcome, describe, entropy

NULL = Null(0.2, 0.05, 0.15, 0.05)
AXES = np.eye(256, dtype=np.float32)
NOTHING = Background(AXES[100:104], AXES[200:204], AXES[210:214], AXES[220:224])
SAMPLE = np.array([0.1, 0.2, 0.3], np.float32)


def feature(row: np.ndarray, name: str) -> float:
    return float(row[FEATURES.index(name)])


def outcome(scores: list[float], *, title: float = np.nan, top: np.ndarray | None = None) -> Outcome:
    column = np.array(scores, np.float32)
    found = AXES[: min(10, len(scores))] if top is None else top
    return Outcome(AXES[0], column, column, np.full(len(column), title, np.float32), found, SAMPLE)


def test_a_winner_stands_out() -> None:
    row = describe(outcome([0.6, 0.3, 0.2]), NULL, NOTHING)
    assert feature(row, "best") == pytest.approx(0.6)
    assert feature(row, "margin") == pytest.approx(0.3)
    assert feature(row, "lead") == pytest.approx(0.35)
    assert feature(row, "fall") == pytest.approx(0.4)
    assert feature(row, "z_best") == pytest.approx(8.0)
    assert feature(row, "image") == pytest.approx(1.1 / 3)
    assert feature(row, "image_best") == pytest.approx(0.6)
    assert feature(row, "title") == 0.0


def test_entropy_is_none_for_a_winner_and_one_for_a_tie() -> None:
    assert entropy(np.array([1.0, 0.0, 0.0])) == pytest.approx(0.0, abs=1e-6)
    assert entropy(np.array([0.5, 0.5, 0.5])) == pytest.approx(1.0)


def test_neighbours_that_resemble_one_another_are_consistent() -> None:
    alike = describe(outcome([0.5] * 4, top=np.tile(AXES[5], (4, 1))), NULL, NOTHING)
    unlike = describe(outcome([0.5] * 4), NULL, NOTHING)
    assert feature(alike, "consistency") == pytest.approx(1.0, abs=1e-5)
    assert feature(unlike, "consistency") == pytest.approx(0.0, abs=1e-5)


def test_views_that_order_documents_alike_agree() -> None:
    column = np.array([0.5, 0.4, 0.3], np.float32)
    same = Outcome(AXES[0], column, column, column, AXES[:3], SAMPLE)
    turned = Outcome(AXES[0], column, column, column[::-1].copy(), AXES[:3], SAMPLE)
    assert feature(describe(same, NULL, NOTHING), "agreement") == pytest.approx(1.0)
    assert feature(describe(turned, NULL, NOTHING), "agreement") == pytest.approx(-1.0)


def test_a_background_query_that_suits_the_documents_better_is_a_rival() -> None:
    found = outcome([0.0, 0.0], top=np.tile(AXES[7], (2, 1)))
    assert feature(describe(found, NULL, replace(NOTHING, queries=AXES[7:8])), "rival") == pytest.approx(-1.0)
    assert feature(describe(found, NULL, replace(NOTHING, queries=AXES[9:10])), "rival") == pytest.approx(0.0)


def test_a_query_does_not_rival_itself() -> None:
    row = describe(outcome([1.0, 0.0], top=AXES[:2]), NULL, replace(NOTHING, queries=AXES[:1]))
    assert feature(row, "rival") == 0.0


def test_what_other_shops_could_answer_falls_short_here() -> None:
    mixed = (0.8 * AXES[0] + 0.6 * AXES[1])[None]
    row = describe(outcome([0.3, 0.2]), NULL, replace(NOTHING, pictures=mixed))
    assert feature(row, "reference") == pytest.approx(0.8)
    assert feature(row, "shortfall") == pytest.approx(-0.5)


def test_titles_elsewhere_count_where_there_are_titles() -> None:
    mixed = replace(NOTHING, titles=(0.8 * AXES[0] + 0.6 * AXES[1])[None])
    titled, untitled = (describe(outcome([0.3, 0.2], title=title), NULL, mixed) for title in (0.5, np.nan))
    assert feature(titled, "title_reference") == pytest.approx(0.8)
    assert feature(titled, "title_shortfall") == pytest.approx(-0.3)
    assert feature(untitled, "title_reference") == feature(untitled, "title_shortfall") == 0.0


def test_a_title_elsewhere_that_is_the_query_itself_says_nothing() -> None:
    row = describe(outcome([0.3, 0.2], title=0.5), NULL, replace(NOTHING, titles=AXES[:1]))
    assert feature(row, "title_reference") == 0.0


def test_documents_of_the_kind_asked_for_share_its_concept() -> None:
    things = replace(NOTHING, concepts=AXES[:4])
    asked_for, another = (describe(outcome([0.5, 0.5], top=np.tile(AXES[kind], (2, 1))), NULL, things) for kind in (0, 1))
    assert feature(asked_for, "concept") == pytest.approx(1.0, abs=1e-3)
    assert feature(another, "concept") < 0.01


def test_a_best_score_is_held_against_what_the_query_finds_anywhere() -> None:
    row = describe(outcome([0.6, 0.3]), NULL, NOTHING)
    assert feature(row, "usual") == pytest.approx(0.2)
    assert feature(row, "z_own") == pytest.approx(0.4 / np.std([0.1, 0.2, 0.3]), rel=1e-4)
    alone = describe(replace(outcome([0.6, 0.3]), sample=SAMPLE[:1]), NULL, NOTHING)
    assert feature(alone, "z_own") == 0.0


def test_the_null_is_what_background_queries_find() -> None:
    null = Null.of(np.array([[0.4, 0.2], [0.2, -np.inf]], np.float32))
    assert null.best == pytest.approx(0.3)
    assert null.mean == pytest.approx(0.25)


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50), st.booleans())
def test_any_result_can_be_described(scores: list[float], titled: bool) -> None:
    row = describe(outcome(sorted(scores, reverse=True), title=0.5 if titled else np.nan), NULL, NOTHING)
    assert row.shape == (len(FEATURES),)
    assert np.isfinite(row).all()
