"""From the rows that an approximate index finds to documents, for all queries of a search at once.

Rows come best first by their stored vectors; a document may have several. What is undecided here is scanned by whoever asked.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from engine.datatypes import Vectors
from engine.index.ann import AnnIndex, RowSet
from engine.index.matches import SLACK
from engine.index.rows import Rows

SPARE = 90  # candidates beyond those wanted: what the codes rank wrongly, what another view ranks higher, and ties
FOURFOLD = 1_000  # up to so many candidates, there are four times those wanted: two views may each rank the best of both low
EDGE = np.float32(1e-6)


@dataclass(frozen=True, slots=True)
class Near:
    """Candidates in pairs: `documents[i]` may be among the best of query `owners[i]`, ascending; `undecided` queries have none.

    A query is undecided when only an exact scan answers it right: too few distinct documents came back, or equal scores reach past
    the last candidate, so that which of them were found is chance.
    """

    owners: Int64[np.ndarray, " n"]
    documents: Int64[np.ndarray, " n"]
    undecided: Bool[np.ndarray, " q"]

    @classmethod
    def none(cls, queries: int) -> "Near":
        """Say that there is nothing to be found."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, np.zeros(queries, bool))


@dataclass(frozen=True, slots=True)
class Wanted:
    """The `k` best documents of each query: by one view `alone`, or together with other evidence. `probes` None is the default."""

    vectors: Vectors
    k: int
    alone: bool = True
    probes: int | None = None


def nearest_documents(rows: Rows, index: AnnIndex, wanted: Wanted, allowed: RowSet | None) -> Near:
    """Gather the documents that may be among the best from the approximate index of `rows`."""
    available = len(index) if allowed is None else len(allowed)
    fetch = _fetched(rows, wanted.k, available)
    scores, found = index.search(wanted.vectors, fetch, allowed, probes=wanted.probes)
    return _near(rows, found, scores, wanted, complete=fetch == available)


def scanned_documents(rows: Rows, documents: np.ndarray | None, wanted: Wanted) -> Near:
    """Gather the documents that may be among the best by scanning those given (ascending; None: all); only ties are undecided."""
    picked = None if documents is None else rows.of(documents)[0]
    vectors = rows.vectors if picked is None else np.take(rows.vectors, picked, axis=0)
    if not len(vectors):
        return Near.none(len(wanted.vectors))
    fetch = _fetched(rows, wanted.k, len(vectors))
    scores, found = AnnIndex.over(vectors).search(wanted.vectors, fetch, None)
    return _near(rows, found if picked is None else picked[found], scores, wanted, complete=fetch == len(vectors))


def _fetched(rows: Rows, k: int, available: int) -> int:
    pictures = -(-len(rows) // max(rows.total, 1))
    return min(available, max(k + SPARE, min(4 * k, FOURFOLD)) * max(pictures, 1))


def _near(
    rows: Rows, found: Int64[np.ndarray, "q r"], scores: Float32[np.ndarray, "q r"], wanted: Wanted, *, complete: bool
) -> Near:
    """Pair queries with the documents of the rows `found`, which are all there are when that is `complete`."""
    documents, fresh = found, found >= 0
    if not rows.one_each:
        documents = rows.documents[found].astype(np.int64)
        fresh &= _first_seen(documents)
    floor = _floor(scores, fresh, wanted.k)
    undecided = (found[:, -1] < 0) | ((not complete) & (scores[:, -1] >= floor - EDGE))
    fresh &= ~undecided[:, None]
    owners, places = np.nonzero(fresh & (scores >= floor[:, None] - SLACK) if wanted.alone else fresh)
    return Near(owners, documents[owners, places], undecided)


def _floor(scores: Float32[np.ndarray, "q r"], fresh: Bool[np.ndarray, "q r"], k: int) -> Float32[np.ndarray, " q"]:
    """Give the score of each query's `k`-th document, -inf where there are fewer."""
    if scores.shape[1] < k:
        return np.full(len(scores), -np.inf, np.float32)
    reached = np.cumsum(fresh, axis=1) >= k
    floor: Float32[np.ndarray, " q"] = np.where(reached[:, -1], scores[np.arange(len(scores)), reached.argmax(axis=1)], -np.inf)
    return floor


def _first_seen(documents: Int64[np.ndarray, "q r"]) -> Bool[np.ndarray, "q r"]:
    """Mark the first, best row of every document."""
    order = np.argsort(documents, axis=1, kind="stable")
    ordered = np.take_along_axis(documents, order, axis=1)
    fresh = np.ones(documents.shape, bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    seen = np.empty_like(fresh)
    np.put_along_axis(seen, order, fresh, axis=1)
    return seen
