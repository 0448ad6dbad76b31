"""Which ids a job has met, so that duplicates are found and `prune` knows what the feed no longer has.

Kept in a private SQLite file that vanishes with the process: a catalogue of any length costs a few megabytes of memory.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Self

DELETE_BATCH = 500


class Ledger:
    """The ids of one job. Use it as a context manager, from one thread at a time."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE met (id BLOB PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID")
        self._database.execute("CREATE TABLE gone (number INTEGER PRIMARY KEY, id TEXT NOT NULL)")
        self._database.execute("BEGIN")
        self.unidentified: list[int] = []
        """Rows whose id could not be read, the first few."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._database.close()

    def claim(self, id: str, row: int) -> int | None:
        """Take an id for a row; None when it was free, else the number of the row that has it."""
        cursor = self._database.execute(
            "INSERT INTO met VALUES (?1, ?2) ON CONFLICT DO UPDATE SET row = ?2 WHERE row = 0", (_digest(id), row)
        )
        if cursor.rowcount:
            return None
        return int(self._database.execute("SELECT row FROM met WHERE id = ?", (_digest(id),)).fetchone()[0])

    def mention(self, id: str | None, row: int) -> None:
        """Note that a broken row spoke of an id: it may not be pruned, and a good row may still claim it."""
        if id is not None:
            self._database.execute("INSERT OR IGNORE INTO met VALUES (?, 0)", (_digest(id),))
        elif len(self.unidentified) < 10:
            self.unidentified.append(row)

    def missing(self, stored: Iterable[str]) -> Iterator[list[str]]:
        """Yield, in batches, the stored ids that were not met; all of `stored` is read before the first."""
        for id in stored:
            if self._database.execute("SELECT 1 FROM met WHERE id = ?", (_digest(id),)).fetchone() is None:
                self._database.execute("INSERT INTO gone (id) VALUES (?)", (id,))
        cursor = self._database.execute("SELECT id FROM gone ORDER BY number")
        while batch := [id for (id,) in islice(cursor, DELETE_BATCH)]:
            yield batch


def _digest(id: str) -> bytes:
    return hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
