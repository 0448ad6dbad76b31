"""Making a new segment out of the documents, and putting it in force in one step.

    segments/<n>/   finished segments: the one in force and the one before it, which other processes may still be reading
    CURRENT         number and manifest digest of the one in force; replaced atomically
    compaction.lock held by the process that compacts; the kernel lets go of it when the process dies

Killed at any point, this leaves CURRENT pointing at a whole segment; what is left lying about is removed the next time.
"""

import fcntl
import logging
import os
import re
import shutil
import sqlite3
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from engine.database import Database
from engine.datatypes import DIMENSIONS, VIEWS, View
from engine.documents import version_of
from engine.errors import StorageError
from engine.index.ann import AnnIndex
from engine.index.attributes import ColumnsBuilder
from engine.index.changes import all_records, sweep, trim
from engine.index.lexical import LexicalWriter
from engine.index.segment import Segment, SegmentDamaged, sync, write_manifest
from engine.index.words import counted

logger = logging.getLogger(__name__)
HEADER_BYTES = 128


class Segments:
    """The segments of one collection. Publishing is safe from several processes; `database` is the collection's."""

    def __init__(self, folder: Path, database: Database, *, threads: int) -> None:
        self._folder, self._database, self._threads = folder, database, threads
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

    def open_current(self) -> Segment | None:
        """Open the segment in force, None when there is none yet; raises `SegmentDamaged`."""
        while True:
            stamp = self.stamp()
            if stamp is None:
                return None
            try:
                number, digest = self._read_current()
                return Segment.open(self._folder / "segments" / str(number), digest, threads=self._threads)
            except (SegmentDamaged, FileNotFoundError) as error:
                if self.stamp() == stamp:  # else another process published meanwhile and removed what we were reading
                    raise SegmentDamaged(str(error)) from error

    def publish(self, *, wait: bool = True) -> Segment | None:
        """Write a new segment from the documents and put it in force; returns it opened.

        None when another process is doing so and `wait` is false. Raises `StorageError` when the disk refuses; the segment
        before stays in force then.
        """
        with self._lock(wait=wait) as held:
            if not held:
                return None
            try:
                return self._publish()
            except (OSError, RuntimeError) as error:  # FAISS reports a full disk as a RuntimeError
                raise StorageError(f"a new segment could not be written below {self._folder}: {error}") from error

    def _publish(self) -> Segment:
        previous = self._previous()
        self._clean({previous[0]} if previous else set())
        number = max([0, *self._numbers()]) + 1
        building = self._folder / "segments" / f"{number}.building"
        building.mkdir(parents=True)
        try:
            with self._database.reading() as connection:
                version = write_segment(building, connection, threads=self._build_threads)
            digest = write_manifest(building, version)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        finished = building.rename(building.with_name(str(number)))
        sync(finished.parent)
        self._put_in_force(number, digest)
        self._clean({number, previous[0]} if previous else {number})
        logger.info("segment %d of %s is in force at version %d", number, self._folder, version)
        self._tidy(min(previous[1], version) if previous else 0)  # less than before when a backup was restored
        return Segment.open(finished, digest, threads=self._threads)

    def _tidy(self, forgotten: int) -> None:
        try:
            trim(self._database, forgotten)
            removed = sweep(self._database)
        except StorageError as error:  # the segment is in force all the same, and the next compaction tidies up
            logger.warning("the database of %s was not tidied up: %s", self._folder, error)
        else:
            logger.info("%d unused vectors of %s were removed", removed, self._folder)

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

    def _previous(self) -> tuple[int, int] | None:
        """Tell number and version of the segment in force, if it is whole."""
        try:
            segment = self.open_current()
            return (self._read_current()[0], segment.version) if segment else None
        except SegmentDamaged:
            return None

    def _numbers(self) -> Iterator[int]:
        folder = self._folder / "segments"
        return (int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else iter(())

    def _clean(self, kept: set[int]) -> None:
        folder = self._folder / "segments"
        for path in folder.iterdir() if folder.exists() else ():
            if path.name not in map(str, kept):
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _lock(self, *, wait: bool) -> Iterator[bool]:
        try:
            file = (self._folder / "compaction.lock").open("w")
        except OSError as error:
            raise StorageError(f"{self._folder} cannot be written ({error}): check its permissions and its disk") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


def write_segment(folder: Path, connection: sqlite3.Connection, *, threads: int) -> int:
    """Write every file of a segment but the manifest, from one read transaction; returns the version it stands for."""
    version = version_of(connection)
    keys, columns = array("q"), ColumnsBuilder()
    writers, lexical = {view: _ViewWriter(folder, view) for view in VIEWS}, LexicalWriter(folder)
    try:
        for number, record in enumerate(all_records(connection)):
            keys.append(record.key)
            columns.add(record.id, record.title, record.attributes)
            lexical.add(counted(record.id, record.title, record.description, record.attributes))
            for view, vector in record.vectors:
                writers[view].add(number, vector)  # type: ignore[index]
        lexical.finish()
    finally:
        for writer in (*writers.values(), lexical):
            writer.close()
    np.save(folder / "keys.npy", np.frombuffer(keys, np.int64) if keys else np.zeros(0, np.int64))
    columns.build().save(folder)
    for view in VIEWS:
        vectors = np.load(folder / f"{view}.vectors.npy", mmap_mode="r")
        if len(vectors):
            AnnIndex.build(vectors, threads=threads).save(folder / f"{view}.faiss")
    return version


class _ViewWriter:
    """Writes the rows of a view one by one; how many there are is known at the end and goes into the header then."""

    def __init__(self, folder: Path, view: View) -> None:
        self._folder, self._view, self._documents = folder, view, array("I")
        self._file = (folder / f"{view}.vectors.npy").open("wb", buffering=2**20)
        self._file.write(bytes(HEADER_BYTES))

    def add(self, document: int, vector: bytes) -> None:
        self._documents.append(document)
        self._file.write(vector)

    def close(self) -> None:
        with self._file:
            self._file.seek(0)
            self._file.write(_npy_header((len(self._documents), DIMENSIONS)))
        documents = np.frombuffer(self._documents, np.uint32) if self._documents else np.zeros(0, np.uint32)
        np.save(self._folder / f"{self._view}.documents.npy", documents)


def _npy_header(shape: tuple[int, int]) -> bytes:
    """Write the header of an fp16 `.npy` file (format 1.0), padded to a known length."""
    text = repr({"descr": "<f2", "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little") + text.ljust(HEADER_BYTES - 11) + b"\n"
