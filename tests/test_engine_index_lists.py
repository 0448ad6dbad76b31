"""Lists that a filtered search visits: where admitted rows are, however far from the query."""

import numpy as np
import pytest

from engine.datatypes import DIMENSIONS
from engine.index import ann
from engine.index.ann import AnnIndex, Kind, RowSet

GROUPS, EACH = 40, 150


@pytest.fixture
def grouped() -> np.ndarray:
    """Forty far-apart groups of products, one after another."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((GROUPS, DIMENSIONS)).repeat(EACH, axis=0)
    vectors = centres + 0.7 * generator.standard_normal(centres.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(params=["ivf-sq8", "ivf-pq"])
def index(request: pytest.FixtureRequest, grouped: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> AnnIndex:
    kind: Kind = request.param
    monkeypatch.setattr(ann, "FLAT_ROWS", 100)
    return AnnIndex.build(grouped, kind=kind, threads=1)


def recall(index: AnnIndex, vectors: np.ndarray, queries: np.ndarray, mask: np.ndarray, probes: int) -> float:
    wide = vectors.astype(np.float32)
    rows = index.search(queries, 100, RowSet(mask), probes=probes)[1]
    exact = np.argsort(-np.where(mask, queries @ wide.T, -np.inf), axis=1)[:, :10]
    return float(np.mean([len(np.intersect1d(found[:10], true)) / 10 for found, true in zip(rows, exact, strict=True)]))


def test_a_category_far_from_the_query_is_found(index: AnnIndex, grouped: np.ndarray):
    mask = np.arange(len(grouped)) // EACH >= GROUPS - 3  # three groups; the queries are near others
    queries = grouped[: 20 * EACH : EACH].astype(np.float32)
    assert recall(index, grouped, queries, mask, probes=8) >= 0.99


def test_rows_anywhere_are_found(index: AnnIndex, grouped: np.ndarray):
    mask = np.random.default_rng(1).random(len(grouped)) < 0.2
    assert recall(index, grouped, grouped[::300].astype(np.float32), mask, probes=16) >= 0.97


def test_one_query_finds_what_it_finds_among_others(index: AnnIndex, grouped: np.ndarray):
    allowed = RowSet(np.random.default_rng(2).random(len(grouped)) < 0.1)
    queries = grouped[::500].astype(np.float32)
    scores, rows = index.search(queries, 20, allowed, probes=4)
    assert (np.diff(scores, axis=1) <= 0).all()
    for number in range(len(queries)):
        assert index.search(queries[number : number + 1], 20, allowed, probes=4)[1].tolist() == rows[number : number + 1].tolist()


def test_where_fewer_are_admitted_the_rest_is_empty(index: AnnIndex, grouped: np.ndarray):
    mask = np.zeros(len(grouped), bool)
    mask[[5, 900, 5990]] = True
    scores, rows = index.search(grouped[:1].astype(np.float32), 10, RowSet(mask))
    assert set(rows[0, :3].tolist()) == {5, 900, 5990}
    assert (rows[0, 3:] == -1).all()
    assert (scores[0, 3:] == -np.inf).all()


def test_nothing_but_what_is_admitted_is_found(index: AnnIndex, grouped: np.ndarray):
    mask = np.random.default_rng(3).random(len(grouped)) < 0.3
    rows = index.search(grouped[::700].astype(np.float32), 50, RowSet(mask))[1]
    assert mask[rows[rows >= 0]].all()
