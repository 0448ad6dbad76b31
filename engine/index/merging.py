"""Which documents a new segment takes: the changed ones, and those of older segments that are merged into it.

Small segments are merged into newer ones as they gather, so that their number grows with the logarithm of the collection and a
compaction costs what has changed. None grows beyond a number of rows, so the memory of making one is bounded, whatever the size
of the collection. Files are not the business of this module.
"""

import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from pyroaring import BitMap

from engine.documents import version_of
from engine.index.attributes import numbers_of
from engine.index.changes import all_keys, keys_since
from engine.index.published import Published, places_of
from engine.index.segment import Segment

Extent: TypeAlias = Literal["due", "mergeable", "everything"]
ROWS: Mapping[Extent, int] = {
    "due": 2**18,  # in the background, beside an encoder: an indexing job must stay below 1 GB, and 2**19 rows took 200 MB more
    "mergeable": 2**20,  # asked for: searches of one large segment cost less than those of two
    "everything": 2**20,
}
MERGE_RATIO = 4  # an older segment is merged unless it is so many times larger than what would be merged into it
DEAD_SHARE = 1 / 3  # a segment of which more is dead than this is made anew: disk use stays bounded


@dataclass(frozen=True)
class Plan:
    """What to write: the documents with `keys`, ascending, in segments of at most `limit` rows a view.

    `kept` segments stay in force with `dead` masked.
    """

    version: int
    keys: np.ndarray
    limit: int
    kept: tuple[Segment, ...]
    dead: tuple[BitMap, ...]

    @property
    def total(self) -> int:
        """How many documents there will be."""
        return len(self.keys) + sum(map(len, self.kept)) - sum(map(len, self.dead))


def make_plan(connection: sqlite3.Connection, current: Published | None, extent: Extent, *, complete: bool) -> Plan:
    """Decide from the state of one read transaction.

    `extent` is which segments are merged: those that are `due` by their size, all that are `mergeable` into one of bounded size, or
    `everything`, whatever the size. `complete` tells that every living document of `current` is in its segments; else the lost ones
    are looked for.
    """
    version = version_of(connection)
    changed = None if current is None else keys_since(connection, current.version)
    if current is None or changed is None or extent == "everything":
        return Plan(version, all_keys(connection), ROWS[extent], (), ())
    dead = [gone | places_of(segment.keys, changed) for segment, gone in zip(current.segments, current.dead, strict=True)]
    living = [len(segment) - len(gone) for segment, gone in zip(current.segments, dead, strict=True)]
    pictures = [segment.most_rows / max(len(segment), 1) for segment in current.segments]
    rows = [math.ceil(many * count) for many, count in zip(pictures, living, strict=True)]
    shares = [len(gone) / max(len(segment), 1) for segment, gone in zip(current.segments, dead, strict=True)]
    merged = choose_merged(rows, shares, len(changed), extent)
    kept = [i for i in range(len(rows)) if i not in merged]
    held = [_alive(segment, gone) for segment, gone in zip(current.segments, dead, strict=True)]
    if complete:
        wanted = np.unique(np.concatenate([changed, *(held[i] for i in merged)]))
    else:
        wanted = np.setdiff1d(all_keys(connection), np.concatenate([changed[:0], *(held[i] for i in kept)]))
    return Plan(version, wanted, ROWS[extent], tuple(current.segments[i] for i in kept), tuple(dead[i] for i in kept))


def choose_merged(rows: Sequence[int], dead: Sequence[float], fresh: int, extent: Extent) -> set[int]:
    """Choose which segments, given by their living rows and the share of dead documents, oldest first, are merged."""
    size, merged = fresh, set()
    for number in reversed(range(len(rows))):
        due = extent == "mergeable" or dead[number] > DEAD_SHARE or rows[number] <= MERGE_RATIO * size
        if due and size + rows[number] <= ROWS[extent]:
            merged.add(number)
            size += rows[number]
    return merged


def _alive(segment: Segment, dead: BitMap) -> np.ndarray:
    return np.delete(segment.keys, numbers_of(dead)) if dead else segment.keys
