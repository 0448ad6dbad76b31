"""The source of truth: documents, their vectors and a log of changes in one SQLite file.

An upsert or delete is one transaction; its commit is the acknowledgement. Vectors are 256 fp16 numbers (512 bytes) stored once
per content, however many documents show it. Indexes, filters and ranking do not belong here: they are derived from what stands
here, by following the `changes` table.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson

from engine.database import Database, rows_in
from engine.datatypes import DIMENSIONS, AttributeValue, Document, Embedding, EncodedDocument, Vector
from engine.errors import CollectionCorrupt, DocumentNotFound, InvalidDocument, InvalidInput, KeyCollision

SCHEMA = """
CREATE TABLE documents (key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, description TEXT NOT NULL,
    images BLOB NOT NULL, attributes BLOB NOT NULL, digest BLOB NOT NULL);
CREATE TABLE embeddings (key INTEGER NOT NULL, view TEXT NOT NULL, ordinal INTEGER NOT NULL, content BLOB NOT NULL, location BLOB,
    PRIMARY KEY (key, view, ordinal)) WITHOUT ROWID;
CREATE INDEX embeddings_content ON embeddings (content);
CREATE TABLE vectors (content BLOB NOT NULL UNIQUE, vector BLOB NOT NULL);
CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, key INTEGER NOT NULL, op TEXT NOT NULL);
CREATE TABLE orphans (content BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
VECTOR_BYTES = 2 * DIMENSIONS
_COLUMNS = "id, title, description, images, attributes"


def key_of(id: str) -> int:
    """Hash a document id to its key, 63 bits of blake2b, so that shards are encoded anywhere without a shared counter."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big") >> 1


class DocumentStore:
    """Documents, embeddings and vectors of one collection. Safe to use from several threads and processes.

    Every method may raise `StorageError` (disk), `CollectionBusy` (another writer) or `CollectionCorrupt` (damaged file).
    `admit` is asked inside of every write and raises to refuse it.
    """

    def __init__(self, path: Path, *, busy_timeout_ms: int, admit: Callable[[], None] = lambda: None) -> None:
        self.database = Database(path, busy_timeout_ms=busy_timeout_ms)
        self._admit = admit

    @classmethod
    def create(cls, path: Path, *, busy_timeout_ms: int) -> "DocumentStore":
        """Make an empty store in a new file."""
        path.touch(exist_ok=False)
        store = cls(path, busy_timeout_ms=busy_timeout_ms)
        with store.database.writing() as connection:
            for statement in filter(str.strip, SCHEMA.split(";")):
                connection.execute(statement)
        return store

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    # Writes

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self.database.writing() as connection:
            self._admit()
            yield connection

    def upsert(self, documents: Sequence[EncodedDocument]) -> None:
        """Store documents in one transaction; of two with one id the last wins.

        Raises `KeyCollision`, `InvalidDocument` for a vector that is none, and `InvalidInput` when an embedding leaves out a
        vector that is not stored.
        """
        latest, vectors = _checked(documents)
        if not latest:
            return
        with self._writing() as connection:
            _put(connection, latest, vectors)

    def replace(self, encoded: EncodedDocument, *, expected: Document) -> bool:
        """Store a document if the stored one is still `expected`, in one transaction; says whether it was. Raises as `upsert`."""
        latest, vectors = _checked([encoded])
        key = key_of(expected.id)
        with self._writing() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM documents WHERE key = ?", (key,)).fetchone()  # noqa: S608  a constant
            if row is None or _document(row) != expected:
                return False
            _put(connection, latest, vectors)
        return True

    def update(self, document: Document) -> None:
        """Replace a document's row and keep its embeddings.

        Its digest is emptied, so that the next indexing of the feed takes the row anew. Raises `DocumentNotFound`.
        """
        key = key_of(document.id)
        with self._writing() as connection:
            _, id, *values = _row(EncodedDocument(document, b"", ()))
            found = connection.execute(
                "UPDATE documents SET title = ?, description = ?, images = ?, attributes = ?, digest = ? WHERE key = ? AND id = ?",
                [*values, key, id],
            )
            if not found.rowcount:
                raise _not_found(document.id)
            connection.execute("INSERT INTO changes (key, op) VALUES (?, 'update')", (key,))

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents in one transaction; returns how many there were."""
        with self._writing() as connection:
            found = rows_in(connection, "SELECT key FROM documents WHERE id IN (*)", list(dict.fromkeys(ids)))
            return _remove(connection, [key for (key,) in found])

    def delete_chosen(self, choose: Callable[[], Sequence[int]]) -> int:
        """Delete the documents whose keys `choose` names, in the transaction in which it is asked; returns how many there were.

        Nobody writes meanwhile, so what it sees is what is deleted.
        """
        with self._writing() as connection:
            found = rows_in(connection, "SELECT key FROM documents WHERE key IN (*)", choose())
            return _remove(connection, [key for (key,) in found])

    # Reads

    def version(self) -> int:
        """Tell the position of the change log: it grows with every change and never goes back."""
        with self.database.reading() as connection:
            return version_of(connection)

    def count(self) -> int:
        """Count the documents."""
        with self.database.reading() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM documents").fetchone()[0])

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        """Read documents by id, in input order, None where there is none."""
        found = self.by_keys([key_of(id) for id in ids])
        return [document if document and document.id == id else None for id, document in zip(ids, found, strict=True)]

    def by_keys(self, keys: Sequence[int]) -> list[Document | None]:
        """Read documents by key, in input order, None where there is none."""
        found: dict[int, Document] = {}
        with self.database.reading() as connection:
            rows = rows_in(connection, f"SELECT key, {_COLUMNS} FROM documents WHERE key IN (*)", keys)  # noqa: S608  a constant
            found.update((key, _document(row)) for key, *row in rows)
        return [found.get(key) for key in keys]

    def ids(self) -> Iterator[str]:
        """Read every id in ascending order, a page at a time, so that no transaction stays open between pages."""
        last = ""
        while True:
            with self.database.reading() as connection:
                rows = connection.execute("SELECT id FROM documents WHERE id > ? ORDER BY id LIMIT 1000", (last,))
                page = [row[0] for row in rows]
            if not page:
                return
            yield from page
            last = page[-1]

    def digests(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Read the stored digest of each id that exists."""
        with self.database.reading() as connection:
            return dict(rows_in(connection, "SELECT id, digest FROM documents WHERE id IN (*)", ids))

    def vectors_of(self, contents: Sequence[bytes]) -> dict[bytes, Vector]:
        """Read the stored vector of each content that has one, as float32."""
        with self.database.reading() as connection:
            rows = rows_in(connection, "SELECT content, vector FROM vectors WHERE content IN (*)", contents)
            return {content: _unpacked(vector) for content, vector in rows}

    def embeddings_of(self, id: str) -> tuple[Embedding, ...]:
        """Read a document's embeddings with their vectors, pictures in order; raises `DocumentNotFound`."""
        key = key_of(id)
        with self.database.reading() as connection:
            if connection.execute("SELECT 1 FROM documents WHERE key = ? AND id = ?", (key, id)).fetchone() is None:
                raise _not_found(id)
            rows = connection.execute(
                "SELECT e.view, e.content, v.vector, e.location FROM embeddings e JOIN vectors v ON v.content = e.content "
                "WHERE e.key = ? ORDER BY e.view, e.ordinal",
                (key,),
            ).fetchall()
        return tuple(Embedding(view, content, _unpacked(vector), at and os.fsdecode(at)) for view, content, vector, at in rows)


def version_of(connection: sqlite3.Connection) -> int:
    """Tell the position of the change log as this transaction sees it."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").fetchone()
    return int(row[0]) if row else 0


def attributes_of(data: bytes) -> dict[str, AttributeValue]:
    """Read attributes back from their stored form."""
    try:
        return {name: tuple(value) if isinstance(value, list) else value for name, value in orjson.loads(data).items()}
    except orjson.JSONDecodeError as error:
        raise CollectionCorrupt(f"stored attributes are damaged ({error}): restore the collection from a backup") from error


def _checked(documents: Sequence[EncodedDocument]) -> tuple[dict[int, EncodedDocument], dict[bytes, bytes]]:
    """Give the last document of each key, and the vectors that come with them, packed."""
    _check_collisions(encoded.document.id for encoded in documents)
    latest = {key_of(encoded.document.id): encoded for encoded in documents}
    vectors = {e.content: _packed(e, d.document.id) for d in latest.values() for e in d.embeddings if e.vector is not None}
    return latest, vectors


def _put(connection: sqlite3.Connection, latest: Mapping[int, EncodedDocument], vectors: Mapping[bytes, bytes]) -> None:
    _check_stored_ids(connection, {key: encoded.document.id for key, encoded in latest.items()})
    connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", vectors.items())
    _check_vectors_known(connection, latest.values(), vectors)
    connection.executemany("DELETE FROM embeddings WHERE key = ?", [(key,) for key in latest])
    connection.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)", map(_row, latest.values()))
    connection.executemany("INSERT INTO embeddings VALUES (?, ?, ?, ?, ?)", _embedding_rows(latest))
    connection.executemany("INSERT INTO changes (key, op) VALUES (?, 'upsert')", [(key,) for key in latest])


def _remove(connection: sqlite3.Connection, keys: Sequence[int]) -> int:
    deleted = [(key,) for key in keys]
    connection.executemany("DELETE FROM documents WHERE key = ?", deleted)
    connection.executemany("DELETE FROM embeddings WHERE key = ?", deleted)
    connection.executemany("INSERT INTO changes (key, op) VALUES (?, 'delete')", deleted)
    return len(deleted)


def _document(row: Sequence[str | bytes]) -> Document:
    id, title, description, images, attributes = row
    try:
        return Document(str(id), str(title), str(description), tuple(json.loads(images)), attributes_of(bytes(attributes)))  # type: ignore[arg-type]
    except (InvalidDocument, ValueError, TypeError) as error:
        raise CollectionCorrupt(f"the stored document {id!r} is damaged ({error}): restore the collection from a backup") from error


def _row(encoded: EncodedDocument) -> tuple[int, str, str, str, bytes, bytes, bytes]:
    document = encoded.document
    images = json.dumps(document.images).encode()  # unlike orjson it keeps file names that are not UTF-8
    attributes = orjson.dumps(dict(document.attributes), option=orjson.OPT_SERIALIZE_NUMPY)
    return key_of(document.id), document.id, document.title, document.description, images, attributes, encoded.digest


def _embedding_rows(latest: Mapping[int, EncodedDocument]) -> Iterator[tuple[int, str, int, bytes, bytes | None]]:
    for key, encoded in latest.items():
        for ordinal, embedding in enumerate(encoded.embeddings):
            location = None if embedding.location is None else os.fsencode(embedding.location)
            yield key, embedding.view, ordinal, embedding.content, location


def _packed(embedding: Embedding, id: str) -> bytes:
    vector = np.asarray(embedding.vector, np.float32)
    if vector.shape != (DIMENSIONS,) or not np.isfinite(vector).all():
        raise InvalidDocument(f"document {id!r} has a vector of shape {vector.shape}: it must be {DIMENSIONS} finite numbers")
    length = float(np.linalg.norm(vector))
    if not 0.99 < length < 1.01:
        raise InvalidDocument(f"document {id!r} has a vector of length {length:.3g}: divide it by its length first")
    return vector.astype(np.float16).tobytes()


def _unpacked(vector: bytes) -> Vector:
    if len(vector) != VECTOR_BYTES:
        raise CollectionCorrupt(f"a stored vector has {len(vector)} bytes, not {VECTOR_BYTES}: restore the data from a backup")
    return np.frombuffer(vector, np.float16).astype(np.float32)


def _check_collisions(ids: Iterable[str]) -> None:
    seen: dict[int, str] = {}
    for id in ids:
        other = seen.setdefault(key_of(id), id)
        if other != id:
            raise _collision(id, other)


def _check_stored_ids(connection: sqlite3.Connection, ids: Mapping[int, str]) -> None:
    for key, id in rows_in(connection, "SELECT key, id FROM documents WHERE key IN (*)", list(ids)):
        if ids[key] != id:
            raise _collision(ids[key], id)


def _check_vectors_known(
    connection: sqlite3.Connection, documents: Iterable[EncodedDocument], given: Mapping[bytes, bytes]
) -> None:
    owners = {e.content: d.document.id for d in documents for e in d.embeddings if e.content not in given}
    known = {content for (content,) in rows_in(connection, "SELECT content FROM vectors WHERE content IN (*)", list(owners))}
    for content, id in owners.items():
        if content not in known:
            raise InvalidInput(f"document {id!r} refers to content {content.hex()}, of which no vector is stored: encode it")


def _collision(id: str, other: str) -> KeyCollision:
    return KeyCollision(f"the ids {id!r} and {other!r} hash to the same key: change one of them by a character")


def _not_found(id: str) -> DocumentNotFound:
    return DocumentNotFound(f"no document has the id {id!r}: check it, or index the document first")
