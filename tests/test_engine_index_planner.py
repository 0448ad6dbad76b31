"""The planner: which way a search goes, and that every way gives the exact answer where it must."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.collection import Collection
from engine.config import Settings
from engine.documents import key_of
from engine.errors import InvalidFilter, InvalidQuery
from engine.index import ann, planner, rows
from engine.index.rows import Rows
from tests.storage import BOTH, IMAGE, TITLE, Twin, assert_same, axis, encoded, ids_of, unit

COUNT = 600


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    opened = Collection.create(tmp_path / "shop", fingerprint="f", encoder="e", settings=Settings(threads=1))
    yield opened
    opened.close()


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of documents of every exact scan made."""
    made: list[int] = []
    scan = Rows.scan

    def counted(self: Rows, queries: np.ndarray, documents: np.ndarray | None) -> np.ndarray:
        made.append(self.total if documents is None else len(documents))
        return scan(self, queries, documents)

    monkeypatch.setattr(Rows, "scan", counted)
    return made


@pytest.fixture
def large(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> tuple[Collection, Twin]:
    """A compacted collection that counts as large: more than 100 admitted documents are not scanned."""
    monkeypatch.setattr(planner, "EXACT_DOCUMENTS", 100)
    monkeypatch.setattr(planner, "SCAN_GAIN", 1)
    monkeypatch.setattr(rows, "RESIDENT_ROWS", 0)
    images, titles = unit(COUNT, seed=1), unit(COUNT, seed=2)
    documents = [encoded(f"p{n}", images[n : n + 1], titles[n], n=n) for n in range(COUNT)]
    twin = Twin()
    twin.upsert(documents)
    collection.upsert(documents)
    collection.compact()
    return collection, twin


def test_few_admitted_documents_are_scanned_and_only_those(large: tuple[Collection, Twin], scans: list[int]):
    collection, twin = large
    for query in unit(5, seed=3):
        assert_same(collection, twin, query, BOTH[0], 20, where="n < 100", holds=lambda d: d.attributes["n"] < 100)
    assert set(scans) == {100}


def test_many_admitted_documents_go_through_the_index(large: tuple[Collection, Twin], scans: list[int]):
    collection, twin = large
    for query in unit(5, seed=3):
        assert_same(collection, twin, query, IMAGE[0], 10, where="n < 300", holds=lambda d: d.attributes["n"] < 300)
        assert_same(collection, twin, query, TITLE[0], 10)
    assert scans == []


def test_all_selectivities_are_filled_and_right(large: tuple[Collection, Twin]):
    collection, twin = large
    for admitted in (0, 1, 9, 10, 11, 99, 100, 101, 150, 599, 600):
        query = unit(1, seed=admitted)[0]
        where = f"n < {admitted}"
        assert collection.count(where) == admitted
        assert_same(collection, twin, query, IMAGE[0], 10, where=where, holds=lambda d, a=admitted: d.attributes["n"] < a)


def test_what_the_index_leaves_short_is_scanned(large: tuple[Collection, Twin], scans: list[int], monkeypatch: pytest.MonkeyPatch):
    collection, twin = large
    search = ann.AnnIndex.search

    def short(self: ann.AnnIndex, vectors: np.ndarray, k: int, allowed: object, **options: int) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = search(self, vectors, k, allowed, **options)
        rows[:, 5:] = -1
        return scores, rows

    monkeypatch.setattr(ann.AnnIndex, "search", short)
    assert_same(collection, twin, unit(1, seed=3)[0], BOTH[0], 10)
    assert set(scans) == {COUNT}


def test_pictures_of_one_document_do_not_crowd_out_others(large: tuple[Collection, Twin]):
    collection, twin = large
    query = axis(0)
    crowd = encoded("crowd", [(query + 0.001 * v) / np.linalg.norm(query + 0.001 * v) for v in unit(300, seed=9)], n=0)
    collection.upsert([crowd])
    twin.upsert([crowd])
    collection.compact()
    assert_same(collection, twin, query, IMAGE[0], 10)


def test_ties_across_the_edge_of_the_candidates_are_settled(large: tuple[Collection, Twin], monkeypatch: pytest.MonkeyPatch):
    collection, _ = large
    search = ann.AnnIndex.search

    def unlucky(
        self: ann.AnnIndex, vectors: np.ndarray, k: int, allowed: ann.RowSet | None, *, probes: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of equal scores, the index finds the last rows: it promises no order."""
        scores, found = search(self, vectors, len(self) if allowed is None else len(allowed), allowed, probes=probes)
        order = np.lexsort((-found, -scores))[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)

    monkeypatch.setattr(ann.AnnIndex, "search", unlucky)
    same = [f"same{n}" for n in range(250)]
    collection.upsert([encoded(id, [axis(5)], n=n) for n, id in enumerate(same)])
    for compacted in (False, True):
        if compacted:
            collection.compact()
        (found,) = collection.search(axis(5)[None], 10, weights=IMAGE)
        assert [c.key for c in found] == sorted(map(key_of, same))[:10]
        (found,) = collection.search(axis(5)[None], 10, weights=IMAGE, where="n >= 100")
        assert [c.key for c in found] == sorted(map(key_of, same[100:]))[:10]


def test_a_batch_answers_as_its_queries_do_alone(large: tuple[Collection, Twin]):
    collection, _ = large
    queries = unit(30, seed=4)
    weights = np.random.default_rng(0).random((30, 2)).astype(np.float32)
    weights[0], weights[1] = (1, 0), (0, 1)
    for where in (None, "n < 50", "n < 400"):
        together = collection.search(queries, 7, weights=weights, where=where)
        alone = [collection.search(queries[i : i + 1], 7, weights=weights[i : i + 1], where=where)[0] for i in range(30)]
        assert together == alone


def test_a_document_without_one_view_is_scored_by_the_other(collection: Collection):
    collection.upsert(
        [encoded("picture", [axis(0)]), encoded("words", title=axis(0)), encoded("neither"), encoded("both", [axis(0)], axis(1))]
    )
    (found,) = collection.search(axis(0)[None], 10, weights=BOTH)
    assert {id: (c.score, c.image, c.title) for id, c in zip(ids_of(collection, found), found, strict=True)} == {
        "picture": (1.0, 1.0, None),
        "words": (1.0, None, 1.0),
        "both": (0.5, 1.0, 0.0),
    }
    (found,) = collection.search(axis(0)[None], 10, weights=IMAGE)
    assert set(ids_of(collection, found)) == {"picture", "both"}


def test_scores_are_cosines_though_the_query_is_not_a_unit(collection: Collection):
    collection.upsert([encoded("a", [axis(0)]), encoded("b", [axis(1)])])
    (found,) = collection.search(7 * (axis(0) + axis(2))[None], 2, weights=IMAGE)
    assert [c.score for c in found] == pytest.approx([0.5**0.5, 0.0])


def test_mistakes_are_said(collection: Collection):
    collection.upsert([encoded("a", [axis(0)])])
    with pytest.raises(InvalidFilter, match="column 1"):
        collection.search(axis(0)[None], 5, weights=IMAGE, where="")
    with pytest.raises(InvalidQuery, match="128"):
        collection.search(axis(0)[None, :128], 5, weights=IMAGE)
    with pytest.raises(InvalidQuery, match="not finite"):
        collection.search(np.full((1, 256), np.nan, np.float32), 5, weights=IMAGE)
    with pytest.raises(InvalidQuery, match="k is 0"):
        collection.search(axis(0)[None], 0, weights=IMAGE)
    with pytest.raises(InvalidQuery, match="weights"):
        collection.search(axis(0)[None], 5, weights=np.ones((2, 2), np.float32))
    assert collection.search(np.zeros((0, 256), np.float32), 5, weights=np.zeros((0, 2), np.float32)) == []
