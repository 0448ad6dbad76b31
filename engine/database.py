"""Connections to one SQLite file: pooled readers, one writer at a time, and errors in the engine's words.

Here belongs what is true of any SQLite file in WAL mode. Which tables exist and what they mean stands in `engine.documents`.
"""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any, TypeVar
from urllib.parse import quote

from engine.errors import CollectionBusy, CollectionCorrupt, CollectionNotFound, SemblanceError, StorageError

Item = TypeVar("Item")
COPIED_PAGES = 2048
LOG_BYTES = 64 * 2**20  # a log that grew beside a long read shrinks to this again
LOG_PAGES = 8_000  # written back to the file when there are so many; with 1,000 a large load synced twice as often as it commits
WRITER_BYTES = 32 * 2**20  # of pages kept by the writer: keys are hashes, so a batch touches as many places as it has documents
CHUNK = 500  # SQLite admits at least 999 variables in one statement in every build


def chunks(items: Sequence[Item], size: int = CHUNK) -> Iterator[Sequence[Item]]:
    """Cut `items` into runs of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def rows_in(
    connection: sqlite3.Connection, statement: str, items: Sequence[int] | Sequence[str] | Sequence[bytes]
) -> Iterator[Any]:
    """Run a statement that ends its condition in `IN (*)` for any number of items, and give the rows of all."""
    for part in chunks(items):
        yield from connection.execute(statement.replace("(*)", f"({','.join('?' * len(part))})"), part)


class Database:
    """One SQLite file. Reads run side by side on pooled connections, writes one after another.

    Whoever opens it closes it. Raises `CollectionBusy` when another writer holds the lock for longer than the timeout,
    `StorageError` when the disk refuses and `CollectionCorrupt` when the file is damaged.
    """

    def __init__(self, path: Path, *, busy_timeout_ms: int) -> None:
        self.path = path
        self.busy_timeout_ms, self._timeout = busy_timeout_ms, busy_timeout_ms / 1000
        self._write_lock = threading.Lock()
        self._idle: LifoQueue[sqlite3.Connection] = LifoQueue()
        self._writer: sqlite3.Connection | None = None
        self._closed = False
        self._inode = path.stat().st_ino

    @property
    def gone(self) -> bool:
        """Whether the file was removed, or replaced by another, since it was opened."""
        try:
            return self.path.stat().st_ino != self._inode
        except OSError:
            return True

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside one read transaction: everything read comes from one state."""
        with self._translated():
            connection = self._borrow()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                self._give_back(connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend the writer inside one transaction, committed on leaving and rolled back on any error."""
        if not self._write_lock.acquire(timeout=self._timeout):
            raise self._busy()
        try:
            with self._translated():
                connection = self._open_writer()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        finally:
            self._write_lock.release()

    def copy_to(self, target: Path, *, told: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Copy the file as it is at one moment; writers go on meanwhile.

        `told` hears how many bytes of how many are done; what it raises ends the work. Raises `StorageError` when the disk refuses.
        """

        def progress(_status: int, left: int, total: int) -> None:
            told((total - left) * size, total * size)

        with self._translated(target), closing(sqlite3.connect(target)) as copy, closing(self._connect()) as connection:
            (size,) = connection.execute("PRAGMA page_size").fetchone()
            connection.execute("BEGIN")
            connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchone()  # from here on it sees one state
            connection.backup(copy, pages=COPIED_PAGES, progress=progress)
            copy.execute("PRAGMA journal_mode = DELETE")  # so that the file is whole by itself

    def close(self) -> None:
        """Close every idle connection; a read under way closes its own when it ends."""
        with self._write_lock:
            self._closed = True
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return

    def _borrow(self) -> sqlite3.Connection:
        self._check_open()
        try:
            return self._idle.get_nowait()
        except Empty:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            connection.close()
            raise
        if self._closed:
            connection.close()
        else:
            self._idle.put(connection)

    def _open_writer(self) -> sqlite3.Connection:
        self._check_open()
        if self._writer is None:
            self._writer = self._connect()
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA synchronous = FULL")
            self._writer.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            self._writer.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
            self._writer.execute(f"PRAGMA cache_size = {-WRITER_BYTES // 1024}")
        return self._writer

    def _check_open(self) -> None:
        if self.gone:
            raise self._dropped()
        if self._closed:  # while it is being dropped: whoever tries again finds it gone
            raise CollectionBusy(f"collection {self.path.parent.name!r} was closed: open it again")

    def _connect(self) -> sqlite3.Connection:
        mode = "rw"
        if not os.access(self.path.parent, os.W_OK):
            # Without a log to replay the file is whole, and SQLite then needs no shared memory beside it.
            mode = "ro" if self.path.with_name(self.path.name + "-wal").exists() else "ro&immutable=1"
        uri = f"file:{quote(str(self.path.absolute()))}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=self._timeout, isolation_level=None, check_same_thread=False)

    @contextmanager
    def _translated(self, written: Path | None = None) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._in_words(error, written or self.path) from error

    def _dropped(self) -> CollectionNotFound:
        return CollectionNotFound(f"collection {self.path.parent.name!r} was dropped while it was in use: open it again")

    def _in_words(self, error: sqlite3.Error, written: Path) -> SemblanceError:
        if self.gone:  # whatever SQLite stumbled over then
            return self._dropped()
        code = getattr(error, "sqlite_errorname", "") or ""
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return self._busy()
        if code.startswith("SQLITE_FULL"):
            free = shutil.disk_usage(written.parent).free // 2**20
            return StorageError(f"no space left to write {written} ({free} MB free): free some and try again; nothing was written")
        if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
            return StorageError(f"{written} cannot be written ({error}): check the permissions of the folder and its disk")
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "no such table" in str(error):
            return CollectionCorrupt(
                f"{self.path} is damaged ({error}): restore it from a backup, or drop the collection and index again"
            )
        return StorageError(f"the database {self.path} refused ({code or type(error).__name__}: {error}): check its disk")

    def _busy(self) -> CollectionBusy:
        name = self.path.parent.name
        return CollectionBusy(
            f"collection {name!r} is being written by another process for longer than {self._timeout:g} s: "
            "try again, or raise SEMBLANCE_BUSY_TIMEOUT_MS"
        )
