"""Jobs at rest: what was asked for, how far it is and how it ended, in `<data>/_jobs.sqlite`.

Every process of a data folder sees the same jobs, and a restart loses none. A damaged file is kept aside and jobs start anew: a
server that could not start would lose more. Who runs jobs is in `api.jobs`.
"""

import fcntl
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from engine.errors import NotFound, Overloaded, StorageError

State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
Reach: TypeAlias = tuple[str, Sequence[str]]
"""Which jobs somebody sees: those that the API key of this id asked for, and those of these collections."""

logger = logging.getLogger(__name__)
FILE = "_jobs.sqlite"
DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
KEPT_S = 30 * 86_400
ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled"})

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, collection TEXT, key TEXT,
    state TEXT NOT NULL, request TEXT NOT NULL, progress TEXT NOT NULL DEFAULT '{}', preview TEXT,
    message TEXT NOT NULL DEFAULT '', result TEXT, attempts INTEGER NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, updated REAL NOT NULL)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs (kind, state, number)"
_COLUMNS = (
    "id, kind, state, request, collection, key, progress, preview, message, result, attempts, cancel, revision, created, updated"
)


@dataclass(frozen=True, slots=True)
class Job:
    """One job. `progress` and `result` are JSON objects of its kind; times are seconds since 1970.

    `key` is the id of the API key that asked for it, `preview` the newest picture of work under way as a data URI; `cancel` says
    that somebody wants it to end; `revision` changes with every change.
    """

    id: str
    kind: str
    state: State
    request: Mapping[str, Any]
    collection: str | None = None
    key: str | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    preview: str | None = None
    message: str = ""
    result: Mapping[str, Any] | None = None
    attempts: int = 0
    cancel: bool = False
    revision: int = 0
    created: float = 0.0
    updated: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in ENDED


class JobStore:
    """The table of jobs; thread-safe. Raises `StorageError` when the disk refuses. Close it."""

    def __init__(self, data: Path, *, busy_s: float = 10.0, clock: Callable[[], float] = time.time) -> None:
        self._path = data / FILE
        self._busy_s = busy_s
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def add(self, job: Job, *, most: int) -> Job:
        """Queue a job under a new id unless it has one; raises `Overloaded` when `most` of its kind wait already."""
        id, now = job.id or new_id(), self._clock()
        with self._writing() as connection:
            waiting = connection.execute("SELECT count(*) FROM jobs WHERE kind = ? AND state = 'queued'", (job.kind,)).fetchone()[0]
            if waiting >= most:
                raise Overloaded(f"{waiting} jobs of the kind {job.kind} are waiting: try again later")
            connection.execute(
                "INSERT INTO jobs (id, kind, collection, key, state, request, created, updated) "
                "VALUES (?, ?, ?, ?, 'queued', ?, ?, ?)",
                (id, job.kind, job.collection, job.key, _json(job.request), now, now),
            )
        return self.get(id)

    def get(self, id: str) -> Job:
        """Return one job; raises `NotFound`."""
        rows = self._rows("WHERE id = ?", (id,))
        if not rows:
            raise NotFound(f"there is no job {id[:80]!r}: it never was, or ended more than {KEPT_S // 86_400} days ago")
        return rows[0]

    def newest(
        self, *, kind: str | None = None, collection: str | None = None, limit: int = 50, reach: Reach | None = None
    ) -> list[Job]:
        """List the newest jobs first, of one kind or one collection if asked, and of those within `reach`."""
        key, collections = reach or (None, ())
        where = (
            "WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR collection = ?2) "
            "AND (?4 IS NULL OR key = ?4 OR collection IN (SELECT value FROM json_each(?5))) ORDER BY number DESC LIMIT ?3"
        )
        return self._rows(where, (kind, collection, limit, key, orjson.dumps(list(collections)).decode()))

    def counts(self) -> dict[tuple[str, str], int]:
        """Count the jobs by kind and state."""
        with self._writing() as connection:
            rows = connection.execute("SELECT kind, state, count(*) FROM jobs GROUP BY kind, state").fetchall()
        return {(kind, state): count for kind, state, count in rows}

    def take(self, kind: str) -> Job | None:
        """Begin the oldest queued job of a kind; None when none waits."""
        rows = self._rows("WHERE kind = ? AND state = 'queued' ORDER BY number LIMIT 1", (kind,))
        if not rows:
            return None
        changed = self._change("state = 'running', attempts = attempts + 1", "id = ? AND state = 'queued'", (rows[0].id,))
        return self.get(rows[0].id) if changed else None

    def note(self, id: str, progress: Mapping[str, Any], message: str, preview: str | None) -> None:
        """Write how far a running job is; without a preview the last one stays."""
        values = (_json(progress), message, preview, id)
        self._change("progress = ?, message = ?, preview = coalesce(?, preview)", "id = ? AND state = 'running'", values)

    def settle(self, id: str, state: State, message: str, result: Mapping[str, Any] | None) -> None:
        """End a running job, or queue it again."""
        values = (state, message, None if result is None else _json(result), id)
        self._change("state = ?, message = ?, result = ?, preview = NULL", "id = ? AND state = 'running'", values)

    def ask_to_cancel(self, id: str) -> Job:
        """Cancel a job that waits, at once; tell one that runs to end. One that has ended stays as it is. Raises `NotFound`."""
        self.get(id)
        self._change("state = 'cancelled', cancel = 1", "id = ? AND state = 'queued'", (id,))
        self._change("cancel = 1", "id = ? AND state = 'running'", (id,))
        return self.get(id)

    def recover(self, kind: str, *, attempts: int) -> None:
        """Queue again what was running when its process died; what died `attempts` times has failed."""
        died = f"the server ended {attempts} times while this job was running: it is not tried again"
        self._change("state = 'cancelled'", "kind = ? AND state = 'running' AND cancel = 1", (kind,))
        self._change("state = 'failed', message = ?", "kind = ? AND state = 'running' AND attempts >= ?", (died, kind, attempts))
        self._change("state = 'queued'", "kind = ? AND state = 'running'", (kind,))

    def forget(self) -> list[str]:
        """Remove jobs that ended long ago; returns their ids."""
        before = self._clock() - KEPT_S
        with self._writing() as connection:
            rows = connection.execute(
                "DELETE FROM jobs WHERE updated < ? AND state IN ('done', 'failed', 'cancelled') RETURNING id", (before,)
            ).fetchall()
        return [id for (id,) in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _change(self, what: str, where: str, values: Sequence[object]) -> int:
        """Change rows; `what` and `where` are of this module, `values` fill their places in order."""
        statement = f"UPDATE jobs SET revision = revision + 1, updated = {self._clock()!r}, {what} WHERE {where}"  # noqa: S608
        with self._writing() as connection:
            return connection.execute(statement, tuple(values)).rowcount

    def _rows(self, where: str, values: Sequence[object]) -> list[Job]:
        with self._writing() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM jobs {where}", tuple(values)).fetchall()  # noqa: S608
        return [_job(row) for row in rows]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection inside one transaction."""
        try:
            with self._lock, self._opened() as connection:
                yield connection
        except (OSError, sqlite3.Error) as error:
            if _is_damage(error):  # whoever asks next finds it out while opening, and begins a new file
                self.close()
            raise StorageError(f"jobs cannot be kept in {self._path} ({error}): check the folder and its disk") from error

    def _opened(self) -> sqlite3.Connection:
        """Give the connection; another one when a process beside this has put the file aside."""
        if self._connection is not None and not (self._path.exists() and self._path.stat().st_ino == self._inode):
            self._connection.close()  # it would write to a file that nobody reads
            self._connection = None
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # SQLite does not wait where two set the mode of a new file's log
                self._connection = self._connect_or_begin_anew()
            self._inode = self._path.stat().st_ino
        return self._connection

    def _connect_or_begin_anew(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise
            self._put_aside(error)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        """Open the file and read all of it, so that damage is found before anything relies on it."""
        connection = sqlite3.connect(self._path, timeout=self._busy_s, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise Damaged(found)
            with connection:
                connection.execute(_SCHEMA)
                connection.execute(_INDEX)
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_aside(self, error: sqlite3.Error) -> None:
        """Rename a damaged file, with its log; whoever opens the file next finds none."""
        kept = self._path.with_name(f"{self._path.stem}.damaged-{time.time_ns()}{self._path.suffix}")
        for end in ("-wal", "-shm", ""):  # the file itself last: a log without it would be taken for the new file's
            part = self._path.with_name(self._path.name + end)
            if part.exists():
                part.rename(kept.with_name(kept.name + end))
        logger.error("%s is damaged (%s): jobs start anew, and what waited is lost; it is kept as %s", self._path, error, kept)


class Damaged(sqlite3.DatabaseError):
    """The file can be opened, and is not as SQLite wrote it."""


def _is_damage(error: Exception) -> bool:
    name = getattr(error, "sqlite_errorname", "") or ""
    return isinstance(error, Damaged) or name.startswith(DAMAGE)


def new_id() -> str:
    """Draw an id that nobody guesses."""
    return secrets.token_hex(12)


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(value)).decode()


def _job(row: Sequence[Any]) -> Job:
    id, kind, state, request, collection, key, progress, preview, message, result, *rest = row
    attempts, cancel, revision, created, updated = rest
    return Job(
        id,
        kind,
        state,
        orjson.loads(request),
        collection,
        key,
        orjson.loads(progress),
        preview,
        message,
        None if result is None else orjson.loads(result),
        attempts,
        bool(cancel),
        revision,
        created,
        updated,
    )
