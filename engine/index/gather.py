"""The stored vectors of a few documents, by key, out of a snapshot. How candidates are found does not belong here."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from engine.datatypes import DIMENSIONS, VIEWS, Vector
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
        for row, key in enumerate(keys):
            vector = _vector(snapshot, key, query, view) if share > 0 else None
            if vector is not None:
                found[row] += share * vector
                shares[row] += share
    return found / np.where(shares > 0, shares, 1.0)[:, None]


def _vector(snapshot: Snapshot, key: int, query: Vector, view: str) -> Vector | None:
    for part, dead in zip(reversed(snapshot.parts), reversed(snapshot.dead), strict=True):
        place = int(np.searchsorted(part.keys, key))
        if place < len(part) and part.keys[place] == key and place not in dead:
            rows = part.rows(view)  # type: ignore[arg-type]
            vectors = to_float32(rows.vectors[rows.of(np.array([place]))[0]])
            return vectors[np.argmax(vectors @ query)] if len(vectors) else None  # type: ignore[no-any-return]
    return None
