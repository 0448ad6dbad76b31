"""Ranking of scored documents into `Matches`: best first, ties by ascending key, padded with -1 and -inf."""

import numpy as np
from jaxtyping import Float32
from pyroaring import BitMap64

from engine.datatypes import DIMENSIONS, Matches, Vectors
from engine.errors import InvalidQuery
from engine.index.rows import Rows

SLACK = np.float32(1e-5)  # wider than the rounding of a product of 256 terms, so that no tie is cut at the edge


def check_vectors(vectors: Vectors) -> None:
    """Refuse query vectors of another dimension before any library trips over them."""
    if vectors.ndim != 2 or vectors.shape[1] != DIMENSIONS:
        raise InvalidQuery(f"query vectors have shape {vectors.shape}: they must be [q, {DIMENSIONS}]")
    if not np.isfinite(vectors).all():
        raise InvalidQuery("a query vector has a number that is not finite: encode the query again")


def contenders(scores: Float32[np.ndarray, " n"], k: int) -> np.ndarray:
    """List the places of scores that may be among the `k` best, ascending: all within rounding of the k-th; NaN and -inf never."""
    usable = np.where(np.isnan(scores), -np.inf, scores)
    floor = np.partition(usable, len(usable) - k)[len(usable) - k] - SLACK if len(usable) > k else -np.inf
    return np.flatnonzero((usable >= floor) & (usable > -np.inf))


def admitted_by(keys: np.ndarray, allow: BitMap64 | None) -> np.ndarray | None:
    """List the numbers of the documents whose key is in `allow`, ascending; None when nothing is restricted."""
    if allow is None:
        return None
    wanted = np.fromiter(allow, np.int64, len(allow))
    return np.flatnonzero(np.isin(keys, wanted, assume_unique=True))


def best_matches(keys: np.ndarray, rows: Rows, vectors: Vectors, k: int, documents: np.ndarray | None) -> Matches:
    """Scan `documents` (None: all) exactly and rank them."""
    check_vectors(vectors)
    scores = rows.scan(vectors, documents)
    picks = [contenders(row, k) for row in scores]
    return ranked(keys, rows, vectors, k, [pick if documents is None else documents[pick] for pick in picks])


def ranked(keys: np.ndarray, rows: Rows, vectors: Vectors, k: int, picks: list[np.ndarray]) -> Matches:
    """Rescore each query's candidates exactly and keep the `k` best."""
    found = Matches(np.full((len(vectors), k), -1, np.int64), np.full((len(vectors), k), -np.inf, np.float32))
    for number, pick in enumerate(picks):
        scores = rows.rescore(vectors[number], pick)
        order = np.lexsort((keys[pick], -scores))[:k]
        order = order[~np.isnan(scores[order])]
        found.keys[number, : len(order)] = keys[pick][order]
        found.scores[number, : len(order)] = scores[order]
    return found
