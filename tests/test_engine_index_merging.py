"""Which segments are merged: their number stays small, their size bounded, and what died in them is let go of."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.collection import Collection
from engine.config import Settings
from engine.index import merging
from engine.index.merging import choose_merged
from tests.storage import IMAGE, axis, encoded, exchange, ids_of

SETTINGS = Settings(threads=1)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    opened = Collection.create(tmp_path / "shop", fingerprint="f", encoder="e", settings=SETTINGS)
    yield opened
    opened.close()


def sizes(collection: Collection) -> list[int]:
    published = collection._index.current().published
    assert published is not None
    return [len(segment) for segment in published.segments]


def add(collection: Collection, first: int, count: int) -> None:
    collection.upsert([encoded(f"p{n}", [axis(n % 256)], n=n) for n in range(first, first + count)])
    collection._index.compact(extent="due")


def test_small_ones_are_merged_and_large_ones_left():
    assert choose_merged([1_000_000, 50_000, 1_000], [0, 0, 0], 1_000, "due") == {2}
    assert choose_merged([1_000_000, 5_000, 1_000], [0, 0, 0], 1_000, "due") == {1, 2}
    assert choose_merged([1_000_000, 5_000, 1_000], [0, 0, 0], 1_000, "mergeable") == {0, 1, 2}
    assert choose_merged([1_048_000, 5_000], [0, 0], 1_000, "mergeable") == {1}


def test_a_segment_that_crumbles_is_made_anew():
    assert choose_merged([200_000, 500], [0.4, 0.0], 100, "due") == {0}
    assert choose_merged([200_000], [0.3], 100, "due") == set()


def test_their_number_grows_with_the_logarithm():
    segments: list[int] = []
    for _ in range(2_000):
        merged = choose_merged(segments, [0.0] * len(segments), 1_000, "due")
        segments = [s for i, s in enumerate(segments) if i not in merged] + [1_000 + sum(segments[i] for i in merged)]
        assert len(segments) <= 8 + 4  # the full ones, and those that gather beside them
        assert max(segments) <= 2**18
    assert sum(segments) == 2_000_000


def test_a_compaction_costs_what_has_changed(collection: Collection, tmp_path: Path):
    add(collection, 0, 100)
    first = tmp_path / "shop" / "segments" / "1" / "keys.npy"
    before = first.stat().st_ino
    add(collection, 100, 10)
    add(collection, 110, 2)
    assert sizes(collection) == [100, 10, 2]
    assert first.stat().st_ino == before
    add(collection, 0, 3)  # known ones: they live in the new segment and are dead in the first
    assert sizes(collection) == [100, 15]
    assert collection.count(None) == 112
    collection.delete(["p50"])
    reopened = Collection.open(tmp_path / "shop", settings=SETTINGS)
    assert (reopened.count(None), reopened.count("n >= 0")) == (111, 111)
    assert ids_of(reopened, reopened.search(axis(2)[None], 1, weights=IMAGE)[0]) == ["p2"]
    reopened.close()


def test_no_segment_outgrows_the_bound_however_many_pictures_there_are(collection: Collection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(merging, "ROWS", {"mergeable": 10})
    collection.upsert([encoded(f"p{n}", [axis(3 * n), axis(3 * n + 1), axis(3 * n + 2)]) for n in range(11)])
    collection.compact()
    assert sizes(collection) == [4, 4, 3]
    collection.upsert([encoded("last", [axis(200)])])
    collection.compact()
    assert sizes(collection) == [4, 4, 4]
    for n in range(33):
        assert ids_of(collection, collection.search(axis(n)[None], 1, weights=IMAGE)[0]) == [f"p{n // 3}"]


@pytest.mark.parametrize(("harmed", "left"), [("1", [10, 100]), ("2", [100, 10])])
def test_one_damaged_segment_costs_its_own_documents_only(
    collection: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture, harmed: str, left: list[int]
):
    add(collection, 0, 100)
    add(collection, 100, 10)
    exchange(tmp_path / "shop" / "segments" / harmed / "attributes.bin", b"")
    reopened = Collection.open(tmp_path / "shop", settings=SETTINGS)
    assert "rebuilding" in caplog.text
    assert sizes(reopened) == left
    assert (reopened.count("n >= 100"), reopened.count("n < 100")) == (10, 100)
    reopened.close()
