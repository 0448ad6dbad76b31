"""One state of a collection, whole: the segments, the deltas after them, and what is no longer alive in each.

A snapshot never changes; a newer state is a new snapshot, and a search keeps the one it began with. How candidates are found in it
stands in `engine.index.planner`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int64
from pyroaring import BitMap

from engine.datatypes import DIMENSIONS, VIEWS, View
from engine.filters import check_names, parse
from engine.index.ann import PROBES, RowSet, to_float32
from engine.index.attributes import numbers_of
from engine.index.changes import Changes, Record
from engine.index.delta import Delta
from engine.index.published import Published, places_of
from engine.index.rows import Rows
from engine.index.segment import Segment
from engine.index.wording import Statistics

SELECTIONS_KEPT = 16
MERGE_RATIO = 4  # a delta is merged into the one before it unless that one is so many times larger


class Selection:
    """The documents of one part that may be answered: those in `bitmap`, or all (None) but the `dead`."""

    def __init__(self, part: Segment | Delta, bitmap: BitMap | None, dead: BitMap | None = None) -> None:
        self.part = part
        self._bitmap = None if bitmap is None or len(bitmap) == len(part) else bitmap
        self._dead = dead or None
        self._rows: dict[View, RowSet | None] = {}

    def __len__(self) -> int:
        if self._bitmap is not None:
            return len(self._bitmap)
        return len(self.part) - (0 if self._dead is None else len(self._dead))

    @cached_property
    def mask(self) -> Bool[np.ndarray, " d"] | None:
        """Mark the admitted documents; None for all. What few have died costs a large part next to nothing."""
        marked = self._bitmap if self._bitmap is not None else self._dead
        if marked is None:
            return None
        mask = np.full(len(self.part), self._bitmap is None)
        mask[numbers_of(marked)] = self._bitmap is not None
        return mask

    @cached_property
    def documents(self) -> np.ndarray | None:
        """Number the admitted documents, ascending; None for all."""
        if self._bitmap is not None:
            return numbers_of(self._bitmap)
        return None if self.mask is None else np.flatnonzero(self.mask)

    def rows(self, view: View) -> RowSet | None:
        """Give the admitted rows of a view for FAISS; None for all."""
        if view not in self._rows:
            mask = self.mask
            self._rows[view] = None if mask is None else RowSet(self.part.rows(view).of_marked(mask))
        return self._rows[view]


@dataclass(frozen=True)
class Snapshot:
    """The parts at change-log position `version`; `dead[i]` are the documents of part `i` changed or deleted since."""

    version: int
    published: Published | None
    parts: tuple[Segment | Delta, ...]
    dead: tuple[BitMap, ...]
    _selections: dict[str | None, tuple[Selection, ...]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, published: Published | None) -> "Snapshot":
        """Start from the segments in force, or from nothing."""
        if published is None:
            return cls(0, None, (), ())
        filled = [(s, gone) for s, gone in zip(published.segments, published.dead, strict=True) if len(gone) < len(s)]
        return cls(published.version, published, tuple(s for s, _ in filled), tuple(gone for _, gone in filled))

    def advanced(self, changes: Changes) -> "Snapshot":
        """Make the state after `changes`."""
        keys = np.array(sorted(changes.records), np.int64)
        dead = [gone | places_of(part.keys, keys) for part, gone in zip(self.parts, self.dead, strict=True)]
        parts = [*self.parts]
        fresh = [record for record in changes.records.values() if record is not None]
        if fresh:
            _append(parts, dead, fresh)
        alive = [i for i, part in enumerate(parts) if isinstance(part, Segment) or len(dead[i]) < len(part)]
        return Snapshot(changes.version, self.published, tuple(parts[i] for i in alive), tuple(dead[i] for i in alive))

    @property
    def probes(self) -> int:
        """How many inverted lists of a segment a search visits when nothing is filtered out."""
        return self.published.tuning.probes if self.published else PROBES

    def __len__(self) -> int:
        return sum(map(len, self.parts)) - sum(map(len, self.dead))

    @cached_property
    def names(self) -> frozenset[str]:
        """Name the attributes that a filter can ask for, `id` and `title` included."""
        return frozenset(name for part in self.parts for name in part.columns.names())

    @cached_property
    def statistics(self) -> Statistics:
        """How often words occur, counted when the first query asks."""
        return Statistics(self.parts, self.dead)

    @cached_property
    def sample(self) -> Mapping[View, Rows]:
        """The vectors of a few documents that stand for the whole, by view."""
        drawn = self.statistics.sample
        documents = [np.array([], np.uint32)] * len(VIEWS)
        vectors = [np.zeros((0, DIMENSIONS), np.float32)] * len(VIEWS)
        total = 0
        for part, chosen in drawn:
            for place, view in enumerate(VIEWS):
                rows, counts = part.rows(view).of(chosen)  # type: ignore[attr-defined]
                owners = np.repeat(np.arange(len(chosen), dtype=np.uint32), counts) + np.uint32(total)
                documents[place] = np.concatenate([documents[place], owners])
                vectors[place] = np.concatenate([vectors[place], to_float32(part.rows(view).vectors[rows])])  # type: ignore[attr-defined]
            total += len(chosen)
        return {view: Rows(documents[place], vectors[place], total) for place, view in enumerate(VIEWS)}

    def select(self, where: str | None) -> tuple[Selection, ...]:
        """Find the documents a filter expression admits, exactly, part by part; raises `InvalidFilter`."""
        found = self._selections.get(where)
        if found is None:
            found = self._selected(where)
            if len(self._selections) >= SELECTIONS_KEPT:
                self._selections.clear()
            self._selections[where] = found
        return found

    def count(self, where: str | None) -> int:
        """Count the documents a filter expression admits; raises `InvalidFilter`."""
        return len(self) if where is None else sum(map(len, self.select(where)))

    def keys(self, where: str | None) -> Int64[np.ndarray, " n"]:
        """List the keys of the documents a filter expression admits, part by part; raises `InvalidFilter`."""
        found = [s.part.keys if s.documents is None else s.part.keys[s.documents] for s in self.select(where)]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def _selected(self, where: str | None) -> tuple[Selection, ...]:
        condition = None if where is None else parse(where)
        if condition is not None and self.parts:
            check_names(condition, self.names)
        selections = []
        for part, dead in zip(self.parts, self.dead, strict=True):
            if condition is not None:
                selections.append(Selection(part, condition.admit(part.columns) - dead))
            else:
                selections.append(Selection(part, None, dead))
        return tuple(selections)


def _append(parts: list[Segment | Delta], dead: list[BitMap], fresh: Iterable[Record]) -> None:
    newest = Delta.of(fresh)
    while parts and isinstance(parts[-1], Delta) and len(parts[-1]) < MERGE_RATIO * len(newest):
        newest = Delta.merged(parts.pop(), dead.pop(), newest)  # type: ignore[arg-type]
    parts.append(newest)
    dead.append(BitMap())
