"""Snapshots that the server keeps in its data folder, and the jobs that take and restore them.

Both take as long as the collection is large, so they are jobs. What a snapshot holds stands in `engine.archive`, how jobs run in
`api.jobs`.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from api.jobs import JobEnded, Jobs, Report
from api.jobstore import Job
from engine.archive import Told
from engine.errors import CollectionCorrupt, NotFound
from engine.search import SearchEngine

logger = logging.getLogger(__name__)

TAKE, RESTORE = "snapshot", "restore"
FOLDER = "_snapshots"
MAX_WAITING = 16


class Snapshots:
    """The snapshots of a data folder. Safe to use from several processes."""

    def __init__(self, engine: SearchEngine) -> None:
        self._engine, self._folder = engine, engine.settings.data / FOLDER

    def register(self, jobs: Jobs) -> None:
        """Let jobs of both kinds be run."""
        jobs.register(TAKE, self._take, max_waiting=MAX_WAITING)
        jobs.register(RESTORE, self._restore, max_waiting=MAX_WAITING)

    def new_name(self) -> str:
        """Name a snapshot that is to be taken now."""
        return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:4]}.snapshot"

    def all(self, collection: str) -> list[dict[str, object]]:
        """Describe the snapshots of a collection, oldest first."""
        return [described(collection, path) for path in sorted((self._folder / collection).glob("*.snapshot"))]

    def find(self, collection: str, name: str) -> Path:
        """Find the file of a snapshot; raises `NotFound`."""
        path = self._folder / collection / name
        if not path.is_file():
            raise NotFound(f"there is no snapshot {name!r} of collection {collection!r}: list those there are")
        return path

    def _take(self, job: Job, report: Report, cancelled: Callable[[], bool]) -> Mapping[str, Any]:
        collection, target = str(job.collection), self._folder / str(job.collection) / str(job.request["snapshot"])
        if not target.exists():  # else it was done, and the server ended before it could say so
            self._engine.library.snapshot(collection, target, told=_telling(report, cancelled))
        return described(collection, target)

    def _restore(self, job: Job, report: Report, cancelled: Callable[[], bool]) -> Mapping[str, Any]:
        source = self.find(job.request["collection"], job.request["snapshot"])
        try:
            return asdict(self._engine.library.restore(source, str(job.collection), told=_telling(report, cancelled)))
        except CollectionCorrupt as error:
            logger.error("job %s: %s", job.id, error)
            raise JobEnded(f"the snapshot {source.name} is damaged, or of another version: take another one") from error


def described(collection: str, path: Path) -> dict[str, object]:
    """Say what a client may know of a snapshot."""
    return {"collection": collection, "snapshot": path.name, "bytes": path.stat().st_size}


def _telling(report: Report, cancelled: Callable[[], bool]) -> Told:
    def told(done: int, total: int) -> None:
        if cancelled():
            raise JobEnded("it was ended before its end; nothing of it stays")
        report({"bytes": done, "total": total})

    return told
