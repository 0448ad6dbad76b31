"""The document store: one transaction per write, vectors shared by content, and errors in plain words."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import documents as documents_module
from engine.datatypes import Document, Embedding, EncodedDocument
from engine.documents import DocumentStore, key_of
from engine.errors import (
    CollectionBusy,
    CollectionCorrupt,
    CollectionNotFound,
    DocumentNotFound,
    InvalidDocument,
    InvalidInput,
    KeyCollision,
    StorageError,
)
from tests.storage import axis, content, encoded, unit


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DocumentStore]:
    opened = DocumentStore.create(tmp_path / "documents.sqlite", busy_timeout_ms=200)
    yield opened
    opened.close()


def rows(store: DocumentStore, statement: str) -> list[tuple[object, ...]]:
    with store.database.reading() as connection:
        return connection.execute(statement).fetchall()


def test_what_is_stored_comes_back(store: DocumentStore):
    document = Document(
        "a/1", "Tasse", "für Tee", ("x.jpg", "y.jpg"), {"price": 9.5, "n": 2**62, "on": True, "tags": ("a", "b"), "é": "ü"}
    )
    vectors = unit(2)
    embeddings = (
        Embedding("image", content(vectors[0]), vectors[0], "/x.jpg"),
        Embedding("title", content(vectors[1]), vectors[1]),
    )
    store.upsert([EncodedDocument(document, b"digest", embeddings)])
    (found,) = store.get(["a/1"])
    assert found == document
    assert {name: type(value) for name, value in found.attributes.items()} == {
        "price": float,
        "n": int,
        "on": bool,
        "tags": tuple,
        "é": str,
    }
    assert store.digests(["a/1", "b"]) == {"a/1": b"digest"}
    kept = store.embeddings_of("a/1")
    assert [(e.view, e.content, e.location) for e in kept] == [(e.view, e.content, e.location) for e in embeddings]
    assert all(np.abs(k.vector - v).max() < 1e-3 for k, v in zip(kept, vectors, strict=True))
    assert store.count() == 1


def test_a_file_name_that_is_not_utf8_is_kept(store: DocumentStore):
    name = b"/pictures/caf\xe9.jpg".decode(errors="surrogateescape")
    document = Document("a", images=(name,))
    store.upsert([EncodedDocument(document, b"", (Embedding("image", b"c" * 16, axis(0), name),))])
    assert store.get(["a"]) == [document]
    assert store.embeddings_of("a")[0].location == name


def test_answers_keep_the_order_asked_for(store: DocumentStore):
    store.upsert([encoded(f"p{n}") for n in range(1200)])
    asked = [f"p{n}" for n in range(1199, -1, -1)] + ["nobody"]
    assert [d.id if d else None for d in store.get(asked)] == [*asked[:-1], None]
    assert [d.id if d else None for d in store.by_keys([key_of(id) for id in asked])] == [*asked[:-1], None]
    assert list(store.ids()) == sorted(asked[:-1])


def test_more_ids_than_sqlite_takes_variables(store: DocumentStore):
    ids = [f"p{n}" for n in range(40_000)]
    store.upsert([encoded(id) for id in ids[:50]])
    assert len(store.digests(ids)) == 50
    assert store.delete(ids) == 50
    assert store.vectors_of([id.encode() for id in ids]) == {}


def test_of_two_documents_with_one_id_the_last_wins(store: DocumentStore):
    store.upsert([encoded("a", [axis(0)], text="old"), encoded("b"), encoded("a", [axis(1)], text="new")])
    assert [d.title for d in store.get(["a"]) if d] == ["new"]
    assert [e.content for e in store.embeddings_of("a")] == [content(axis(1))]


def test_upserting_again_replaces_every_embedding(store: DocumentStore):
    store.upsert([encoded("a", [axis(0), axis(1)], title=axis(2))])
    store.upsert([encoded("a", [axis(3)])])
    assert [e.content for e in store.embeddings_of("a")] == [content(axis(3))]


def test_documents_share_a_vector_of_one_content(store: DocumentStore):
    store.upsert([encoded("a", [axis(0)])])
    store.upsert([EncodedDocument(Document("b"), b"", (Embedding("image", content(axis(0)), None, "/b.jpg"),))])
    assert np.array_equal(store.embeddings_of("b")[0].vector, axis(0))
    assert rows(store, "SELECT COUNT(*), MAX(LENGTH(vector)) FROM vectors") == [(1, 512)]


def test_a_vector_left_out_but_not_stored_is_named(store: DocumentStore):
    missing = EncodedDocument(Document("b"), b"", (Embedding("image", b"\x01" * 16, None),))
    with pytest.raises(InvalidInput, match=f"'b'.*{'01' * 16}"):
        store.upsert([encoded("a", [axis(0)]), missing])
    assert store.count() == 0
    assert store.version() == 0


@pytest.mark.parametrize("vector", [np.full(256, np.nan), np.ones(256), np.zeros(256), np.ones(128) / 128**0.5])
def test_what_is_no_unit_vector_is_refused(store: DocumentStore, vector: np.ndarray):
    with pytest.raises(InvalidDocument, match="'a'"):
        store.upsert([EncodedDocument(Document("a"), b"", (Embedding("image", b"c" * 16, vector.astype(np.float32)),))])
    assert store.count() == 0


def test_every_write_moves_the_version(store: DocumentStore):
    versions = [store.version()]
    for write in (
        lambda: store.upsert([encoded("a"), encoded("b")]),
        lambda: store.update(Document("a", "new")),
        lambda: store.delete(["a"]),
    ):
        write()
        versions.append(store.version())
    assert versions == sorted(set(versions))
    store.delete(["nobody"])
    store.upsert([])
    assert store.version() == versions[-1]


def test_an_update_keeps_the_vectors_and_empties_the_digest(store: DocumentStore):
    store.upsert([encoded("a", [axis(0)], title=axis(1), price=1)])
    before = store.embeddings_of("a")
    store.update(Document("a", "new", attributes={"price": 2}))
    assert store.get(["a"]) == [Document("a", "new", attributes={"price": 2})]
    assert [e.content for e in store.embeddings_of("a")] == [e.content for e in before]
    assert store.digests(["a"]) == {"a": b""}


def test_what_is_not_there_is_said(store: DocumentStore):
    with pytest.raises(DocumentNotFound, match="'x'"):
        store.update(Document("x"))
    with pytest.raises(DocumentNotFound, match="'x'"):
        store.embeddings_of("x")
    assert store.delete(["x"]) == 0


def test_deleting_counts_what_was_there(store: DocumentStore):
    store.upsert([encoded("a", [axis(0)]), encoded("b")])
    assert store.delete(["a", "x", "a"]) == 1
    assert store.get(["a", "b"])[0] is None
    assert rows(store, "SELECT COUNT(*) FROM embeddings") == [(0,)]


def test_two_ids_with_one_key_are_refused(store: DocumentStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(documents_module, "key_of", lambda id: 7)
    with pytest.raises(KeyCollision, match=r"'[ab]'.*'[ab]'"):
        store.upsert([encoded("a"), encoded("b")])
    store.upsert([encoded("a")])
    with pytest.raises(KeyCollision, match=r"'b'.*'a'"):
        store.upsert([encoded("b")])
    assert store.get(["b"]) == [None]
    assert [d.id for d in store.get(["a"]) if d] == ["a"]


@given(st.text(min_size=1))
def test_keys_are_63_bits(id: str):
    assert 0 <= key_of(id) < 2**63


def test_keys_never_change():
    # from outside: `printf p1 | b2sum -l 64`, without the last bit
    assert [key_of(id) for id in ("p1", "茶杯")] == [8361833091136382792, 1372003138563785546]


def test_a_writer_elsewhere_is_waited_for_then_named(store: DocumentStore):
    other = sqlite3.connect(store.database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CollectionBusy, match=r"0\.2 s.*SEMBLANCE_BUSY_TIMEOUT_MS"):
        store.upsert([encoded("a")])
    assert store.get(["a"]) == [None]  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    store.upsert([encoded("a")])
    assert store.count() == 1


def test_a_writer_in_another_thread_is_waited_for_then_named(store: DocumentStore):
    with store.database.writing(), pytest.raises(CollectionBusy):
        store.upsert([encoded("a")])


def test_a_full_disk_writes_nothing_and_says_so(store: DocumentStore):
    store.upsert([encoded("a")])
    store.database._writer.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StorageError, match=r"no space left.*MB free"):
        store.upsert([encoded(f"p{n}", list(unit(3, seed=n))) for n in range(100)])
    assert list(store.ids()) == ["a"]
    store.database._writer.execute("PRAGMA max_page_count = 1000000")
    store.upsert([encoded("b")])
    assert list(store.ids()) == ["a", "b"]


def test_a_log_that_grew_beside_a_long_read_shrinks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.database.LOG_BYTES", 100_000)
    monkeypatch.setattr("engine.database.LOG_PAGES", 100)
    store, log = DocumentStore.create(tmp_path / "d.sqlite", busy_timeout_ms=500), tmp_path / "d.sqlite-wal"
    with store.database.reading() as connection:
        connection.execute("SELECT COUNT(*) FROM documents").fetchone()
        for start in range(0, 2_000, 100):
            store.upsert([encoded(f"p{n}", unit(1, seed=n)) for n in range(start, start + 100)])
        assert log.stat().st_size > 1_000_000
    for n in range(2):  # one write finds that nobody reads the log any more, the next begins it anew
        store.upsert([encoded(f"after{n}")])
    assert log.stat().st_size <= 100_000
    store.close()


def test_a_read_only_file_says_so(store: DocumentStore):
    store.upsert([encoded("a")])
    store.database._writer.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError, match=r"cannot be written.*permissions"):
        store.delete(["a"])
    assert list(store.ids()) == ["a"]


@pytest.mark.parametrize("damage", ["no database", "torn page", "empty", "attributes", "vector"])
def test_a_damaged_file_says_so(store: DocumentStore, damage: str):
    store.upsert([encoded(f"p{n}", [vector], colour="red") for n, vector in enumerate(unit(200))])
    if damage in {"attributes", "vector"}:
        with store.database.writing() as connection:
            connection.execute(f"UPDATE {'documents' if damage == 'attributes' else 'vectors'} SET {damage} = x'7b'")
    path = store.database.path
    store.close()
    data = bytearray(path.read_bytes())
    if damage == "no database":
        data[:100] = b"x" * 100
    if damage == "torn page":
        data[4096 : len(data)] = b"\xff" * (len(data) - 4096)
    path.write_bytes(b"" if damage == "empty" else data)
    broken = DocumentStore(path, busy_timeout_ms=200)
    with pytest.raises(CollectionCorrupt):
        broken.embeddings_of("p1") if damage == "vector" else broken.get(["p1"])
    broken.close()


def test_a_closed_or_removed_store_says_so(store: DocumentStore):
    assert not store.database.gone
    elsewhere = store.database.path.rename(store.database.path.with_name("elsewhere"))
    assert store.database.gone
    with pytest.raises(CollectionNotFound, match="dropped"):
        store.count()
    elsewhere.rename(store.database.path)
    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.upsert([encoded("a")])


def test_reads_see_one_state_while_a_write_is_under_way(store: DocumentStore):
    store.upsert([encoded("a", text="old")])
    with store.database.writing() as connection:
        connection.execute("UPDATE documents SET title = 'new'")
        assert [d.title for d in store.get(["a"]) if d] == ["old"]
    assert [d.title for d in store.get(["a"]) if d] == ["new"]


def test_threads_share_the_store(store: DocumentStore):
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(10):
                store.upsert([encoded(f"{name}{number}", [unit(1, seed=number)[0]])])
                assert store.get([f"{name}{number}"]) != [None]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.count() == 60
