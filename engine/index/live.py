"""The index of a collection as it is now: follows the change log, and compacts in the background when that pays.

Every read takes one snapshot and keeps it. Following the log is the work of whoever reads next and is short; making segments is
the work of another process (`engine.index.compactor`) that a background thread waits for. What a snapshot is stands in
`engine.index.snapshot`, how it is searched in `engine.index.planner`.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from engine.database import Database
from engine.datatypes import VIEWS
from engine.documents import DocumentStore
from engine.errors import SemblanceError, StorageError
from engine.index.ann import FLAT_ROWS, KINDS, Kind
from engine.index.changes import changes_since, everything
from engine.index.compaction import Segments
from engine.index.compactor import Order, compact_apart
from engine.index.measuring import measure
from engine.index.merging import Extent
from engine.index.published import Published
from engine.index.segment import SegmentDamaged
from engine.index.snapshot import Snapshot
from engine.index.tuning import Tuning, write_tuning

logger = logging.getLogger(__name__)
COMPACT_ROWS = 20_000  # so many pending documents are scanned in 1 ms; with fewer a new segment would not be felt
CLOSE_ROWS = 2_000  # so many are read back in 0.1 s by the next process
RETRY_S = 60.0
FOLLOW_S = 0.25  # a reader takes up what others wrote so often, asked or not: 10,000 documents at once would cost a search a second


class LiveIndex:
    """The segments in force and the deltas after them. Thread-safe; `close` waits for a compaction under way."""

    def __init__(self, folder: Path, store: DocumentStore, *, threads: int, kind: Kind | None = None) -> None:
        self._folder, self._name, self._store = folder, folder.name, store
        self._segments = Segments(folder, store.database, threads=threads, kind=kind)
        self._order = Order(str(folder.absolute()), threads, kind, store.database.busy_timeout_ms)
        self._refresh_lock, self._background_lock = threading.Lock(), threading.Lock()
        self._background: threading.Thread | None = None
        self._retry_at, self._wrote = 0.0, False
        self._stamp = self._segments.stamp()
        self._asked = False  # a process that only writes follows no log
        self._closed = threading.Event()
        self._snapshot = Snapshot.of(None)
        self._snapshot = Snapshot.of(self._open_segments())
        self._segments.remove_unfinished()
        if self._snapshot.published is not None and self._snapshot.published.unverified:
            self._start(self._verify)

    @property
    def _database(self) -> Database:
        return self._store.database

    def current(self) -> Snapshot:
        """Give the newest state, commits of other processes included."""
        if not self._asked:
            self._asked = True
            threading.Thread(target=_follow, args=(weakref.ref(self), self._closed), name="log", daemon=True).start()
        snapshot = self._snapshot
        if snapshot.version == self._store.version() and (self._segments.stamp() == self._stamp or self._background is not None):
            return snapshot  # segments are taken up in the background, when that is free
        with self._refresh_lock:
            self._adopt_published()
            self._snapshot = self._caught_up(self._snapshot)
            return self._snapshot

    def compact(self, *, wait: bool = True, extent: Extent = "mergeable") -> None:
        """Publish what has changed, with older documents by `extent`, and search it from now on.

        Without `wait`, not while another process is doing so.
        """
        published = self._segments.publish(wait=wait, extent=extent, held=self._snapshot.published)
        if published is not None:
            self._adopt(published)

    def compact_if_due(self) -> None:
        """Start a compaction in the background when a write has made the log long. Never raises: the write is done."""
        self._wrote = True
        try:
            if self._is_due(COMPACT_ROWS):
                self._start(self._compact_in_background)
        except SemblanceError as error:
            logger.warning("collection %r was not compacted: %s", self._name, error)

    def tune(self, recall: float) -> Tuning:
        """Measure kinds of index, from the one that the size suggests towards exact ones, until one has `recall`; record it."""
        kinds, lines = list(KINDS[::-1]), []  # from the smallest codes to exact ones
        suggested = Tuning().kind_for(len(self.current()))
        for kind in kinds[kinds.index(suggested) :]:
            self._remake(kind)
            lines += measure(self.current(), kind, recall)
            if lines[-1].recall >= recall:
                break
        tuning = Tuning(None if kind == suggested else kind, lines[-1].probes, recall, tuple(lines))
        write_tuning(self._folder, tuning)
        self.compact(extent="due")  # tells other processes
        return tuning

    def _remake(self, kind: Kind) -> None:
        segments = self._snapshot.published.segments if self._snapshot.published else ()
        found = {index.kind for segment in segments for view in VIEWS if (index := segment.index(view)) and len(index) > FLAT_ROWS}
        if found - {kind}:
            write_tuning(self._folder, Tuning(kind))
            self.compact(extent="everything")

    def close(self) -> None:
        """Wait for the background thread; after writing, leave a segment that the next one to open needs not make."""
        self._closed.set()
        with self._background_lock:
            running = self._background
        if running is not None:
            running.join()
        try:
            if self._wrote and self._is_due(CLOSE_ROWS):
                self.compact(wait=False, extent="due")
        except SemblanceError as error:
            logger.warning("collection %r was not compacted: %s", self._name, error)

    def _is_due(self, rows: int) -> bool:
        published = self._snapshot.published
        pending = self._store.version() - (published.version if published else 0)
        return pending > rows and time.monotonic() >= self._retry_at

    def _caught_up(self, snapshot: Snapshot) -> Snapshot:
        while True:
            from_nothing = snapshot.published is None and snapshot.version == 0
            changes = everything(self._database) if from_nothing else changes_since(self._database, snapshot.version)
            if changes is not None:
                return snapshot.advanced(changes) if changes.version != snapshot.version else snapshot
            snapshot = Snapshot.of(self._open_segments())

    def _adopt_published(self) -> None:
        stamp = self._segments.stamp()
        if stamp != self._stamp and self._start(lambda: self._adopt(self._open_segments())):
            self._stamp = stamp

    def _adopt(self, published: Published | None) -> None:
        if published is None:
            return
        fresh = Snapshot.of(published)
        if self._asked:
            fresh = self._caught_up(fresh)  # most of it without the lock
        with self._refresh_lock:
            held = self._snapshot.published
            if held is None or held.version <= published.version:
                self._snapshot = self._caught_up(fresh) if self._asked else fresh
                self._stamp = self._segments.stamp()

    def _open_segments(self) -> Published | None:
        try:
            published = self._segments.open_current(self._snapshot.published)
            version = self._store.version()
            if published is not None and published.version > version:  # an older database was put in its place
                raise SegmentDamaged(f"its segments are of version {published.version}, the documents are of {version}")
        except SegmentDamaged as error:
            return self._rebuilt(error)
        return published

    def _rebuilt(self, damage: SegmentDamaged) -> Published | None:
        logger.warning("rebuilding the index of collection %r from its documents: %s", self._name, damage)
        try:
            return self._segments.repair()
        except StorageError as error:
            logger.warning("the index of collection %r cannot be written and is held in memory: %s", self._name, error)
            return None

    def _verify(self) -> None:
        published = self._snapshot.published
        try:
            if published is not None:
                published.verify()
        except FileNotFoundError:
            logger.info("a segment of collection %r was superseded while it was verified", self._name)
        except SegmentDamaged as error:
            self._adopt(self._rebuilt(error))

    def _compact_in_background(self) -> None:
        try:
            if compact_apart(self._order):
                self._adopt(self._open_segments())
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


def _follow(index: "weakref.ref[LiveIndex]", closed: threading.Event) -> None:
    """Follow the log between searches, until the index is closed, forgotten or dropped."""
    while not closed.wait(FOLLOW_S):
        found = index()
        if found is None or found._database.gone:
            return
        with suppress(SemblanceError):  # whoever searches next is told
            found.current()
        del found
