"""The live part of the index: documents newer than the segment, exact, in memory.

Deltas are immutable and hold what a few commits brought; small ones are merged as they gather, like the levels of a
log-structured tree, so that following the log costs little however long it gets. Nothing here touches a disk.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np
from pyroaring import BitMap, BitMap64

from engine.datatypes import DIMENSIONS, VIEWS, Attributes, Matches, Vectors, View
from engine.index.attributes import Columns, ColumnsBuilder, numbers_of
from engine.index.changes import Record
from engine.index.lexical import Lexical
from engine.index.matches import admitted_by, best_matches
from engine.index.rows import Rows
from engine.index.words import Counted, counted

Described: TypeAlias = tuple[str, str, Attributes, Counted]


class Delta:
    """Some documents, numbered in ascending order of key, with their vectors as float32."""

    def __init__(self, keys: np.ndarray, described: Sequence[Described], views: Mapping[View, Rows]) -> None:
        self.keys, self._described, self._views = keys, described, views

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Delta":
        """Make a delta of records read from the documents."""
        ordered = sorted(records, key=lambda record: record.key)
        keys = np.array([record.key for record in ordered], np.int64)
        described = [_described(record) for record in ordered]
        return cls(keys, described, {view: _rows(ordered, view) for view in VIEWS})

    @classmethod
    def merged(cls, older: "Delta", dead: BitMap, newer: "Delta") -> "Delta":
        """Join two deltas without the `dead` documents of the older one; no document may be live in both."""
        kept = np.delete(np.arange(len(older)), numbers_of(dead))
        keys = np.concatenate([older.keys[kept], newer.keys])
        order = np.argsort(keys, kind="stable")
        sources = [older._described[int(number)] for number in kept] + list(newer._described)
        views = {view: _merged_rows(older.rows(view), kept, newer.rows(view), order) for view in VIEWS}
        return cls(keys[order], [sources[number] for number in order], views)

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, view: View) -> Rows:
        """Give the vectors of a view."""
        return self._views[view]

    @cached_property
    def columns(self) -> Columns:
        """The attributes, sorted when the first filter asks for them."""
        builder = ColumnsBuilder()
        for id, title, attributes, _ in self._described:
            builder.add(id, title, attributes)
        return builder.build()

    @cached_property
    def lexical(self) -> Lexical:
        """The words, inverted when the first query asks for them."""
        return Lexical.of([words for *_, words in self._described])


class DeltaView:
    """One view of a delta as a `VectorIndex`."""

    def __init__(self, delta: Delta, view: View) -> None:
        self._delta, self._rows = delta, delta.rows(view)

    def __len__(self) -> int:
        return len(self._rows)

    def search(self, vectors: Vectors, k: int, allow: BitMap64 | None = None) -> Matches:
        """Find up to `k` documents per query by their best row, exactly; ties by ascending key."""
        return best_matches(self._delta.keys, self._rows, vectors, k, admitted_by(self._delta.keys, allow))


def _described(record: Record) -> Described:
    words = counted(record.id, record.title, record.description, record.attributes)
    return record.id, record.title, record.attributes, words


def _rows(records: Sequence[Record], view: View) -> Rows:
    owned = [(number, data) for number, record in enumerate(records) for name, data in record.vectors if name == view]
    documents = np.array([number for number, _ in owned], np.uint32)
    vectors = np.frombuffer(b"".join(data for _, data in owned), np.float16).reshape(-1, DIMENSIONS)
    return Rows(documents, vectors.astype(np.float32), len(records))


def _merged_rows(older: Rows, kept: np.ndarray, newer: Rows, order: np.ndarray) -> Rows:
    rows, counts = older.of(kept)
    owners = np.concatenate([np.repeat(np.arange(len(kept)), counts), newer.documents.astype(np.int64) + len(kept)])
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    documents = place[owners]
    by_document = np.argsort(documents, kind="stable")
    vectors = np.concatenate([older.vectors[rows], newer.vectors])[by_document]
    return Rows(documents[by_document].astype(np.uint32), vectors, len(order))
