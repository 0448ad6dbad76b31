"""Making new segments out of the documents, and putting them in force in one step.

    segments/<n>/   finished segments: those in force and those before them, which other processes may still be reading
    CURRENT         number and manifest digest of the newest, which names the others; replaced atomically
    compaction.lock held by the process that compacts; the kernel lets go of it when the process dies

Killed at any point, this leaves CURRENT pointing at whole segments; what is left lying about is removed when it is opened again.
"""

import fcntl
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyroaring import BitMap

from engine import media
from engine.database import Database
from engine.errors import StorageError
from engine.index.ann import Kind
from engine.index.changes import sweep, trim
from engine.index.merging import Extent, Plan, make_plan
from engine.index.published import Published, open_published, open_surviving
from engine.index.segment import Older, SegmentDamaged, sync, write_manifest
from engine.index.tuning import read_tuning
from engine.index.writing import write_segment

logger = logging.getLogger(__name__)


class Segments:
    """The segments of one collection. Publishing is safe from several processes; `database` is the collection's."""

    def __init__(self, folder: Path, database: Database, *, threads: int, kind: Kind | None = None) -> None:
        self._folder, self._database, self._threads, self._kind = folder, database, threads, kind
        # Half the threads: searches go on meanwhile, and threads that outnumber idle cores wait on one another.
        self._build_threads = max(1, threads // 2)
        self._current = folder / "CURRENT"

    def stamp(self) -> tuple[int, int] | None:
        """Tell which CURRENT is in force, cheaply: it differs after every publication."""
        try:
            status = self._current.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def open_current(self, held: Published | None = None) -> Published | None:
        """Open the segments in force, None when there are none yet; raises `SegmentDamaged`.

        Those that `held` has open already are not opened again.
        """
        while True:
            stamp = self.stamp()
            if stamp is None:
                return None
            try:
                return open_published(self._folder / "segments", self._read_current(), threads=self._threads, held=held)
            except (SegmentDamaged, FileNotFoundError) as error:
                if self.stamp() == stamp:  # else another process published meanwhile and removed what we were reading
                    raise SegmentDamaged(str(error)) from error

    def publish(self, *, wait: bool = True, extent: Extent = "mergeable", held: Published | None = None) -> Published | None:
        """Write what has changed into a new segment and put it in force; returns what is in force then.

        `extent` says which older documents are written again too. None when another process is publishing and `wait` is false.
        Raises `StorageError` when the disk refuses; what was in force stays so then.
        """
        with compaction_lock(self._folder, wait=wait) as lock:
            return None if lock is None else self.publish_locked(extent, held)

    def publish_locked(self, extent: Extent, held: Published | None = None) -> Published:
        """Do as `publish`, in a process that has the lock already."""
        return self._publish(lambda: self._in_force(held), extent)

    def repair(self) -> Published:
        """Read every byte of every segment in force, and publish anew the documents of those that are not as written."""
        with compaction_lock(self._folder, wait=True):
            return self._publish(self._surviving, "due")

    def _publish(self, find: Callable[[], tuple[Published | None, bool]], extent: Extent) -> Published:
        try:
            return self._published(*find(), extent)
        except (OSError, RuntimeError) as error:  # FAISS reports a full disk as a RuntimeError
            raise StorageError(f"a new segment could not be written below {self._folder}: {error}") from error

    def _published(self, previous: Published | None, complete: bool, extent: Extent) -> Published:
        before = previous.numbers if previous else set()
        self._clean(before)
        with self._database.reading() as connection:
            plan = make_plan(connection, previous, extent, complete=complete)
            name = self._write(connection, plan)
        self._put_in_force(*name)
        published = open_published(self._folder / "segments", name, threads=self._threads, held=previous)
        self._clean(published.numbers | before)
        logger.info("segment %d of %s is in force at version %d", name[0], self._folder, plan.version)
        self._tidy(min(previous.version, plan.version) if previous else 0)  # less than before when a backup was restored
        return published

    def _write(self, connection: sqlite3.Connection, plan: Plan) -> tuple[int, str]:
        """Write the documents of a plan as one segment, or several that follow one another; returns the name of the last."""
        folder, number, kind = self._folder / "segments", max([0, *self._numbers()]), self._kind_for(plan.total)
        older = [Older(s.number, s.digest, gone) for s, gone in zip(plan.kept, plan.dead, strict=True)]
        place = 0
        while True:
            number += 1
            building = folder / f"{number}.building"
            building.mkdir(parents=True)
            try:
                rest, threads = plan.keys[place:], self._build_threads
                place += write_segment(building, connection, rest, limit=plan.limit, kind=kind, threads=threads)
                digest = write_manifest(building, plan.version, older)
            except BaseException:
                shutil.rmtree(building, ignore_errors=True)
                raise
            building.rename(folder / str(number))
            sync(folder)
            if place >= len(plan.keys):
                return number, digest
            older = [*older, Older(number, digest, BitMap())]

    def _kind_for(self, documents: int) -> Kind:
        return self._kind or read_tuning(self._folder).kind_for(documents)

    def _in_force(self, held: Published | None) -> tuple[Published | None, bool]:
        try:
            return self.open_current(held), True
        except SegmentDamaged:
            return self._surviving()

    def _surviving(self) -> tuple[Published | None, bool]:
        try:
            return open_surviving(self._folder / "segments", self._read_current(), threads=self._threads)
        except (SegmentDamaged, FileNotFoundError):
            return None, False

    def _tidy(self, forgotten: int) -> None:
        try:
            trim(self._database, forgotten)
            removed = sweep(self._database)
            pictures = media.sweep(self._folder, self._database)
        except (StorageError, OSError) as error:  # the segment is in force all the same, and the next compaction tidies up
            logger.warning("the database of %s was not tidied up: %s", self._folder, error)
        else:
            logger.info("%d unused vectors and %d pictures of %s were removed", removed, pictures, self._folder)

    def _put_in_force(self, number: int, digest: str) -> None:
        fresh = self._folder / "CURRENT.new"
        fresh.write_text(f"{number} {digest}\n")
        sync(fresh)
        os.replace(fresh, self._current)
        sync(self._folder)

    def _read_current(self) -> tuple[int, str]:
        text = self._current.read_bytes().decode("ascii", "replace")
        match = re.fullmatch(r"(\d+) ([0-9a-f]{64})\n", text)
        if match is None:
            raise SegmentDamaged(f"{self._current} is not as written")
        return int(match[1]), match[2]

    def _numbers(self) -> Iterator[int]:
        folder = self._folder / "segments"
        return (int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else iter(())

    def remove_unfinished(self) -> None:
        """Remove what a killed compaction has left: it would lie there until the next one. Never raises."""
        with suppress(StorageError, SegmentDamaged, OSError):
            if any(self._unfinished()):
                with compaction_lock(self._folder, wait=False) as lock:
                    for path in self._unfinished() if lock is not None else ():
                        shutil.rmtree(path, ignore_errors=True)

    def _unfinished(self) -> Iterator[Path]:
        folder, newest = self._folder / "segments", 0 if self.stamp() is None else self._read_current()[0]
        for path in folder.iterdir() if folder.exists() else ():
            if path.suffix == ".building" or (path.name.isdigit() and int(path.name) > newest):
                yield path

    def _clean(self, kept: set[int]) -> None:
        folder = self._folder / "segments"
        for path in folder.iterdir() if folder.exists() else ():
            if path.name not in map(str, kept):
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def compaction_lock(folder: Path, *, wait: bool) -> Iterator[int | None]:
    """Lend the lock of a collection's compactions, a descriptor; None when another process has it and `wait` is false."""
    try:
        file = (folder / "compaction.lock").open("w")
    except OSError as error:
        raise StorageError(f"{folder} cannot be written ({error}): check its permissions and its disk") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file.fileno()
