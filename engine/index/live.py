"""The index of a collection as it is now: follows the change log, and compacts in the background when that pays.

Every read takes one snapshot and keeps it. Following the log is the work of whoever reads next and is short; making segments is
the work of a background thread. What a snapshot is stands in `engine.index.snapshot`, how it is searched in `engine.index.planner`.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from engine.database import Database
from engine.documents import DocumentStore
from engine.errors import SemblanceError, StorageError
from engine.index.changes import changes_since, everything
from engine.index.compaction import Segments
from engine.index.segment import Segment, SegmentDamaged
from engine.index.snapshot import Snapshot

logger = logging.getLogger(__name__)
COMPACT_ROWS = 20_000  # so many pending documents are scanned in 1 ms; with fewer a new segment would not be felt
CLOSE_ROWS = 2_000  # so many are read back in 0.1 s by the next process
COMPACT_SHARE = 0.1
RETRY_S = 60.0


class LiveIndex:
    """The segment in force and the deltas after it. Thread-safe; `close` waits for a compaction under way."""

    def __init__(self, folder: Path, store: DocumentStore, *, threads: int) -> None:
        self._name, self._store = folder.name, store
        self._segments = Segments(folder, store.database, threads=threads)
        self._refresh_lock, self._background_lock = threading.Lock(), threading.Lock()
        self._background: threading.Thread | None = None
        self._retry_at, self._wrote = 0.0, False
        self._stamp = self._segments.stamp()
        self._snapshot = Snapshot.of(self._open_segment())
        if self._snapshot.segment is not None and self._snapshot.segment.unverified:
            self._start(self._verify)

    @property
    def _database(self) -> Database:
        return self._store.database

    def current(self) -> Snapshot:
        """Give the newest state, commits of other processes included."""
        snapshot = self._snapshot
        if snapshot.version == self._store.version():
            return snapshot
        with self._refresh_lock:
            self._adopt_published()
            self._snapshot = self._caught_up(self._snapshot)
            return self._snapshot

    def compact(self, *, wait: bool = True) -> None:
        """Publish a new segment and search it from now on; without `wait`, not while another process is doing so."""
        segment = self._segments.publish(wait=wait)
        if segment is not None:
            self._adopt(segment)

    def compact_if_due(self) -> None:
        """Start a compaction in the background when a write has made the log long. Never raises: the write is done."""
        self._wrote = True
        try:
            if self._is_due(COMPACT_ROWS):
                self._start(self._compact_in_background)
        except SemblanceError as error:
            logger.warning("collection %r was not compacted: %s", self._name, error)

    def close(self) -> None:
        """Wait for the background thread; after writing, leave a segment that the next one to open needs not make."""
        with self._background_lock:
            running = self._background
        if running is not None:
            running.join()
        try:
            if self._wrote and self._is_due(CLOSE_ROWS):
                self._compact_in_background()
        except SemblanceError as error:
            logger.warning("collection %r was not compacted: %s", self._name, error)

    def _is_due(self, rows: int) -> bool:
        segment = self._snapshot.segment
        position, size = (segment.version, len(segment)) if segment else (0, 0)
        pending = self._store.version() - position
        return pending > max(rows, COMPACT_SHARE * size) and time.monotonic() >= self._retry_at

    def _caught_up(self, snapshot: Snapshot) -> Snapshot:
        while True:
            from_nothing = snapshot.segment is None and snapshot.version == 0
            changes = everything(self._database) if from_nothing else changes_since(self._database, snapshot.version)
            if changes is not None:
                return snapshot.advanced(changes) if changes.version != snapshot.version else snapshot
            snapshot = Snapshot.of(self._open_segment())  # start from the segment in force

    def _adopt_published(self) -> None:
        stamp = self._segments.stamp()
        if stamp != self._stamp and self._start(lambda: self._adopt(self._open_segment())):
            self._stamp = stamp

    def _adopt(self, segment: Segment | None) -> None:
        if segment is None:
            return
        fresh = self._caught_up(Snapshot.of(segment))
        with self._refresh_lock:
            held = self._snapshot.segment
            if held is None or held.version <= segment.version:
                self._snapshot = self._caught_up(fresh)
                self._stamp = self._segments.stamp()

    def _open_segment(self) -> Segment | None:
        try:
            segment = self._segments.open_current()
            version = self._store.version()
            if segment is not None and segment.version > version:  # an older database was put in its place
                raise SegmentDamaged(f"{segment.folder} is of version {segment.version}, the documents are of {version}")
        except SegmentDamaged as error:
            return self._rebuilt(error)
        return segment

    def _rebuilt(self, damage: SegmentDamaged) -> Segment | None:
        logger.warning("rebuilding the index of collection %r from its documents: %s", self._name, damage)
        try:
            return self._segments.publish()
        except StorageError as error:
            logger.warning("the index of collection %r cannot be written and is held in memory: %s", self._name, error)
            return None

    def _verify(self) -> None:
        segment = self._snapshot.segment
        try:
            if segment is not None:
                segment.verify()
        except FileNotFoundError:
            logger.info("the segment of collection %r was superseded while it was verified", self._name)
        except SegmentDamaged as error:
            self._adopt(self._rebuilt(error))

    def _compact_in_background(self) -> None:
        try:
            self.compact(wait=False)
        except SemblanceError:
            self._retry_at = time.monotonic() + RETRY_S
            raise

    def _start(self, work: Callable[[], None]) -> bool:
        """Run `work` in the background thread; false when that is busy."""
        with self._background_lock:
            if self._background is not None:
                return False
            self._background = threading.Thread(target=self._run, args=(work,), name=f"index of {self._name}")
            self._background.start()
            return True

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except SemblanceError as error:
            logger.warning("background work on collection %r failed: %s", self._name, error)
        except Exception:
            logger.exception("background work on collection %r failed", self._name)
        finally:
            with self._background_lock:
                self._background = None
