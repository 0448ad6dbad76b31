"""The stored vectors of a few documents, by key, out of a snapshot. How candidates are found does not belong here."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64

from engine.datatypes import DIMENSIONS, VIEWS, Vector, View
from engine.index.ann import to_float32
from engine.index.snapshot import Snapshot


def gather(
    snapshot: Snapshot, keys: Sequence[int], query: Vector, weights: Float32[np.ndarray, "2"]
) -> Float32[np.ndarray, "n 256"]:
    """Read one vector a document: its views weighed as in `engine.ranking.fuse`, so that its product with `query` is its score.

    Of several pictures the one nearest to `query` is taken. Rows are zero for keys that are not there.
    """
    found = np.zeros((len(keys), DIMENSIONS), np.float32)
    shares = np.zeros(len(keys), np.float32)
    for share, view in zip(weights, VIEWS, strict=True):
        if share > 0:
            vectors, present = _vectors(snapshot, np.array(keys, np.int64), query, view)
            found += share * vectors
            shares += share * present
    return found / np.where(shares > 0, shares, 1.0)[:, None]


def _vectors(
    snapshot: Snapshot, keys: Int64[np.ndarray, " n"], query: Vector, view: View
) -> tuple[Float32[np.ndarray, "n 256"], Bool[np.ndarray, " n"]]:
    vectors, present = np.zeros((len(keys), DIMENSIONS), np.float32), np.zeros(len(keys), bool)
    for part, dead in zip(snapshot.parts, snapshot.dead, strict=True):
        if not len(part):
            continue
        places = np.searchsorted(part.keys, keys)
        alive = (places < len(part)) & (np.take(part.keys, places, mode="clip") == keys)
        if dead:
            alive &= [int(place) not in dead for place in places]
        asked = np.flatnonzero(alive)
        asked = asked[np.argsort(places[asked])]
        rows = part.rows(view)
        numbers, counts = rows.of(places[asked])
        stored = to_float32(rows.vectors[numbers])
        if counts.max(initial=0) <= 1:
            there = asked[counts > 0]
            vectors[there], present[there] = stored, True
            continue
        ends = np.cumsum(counts)
        for row, count, end in zip(asked, counts, ends, strict=True):
            if count:
                own = stored[end - count : end]
                vectors[row], present[row] = own[np.argmax(own @ query)] if count > 1 else own[0], True
    return vectors, present
