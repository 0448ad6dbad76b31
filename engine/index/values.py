"""What the documents found carry: attribute values and picture vectors, read from the same state they were found in.

How candidates are found and what a filter admits does not belong here.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float32, Int64

from engine.datatypes import DIMENSIONS
from engine.index.ann import to_float32
from engine.index.attributes import Scalar, numbers_of
from engine.index.delta import Delta
from engine.index.segment import Segment
from engine.index.snapshot import Snapshot
from engine.index.wording import Wording
from engine.index.words import digest


def located(snapshot: Snapshot, keys: Int64[np.ndarray, " n"]) -> Iterator[tuple[Segment | Delta, np.ndarray, np.ndarray]]:
    """Tell where documents are: part by part, their places in `keys` and their numbers in the part."""
    for part, dead in zip(snapshot.parts, snapshot.dead, strict=True):
        if not len(part):
            continue
        numbers = np.minimum(np.searchsorted(part.keys, keys), len(part) - 1)
        here = part.keys[numbers] == keys
        if dead:
            here &= ~np.isin(numbers, numbers_of(dead))
        if here.any():
            yield part, np.flatnonzero(here), numbers[here]


def values_of(snapshot: Snapshot, keys: Int64[np.ndarray, " n"], name: str) -> list[tuple[Scalar, ...]]:
    """Read an attribute of documents, in the order of `keys`: no value, one, or the distinct items of a list, ascending."""
    found: list[tuple[Scalar, ...]] = [()] * len(keys)
    for part, places, numbers in located(snapshot, keys):
        place_of = np.full(len(part), -1, np.int64)
        place_of[numbers] = places
        for postings in part.columns.get(name).values():
            holders = np.flatnonzero(place_of[postings.documents] >= 0)
            which = np.searchsorted(postings.offsets, holders, side="right") - 1
            for holder, value in zip(postings.documents[holders], which, strict=True):
                plain = postings.values[int(value)]
                found[place_of[holder]] += (plain.item() if isinstance(plain, np.generic) else plain,)
    return found


def words_in(snapshot: Snapshot, key: int, wording: Wording) -> tuple[str, ...]:
    """List the words of a query that a document has."""
    for part, _, (number,) in located(snapshot, np.array([key], np.int64)):
        return tuple(word for word in wording.words if number in part.lexical.having(digest(word))[0])
    return ()


def pictures_of(snapshot: Snapshot, keys: Int64[np.ndarray, " n"]) -> tuple[Float32[np.ndarray, "n 256"], Bool[np.ndarray, " n"]]:
    """Read the vector of each document's first picture, and whether it has one."""
    vectors, has = np.zeros((len(keys), DIMENSIONS), np.float32), np.zeros(len(keys), bool)
    for part, places, numbers in located(snapshot, keys):
        rows = part.rows("image")
        if not len(rows):
            continue
        documents = numbers.astype(rows.documents.dtype)  # else NumPy would widen all rows
        first = np.minimum(np.searchsorted(rows.documents, documents), len(rows) - 1)
        there = rows.documents[first] == documents
        vectors[places[there]], has[places[there]] = to_float32(rows.vectors[first[there]]), True
    return vectors, has
