"""Segments: what is written is what is read, and no altered byte goes unnoticed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.documents import DocumentStore, key_of
from engine.errors import MissingExtra
from engine.index import ann, segment
from engine.index.ann import AnnIndex, RowSet, to_float32
from engine.index.compaction import Segments
from engine.index.segment import Segment, SegmentDamaged
from tests.storage import axis, encoded, unit

IDS = [f"p{n}" for n in range(40)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DocumentStore]:
    opened = DocumentStore.create(tmp_path / "documents.sqlite", busy_timeout_ms=1000)
    vectors = unit(80, seed=7)
    opened.upsert([encoded(id, vectors[2 * n : 2 * n + n % 3], vectors[n] if n % 2 else None, n=n) for n, id in enumerate(IDS)])
    yield opened
    opened.close()


def published_from(folder: Path, store: DocumentStore) -> Segment:
    found = Segments(folder, store.database, threads=1).publish()
    assert found is not None
    return found.segments[-1]


@pytest.fixture
def published(tmp_path: Path, store: DocumentStore) -> Segment:
    return published_from(tmp_path, store)


def digest_in_force(folder: Path) -> str:
    return (folder / "CURRENT").read_text().split()[1]


def test_a_segment_holds_every_document_by_ascending_key(published: Segment, store: DocumentStore):
    assert published.keys.tolist() == sorted(map(key_of, IDS))
    assert published.version == store.version() == 40
    assert (len(published.rows("image")), len(published.rows("title"))) == (sum(n % 3 for n in range(40)), 20)


def test_its_rows_are_the_stored_vectors(published: Segment, store: DocumentStore):
    for id in IDS:
        number = int(np.searchsorted(published.keys, key_of(id)))
        rows, counts = published.rows("image").of(np.array([number]))
        expected = [e.vector for e in store.embeddings_of(id) if e.view == "image"]
        assert counts.tolist() == [len(expected)]
        assert all(
            np.array_equal(to_float32(published.rows("image").vectors[r : r + 1])[0], v)
            for r, v in zip(rows, expected, strict=True)
        )


def test_a_document_s_best_picture_counts(tmp_path: Path):
    store = DocumentStore.create(tmp_path / "s.sqlite", busy_timeout_ms=1000)
    store.upsert([encoded("a", [axis(0), axis(1)]), encoded("b"), encoded("c", [axis(2)])])
    opened = published_from(tmp_path, store)
    place = {id: int(np.searchsorted(opened.keys, key_of(id))) for id in "abc"}
    for scores in (opened.rows("image").scan(axis(1)[None], None)[0], opened.rows("image").rescore(axis(1), np.arange(3))):
        assert scores[place["a"]] == 1
        assert scores[place["c"]] == 0
        assert np.isnan(scores[place["b"]])
    store.close()


def test_equal_vectors_score_equally_wherever_they_lie(tmp_path: Path):
    store = DocumentStore.create(tmp_path / "s.sqlite", busy_timeout_ms=1000)
    vector, query = unit(2)
    store.upsert([encoded(f"p{n}", [vector]) for n in range(1001)])
    opened = published_from(tmp_path, store)
    assert len(set(opened.rows("image").rescore(query, np.arange(1001)).tolist())) == 1
    assert len(set(opened.rows("image").rescore(query, np.arange(7)).tolist())) == 1
    store.close()


FILES = [
    "keys.npy",
    "attributes.json",
    "attributes.bin",
    "image.documents.npy",
    "image.vectors.npy",
    "image.faiss",
    "title.documents.npy",
    "title.vectors.npy",
    "title.faiss",
    "lexical.words.npy",
    "lexical.offsets.npy",
    "lexical.documents.npy",
    "lexical.counts.npy",
    "lexical.lengths.npy",
    "manifest.json",
]


def test_the_files_are_these(published: Segment):
    assert sorted(path.name for path in published.folder.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["truncated", "one bit", "removed", "longer"])
def test_no_harm_goes_unnoticed(tmp_path: Path, published: Segment, name: str, harm: str):
    path = published.folder / name
    data = bytearray(path.read_bytes())
    if harm == "removed":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "longer":
        path.write_bytes(data + b"\0")
    else:
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    with pytest.raises(SegmentDamaged, match=name):
        Segment.open(published.folder, digest_in_force(tmp_path), threads=1)


def test_large_files_are_digested_after_opening(tmp_path: Path, published: Segment, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(segment, "EAGER_BYTES", 1000)
    path = published.folder / "image.vectors.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    opened = Segment.open(published.folder, digest_in_force(tmp_path), threads=1)
    assert opened.unverified
    with pytest.raises(SegmentDamaged, match=r"image\.vectors"):
        opened.verify()


def test_an_unknown_format_is_rebuilt_not_guessed(tmp_path: Path, published: Segment, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(segment, "FORMAT", 4)
    with pytest.raises(SegmentDamaged, match="format 3, this version reads 4"):
        Segment.open(published.folder, digest_in_force(tmp_path), threads=1)


def test_a_missing_faiss_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MissingExtra, match=r"pip install 'semblance\[cpu\]'"):
        ann.require_faiss()


def clustered(count: int, seed: int) -> np.ndarray:
    """Vectors around 200 centres, as products gather around kinds of product."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((200, 256)).astype(np.float32)
    vectors = centres[generator.integers(0, 200, count)] + 0.6 * generator.standard_normal((count, 256)).astype(np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("share", [1.0, 0.3, 0.02])
def test_lists_find_nearly_all_and_rescoring_orders_them(monkeypatch: pytest.MonkeyPatch, share: float):
    monkeypatch.setattr(ann, "FLAT_ROWS", 1000)
    vectors = clustered(12_000, seed=1)
    queries = to_float32(clustered(50, seed=2))
    index = AnnIndex.build(vectors, threads=1)
    assert not index.exact
    mask = np.random.default_rng(3).random(len(vectors)) < share
    _, found = index.search(queries, 100, None if share == 1 else RowSet(mask))
    truth = np.argsort(np.where(mask | (share == 1), -(queries @ to_float32(vectors).T), np.inf), axis=1)[:, :10]
    recall = np.mean([len(np.intersect1d(f, t)) / 10 for f, t in zip(found, truth, strict=True)])
    assert recall >= 0.99
    assert share == 1 or mask[found[found >= 0]].all()


def test_widening_is_exact():
    halves = np.random.default_rng(0).standard_normal((100, 256)).astype(np.float16)
    halves[0, :3] = (0, -0.0, 6e-8)
    for count in (0, 5, 100):
        assert np.array_equal(to_float32(halves[:count]), halves[:count].astype(np.float32))
