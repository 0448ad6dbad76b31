"""Every `VectorIndex` against brute force: the shipped fake, a segment's view (flat and inverted lists) and a delta's view."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyroaring import BitMap64

from engine.database import Database
from engine.datatypes import Matches
from engine.documents import DocumentStore
from engine.errors import InvalidQuery
from engine.index import ann
from engine.index.changes import everything
from engine.index.compaction import Segments
from engine.index.delta import Delta, DeltaView
from engine.index.segment import SegmentView
from engine.protocols import VectorIndex
from engine.testing import ExactIndex
from tests.storage import encoded, unit

COUNT = 700
VECTORS = unit(COUNT, seed=1).astype(np.float16).astype(np.float32)
Build = Callable[[np.ndarray], tuple[VectorIndex, np.ndarray]]


def stored(folder: Path, vectors: np.ndarray) -> tuple[Database, np.ndarray]:
    """Put a title vector per document into a store; returns the keys in the order of `vectors`."""
    from engine.documents import key_of

    store = DocumentStore.create(folder / "documents.sqlite", busy_timeout_ms=1000)
    store.upsert([encoded(f"p{n}", title=vector) for n, vector in enumerate(vectors)])
    return store.database, np.array([key_of(f"p{n}") for n in range(len(vectors))], np.int64)


def exact(folder: Path, vectors: np.ndarray) -> tuple[VectorIndex, np.ndarray]:
    keys = np.random.default_rng(3).permutation(len(vectors) * 7)[: len(vectors)].astype(np.int64)
    return ExactIndex(keys, vectors), keys


def segment(folder: Path, vectors: np.ndarray) -> tuple[VectorIndex, np.ndarray]:
    database, keys = stored(folder, vectors)
    opened = Segments(folder, database, threads=1).publish()
    assert opened is not None
    return SegmentView(opened.segments[-1], "title"), keys


def delta(folder: Path, vectors: np.ndarray) -> tuple[VectorIndex, np.ndarray]:
    database, keys = stored(folder, vectors)
    return DeltaView(Delta.of(filter(None, everything(database).records.values())), "title"), keys


@pytest.fixture(params=["exact", "flat segment", "segment of lists", "delta"])
def build(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    if request.param == "segment of lists":
        monkeypatch.setattr(ann, "FLAT_ROWS", 100)
        monkeypatch.setattr(ann, "PROBES", 128)  # every list: how many are enough is measured in benchmarks, on real shapes
    kinds = {"exact": exact, "flat segment": segment, "segment of lists": segment, "delta": delta}
    return lambda vectors: kinds[request.param](tmp_path, vectors)


def truth(keys: np.ndarray, vectors: np.ndarray, queries: np.ndarray, k: int, allow: BitMap64 | None) -> Matches:
    """One dot product at a time, sorted by (score down, key up)."""
    found = Matches(np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32))
    for number, query in enumerate(queries):
        scored = [
            (-float(np.dot(v, query)), int(key)) for key, v in zip(keys, vectors, strict=True) if allow is None or key in allow
        ]
        for place, (score, key) in enumerate(sorted(scored)[:k]):
            found.keys[number, place], found.scores[number, place] = key, -score
    return found


def assert_matches(found: Matches, expected: Matches) -> None:
    assert found.keys.shape == expected.keys.shape
    assert found.keys.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert np.allclose(found.scores, expected.scores, atol=1e-5)
    assert np.array_equal(found.keys, expected.keys)


@pytest.mark.parametrize("k", [1, 10, 150])
def test_it_finds_what_brute_force_finds(build: Build, k: int):
    index, keys = build(VECTORS)
    queries = unit(6, seed=2)
    assert len(index) == COUNT
    assert_matches(index.search(queries, k), truth(keys, VECTORS, queries, k, None))


@pytest.mark.parametrize("share", [0.0, 0.002, 0.05, 0.5, 1.0])
def test_a_filter_starves_no_answer(build: Build, share: float):
    index, keys = build(VECTORS)
    allow = BitMap64(keys[np.random.default_rng(4).random(COUNT) < share].tolist())
    queries = unit(3, seed=5)
    assert_matches(index.search(queries, 10, allow), truth(keys, VECTORS, queries, 10, allow))


def test_keys_that_it_does_not_hold_change_nothing(build: Build):
    index, keys = build(VECTORS)
    allow = BitMap64([int(keys[0]), 2**63 - 1, 5 * 10**17])
    found = index.search(VECTORS[:1], 3, allow)
    assert found.keys.tolist() == [[int(keys[0]), -1, -1]]
    assert found.scores[0, 1:].tolist() == [-np.inf, -np.inf]


def test_more_than_there_is_is_padded(build: Build):
    index, keys = build(VECTORS[:3])
    found = index.search(VECTORS[:1], 5)
    assert sorted(found.keys[0, :3]) == sorted(keys)
    assert found.keys[0, 3:].tolist() == [-1, -1]
    assert found.scores[0, 3:].tolist() == [-np.inf, -np.inf]


def test_equal_scores_come_by_ascending_key(build: Build):
    vectors = np.concatenate([np.repeat(VECTORS[:1], 300, axis=0), VECTORS[300:600]])
    index, keys = build(vectors)
    found = index.search(VECTORS[:1], 20)
    assert found.keys[0].tolist() == sorted(keys[:300])[:20]


def test_no_query_gives_no_row(build: Build):
    index, _ = build(VECTORS[:10])
    assert index.search(VECTORS[:0], 4).keys.shape == (0, 4)


def test_a_query_of_another_dimension_is_refused(build: Build):
    index, _ = build(VECTORS[:200])
    with pytest.raises(ValueError if isinstance(index, ExactIndex) else InvalidQuery, match="256"):
        index.search(VECTORS[:1, :128], 4)
