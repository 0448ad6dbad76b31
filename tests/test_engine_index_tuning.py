"""The kind of index and the effort of a search: by size, by setting, by measuring; recorded and followed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.collection import Collection
from engine.config import Settings
from engine.errors import InvalidInput
from engine.index import ann, live, planner, rows
from engine.index.ann import PROBES, AnnIndex, Kind
from engine.index.tuning import FILE, Measurement, Tuning, read_tuning, write_tuning
from tests.storage import encoded

SETTINGS = Settings(threads=1)
COUNT = 3_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ann, live):
        monkeypatch.setattr(module, "FLAT_ROWS", 500)
    monkeypatch.setattr(rows, "RESIDENT_ROWS", 0)
    monkeypatch.setattr(planner, "EXACT_DOCUMENTS", 50)
    monkeypatch.setattr(planner, "SCAN_GAIN", 1)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((60, 256))
    found = centres[generator.integers(0, 60, COUNT)] + 0.9 * generator.standard_normal((COUNT, 256))
    unit: np.ndarray = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop"


@pytest.fixture
def collection(path: Path, vectors: np.ndarray) -> Iterator[Collection]:
    opened = Collection.create(path, fingerprint="f", encoder="e", settings=SETTINGS)
    gap = np.eye(256, dtype=np.float32)[0]
    titles = [v + 0.8 * gap for v in np.roll(vectors, 1, axis=0)]
    opened.upsert([encoded(f"p{n}", [v], t / np.linalg.norm(t)) for n, (v, t) in enumerate(zip(vectors, titles, strict=True))])
    opened.compact()
    yield opened
    opened.close()


def kinds(collection: Collection) -> set[Kind]:
    published = collection._index.current().published
    assert published is not None
    return {index.kind for segment in published.segments if (index := segment.index("image")) is not None}


def test_size_chooses():
    assert [Tuning().kind_for(n) for n in (0, 3_999_999, 4_000_000)] == ["ivf-sq8", "ivf-sq8", "ivf-pq"]
    assert Tuning("flat").kind_for(10**7) == "flat"


@pytest.mark.parametrize("kind", ["flat", "ivf-sq8", "ivf-pq"])
def test_every_kind_is_built_opened_and_found_in(tmp_path: Path, vectors: np.ndarray, kind: Kind):
    halves = vectors.astype(np.float16)
    AnnIndex.build(halves, kind=kind, threads=1).save(tmp_path / "x.faiss")
    index = AnnIndex.open(tmp_path / "x.faiss", halves, threads=1)
    assert (index.kind, len(index), index.exact) == (kind, COUNT, kind == "flat")
    mask = np.arange(COUNT) % 2 == 0
    for allowed in (None, ann.RowSet(mask)):
        _, found = index.search(vectors[:40], 100, allowed)
        scores = np.where(mask | (allowed is None), vectors[:40] @ vectors.T, -9)
        truth = np.argsort(-scores, axis=1)[:, :10]
        assert np.mean([len(np.intersect1d(f, t)) / 10 for f, t in zip(found, truth, strict=True)]) >= 0.97
        assert allowed is None or (found[found >= 0] % 2 == 0).all()


def test_a_setting_decides(path: Path, collection: Collection):
    assert kinds(collection) == {"ivf-sq8"}
    collection.close()
    other = Collection.open(path, settings=Settings(threads=1, index_kind="flat"))
    other._index.compact(extent="everything")
    assert kinds(other) == {"flat"}
    other.close()


def test_tuning_finds_the_least_effort_that_is_enough(path: Path, collection: Collection):
    reader = Collection.open(path, settings=SETTINGS)
    tuning = collection.tune(0.9)
    assert tuning.kind is None
    assert [line.recall >= 0.9 for line in tuning.measured] == [False] * (len(tuning.measured) - 1) + [True]
    assert tuning.probes == tuning.measured[-1].probes
    assert read_tuning(path) == tuning
    assert collection._index.current().probes == tuning.probes
    reader.count(None)  # takes it up in the background
    reader._index.close()
    assert reader._index.current().probes == tuning.probes  # other processes follow
    reader.close()


def test_what_no_effort_reaches_is_made_exact(path: Path, collection: Collection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.index.measuring._recall", lambda *_: 0.5)
    tuning = collection.tune(1.0)
    assert (tuning.kind, tuning.measured[-1].recall) == ("flat", 1.0)
    assert kinds(collection) == {"flat"}
    assert collection.tune(0.01).kind is None  # and back
    assert kinds(collection) == {"ivf-sq8"}


def test_a_small_or_empty_collection_is_exact_anyway(tmp_path: Path):
    empty = Collection.create(tmp_path / "empty", fingerprint="f", encoder="e", settings=SETTINGS)
    assert empty.tune(0.99).measured[-1].recall == 1.0
    empty.upsert([encoded("a", [np.eye(256, dtype=np.float32)[0]])])
    assert empty.tune(0.99).measured[-1].recall == 1.0
    empty.close()


@pytest.mark.parametrize("recall", [0, -1, 1.01])
def test_a_recall_is_a_share(collection: Collection, recall: float):
    with pytest.raises(InvalidInput, match=r"0\.99"):
        collection.tune(recall)


@pytest.mark.parametrize("text", [None, "", "{", '{"kind": 3}', "[]"])
def test_an_unreadable_record_counts_as_none(tmp_path: Path, text: str | None):
    if text is not None:
        (tmp_path / FILE).write_text(text)
    assert read_tuning(tmp_path) == Tuning(None, PROBES, None, ())


def test_a_record_is_read_back(tmp_path: Path):
    tuning = Tuning("ivf-pq", 7, 0.95, (Measurement("ivf-pq", 7, 0.96, 0.1),))
    write_tuning(tmp_path, tuning)
    assert read_tuning(tmp_path) == tuning
