"""What the index reads from the documents' database: the rows that changed since a position, or all of them in order.

Nothing here writes to it except `trim` and `sweep`, the housekeeping that compaction does.
"""

import sqlite3
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from engine.database import Database, chunks, rows_in
from engine.datatypes import Attributes
from engine.documents import VECTOR_BYTES, attributes_of, version_of
from engine.errors import CollectionCorrupt

_DOCUMENTS = "SELECT key, id, title, description, attributes FROM documents"
# CROSS keeps SQLite from starting at `vectors`: read by key, the rows come in order and need no sorting.
_VECTORS = "SELECT e.key, e.view, v.vector FROM embeddings e CROSS JOIN vectors v ON v.content = e.content"


@dataclass(frozen=True, slots=True)
class Record:
    """What the index needs of one document; `vectors` are (view, 512 bytes of fp16), pictures in order."""

    key: int
    id: str
    title: str
    description: str
    attributes: Attributes
    vectors: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """The documents changed up to `version`, as they are at it; None for one that no longer exists."""

    version: int
    records: Mapping[int, Record | None]


def changes_since(database: Database, position: int) -> Changes | None:
    """Read every document changed after `position`, in one state; None when the log does not hold that position.

    It was trimmed then, or the documents were restored from an older backup.
    """
    with database.reading() as connection:
        version = version_of(connection)
        if not trimmed_to(connection) <= position <= version:
            return None
        keys = [row[0] for row in connection.execute("SELECT DISTINCT key FROM changes WHERE seq > ?", (position,))]
        found: dict[int, Record | None] = dict.fromkeys(keys)
        found.update((record.key, record) for record in records_of(connection, keys))
    return Changes(version, found)


def records_of(connection: sqlite3.Connection, keys: Sequence[int]) -> Iterator[Record]:
    """Read the documents that exist of `keys`, a few at a time, in the order of the keys if that is ascending."""
    for part in chunks(keys):
        documents = rows_in(connection, f"{_DOCUMENTS} WHERE key IN (*) ORDER BY key", part)
        vectors = rows_in(connection, f"{_VECTORS} WHERE e.key IN (*) ORDER BY e.key, e.view, e.ordinal", part)
        yield from _joined(documents, vectors)


def keys_since(connection: sqlite3.Connection, position: int) -> Int64[np.ndarray, " n"] | None:
    """List the documents changed after `position`, ascending, deleted ones included; None when the log does not hold it."""
    if not trimmed_to(connection) <= position <= version_of(connection):
        return None
    return np.unique(_numbers(connection.execute("SELECT key FROM changes WHERE seq > ?", (position,))))


def all_keys(connection: sqlite3.Connection) -> Int64[np.ndarray, " n"]:
    """List every document, ascending; read from the index of the ids, which is much smaller than the documents."""
    return np.sort(_numbers(connection.execute("SELECT key FROM documents INDEXED BY sqlite_autoindex_documents_1")))


def _numbers(rows: Iterator[Any]) -> Int64[np.ndarray, " n"]:
    found = array("q", (row[0] for row in rows))
    return np.frombuffer(found, np.int64) if found else np.zeros(0, np.int64)


def everything(database: Database) -> Changes:
    """Read every document, in one state: what a reader without a segment starts from."""
    with database.reading() as connection:
        return Changes(version_of(connection), {record.key: record for record in all_records(connection)})


def all_records(connection: sqlite3.Connection) -> Iterator[Record]:
    """Read every document by ascending key, within the caller's transaction."""
    documents = connection.execute(f"{_DOCUMENTS} ORDER BY key")
    vectors = connection.execute(f"{_VECTORS} ORDER BY e.key, e.view, e.ordinal")
    return _joined(documents, vectors)


def trimmed_to(connection: sqlite3.Connection) -> int:
    """Tell the position up to which the change log has been forgotten."""
    row = connection.execute("SELECT value FROM marks WHERE name = 'trimmed'").fetchone()
    return int(row[0]) if row else 0


def trim(database: Database, position: int) -> None:
    """Forget the change log up to `position`; readers that are further behind start from the current segment."""
    with database.writing() as connection:
        connection.execute("DELETE FROM changes WHERE seq <= ?", (position,))
        connection.execute("INSERT OR REPLACE INTO marks VALUES ('trimmed', ?)", (position,))


def sweep(database: Database) -> int:
    """Remove vectors that no document has used since the sweep before; returns how many.

    One whole interval of grace lets a product that comes back soon, or an upsert prepared a moment ago, find its vectors.
    """
    with database.reading() as connection:
        known = {row[0] for row in connection.execute("SELECT content FROM orphans")}
        orphans = {row[0] for row in connection.execute("SELECT content FROM vectors EXCEPT SELECT content FROM embeddings")}
    removed = 0
    for part in chunks(sorted(orphans & known), 5_000):  # the writer's lock is let go in between
        with database.writing() as connection:
            removed += connection.executemany(
                "DELETE FROM vectors WHERE content = ?1 AND NOT EXISTS (SELECT 1 FROM embeddings WHERE content = ?1)",
                [(content,) for content in part],
            ).rowcount
    if known or orphans:
        with database.writing() as connection:
            connection.execute("DELETE FROM orphans")
            connection.executemany("INSERT INTO orphans VALUES (?)", [(content,) for content in orphans - known])
    return removed


def _joined(documents: Iterator[Any], vectors: Iterator[Any]) -> Iterator[Record]:
    pending = next(vectors, None)
    for key, id, title, description, attributes in documents:
        own = []
        while pending is not None and pending[0] <= key:
            if len(pending[2]) != VECTOR_BYTES:
                raise CollectionCorrupt(f"a vector of document {id!r} is damaged: restore the collection from a backup")
            if pending[0] == key:
                own.append((pending[1], pending[2]))
            pending = next(vectors, None)
        yield Record(key, id, title, description, attributes_of(attributes), tuple(own))
