"""Writing the files of one segment from the documents, in memory that its size bounds.

Documents stream from SQLite into arrays on disk. Attributes and words are gathered in blocks, laid aside and merged; vectors go to
their file as they come and are read back in blocks to be indexed. What is written is decided in `engine.index.merging`.
"""

import sqlite3
from array import array
from pathlib import Path

import numpy as np

from engine.datatypes import DIMENSIONS, VIEWS, View
from engine.index.ann import AnnIndex, Kind
from engine.index.changes import Record, records_of
from engine.index.columns import ColumnsWriter
from engine.index.lexical import LexicalWriter
from engine.index.words import counted

HEADER_BYTES = 128


def write_segment(folder: Path, connection: sqlite3.Connection, keys: np.ndarray, *, limit: int, kind: Kind, threads: int) -> int:
    """Write every file of a segment but the manifest: documents with `keys`, in order, until one view has `limit` rows.

    Returns how many of the keys were taken.
    """
    taken = _write_documents(folder, connection, keys, limit)
    for view in VIEWS:
        vectors = np.load(folder / f"{view}.vectors.npy", mmap_mode="r")
        if len(vectors):
            AnnIndex.build(vectors, kind=kind, threads=threads).save(folder / f"{view}.faiss")
    return taken


def _write_documents(folder: Path, connection: sqlite3.Connection, keys: np.ndarray, limit: int) -> int:
    written, columns = array("q"), ColumnsWriter(folder)
    writers, lexical = {view: _ViewWriter(folder, view) for view in VIEWS}, LexicalWriter(folder)
    try:
        for record in records_of(connection, keys[:limit].tolist()):
            _write_vectors(writers, record, len(written))
            columns.add(record.id, record.title, record.attributes)
            lexical.add(counted(record.id, record.title, record.description, record.attributes))
            written.append(record.key)
            if max(map(len, writers.values())) >= limit:
                break
        lexical.finish()
    finally:
        for writer in writers.values():
            writer.close()
        lexical.close()
    columns.finish()
    np.save(folder / "keys.npy", np.frombuffer(written, np.int64) if written else np.zeros(0, np.int64))
    if max(map(len, writers.values())) >= limit:
        return int(np.searchsorted(keys, written[-1])) + 1
    return min(len(keys), limit)


def _write_vectors(writers: "dict[View, _ViewWriter]", record: Record, number: int) -> None:
    for view, vector in record.vectors:
        writers[view].add(number, vector)  # type: ignore[index]


class _ViewWriter:
    """Writes the rows of a view one by one; how many there are is known at the end and goes into the header then."""

    def __init__(self, folder: Path, view: View) -> None:
        self._folder, self._view, self._documents = folder, view, array("I")
        self._file = (folder / f"{view}.vectors.npy").open("wb", buffering=2**20)
        self._file.write(bytes(HEADER_BYTES))

    def __len__(self) -> int:
        return len(self._documents)

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
