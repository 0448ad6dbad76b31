"""The vectors of one view in one part of the index, ordered by document, scored exactly.

A document may have several rows (pictures) or none; its best row counts. Approximate search does not belong here.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Int64

from engine.datatypes import Vector
from engine.index.ann import to_float32

BLOCK = 4_096
PAIRS = 1_024  # scored at once: their vectors, 1 MB, stay in the cache
EINSUM_QUERIES = 4  # for few queries BLAS gains nothing and its threads wait on one another when the processor is busy
RESIDENT_ROWS = 16_384  # so few rows are kept widened, 16 MB, which saves the widening on every exact scan


@dataclass(frozen=True)
class Rows:
    """`documents[i]` is the document number of row `i`, ascending; `vectors` are fp16 (mapped) or float32 rows."""

    documents: np.ndarray
    vectors: np.ndarray
    total: int = field(default=0)

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def resident(self) -> bool:
        """Whether the rows are few enough to be kept widened in memory, so that scanning all of them is cheap."""
        return len(self) <= RESIDENT_ROWS

    @cached_property
    def one_each(self) -> bool:
        """Whether row `i` is the only one of document `i`, for all."""
        return len(self) == self.total and np.array_equal(self.documents, np.arange(self.total, dtype=self.documents.dtype))

    def of(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """List the rows of `documents`, one document after another, with how many each has."""
        if self.one_each:
            return documents, np.ones(len(documents), np.int64)
        documents = documents.astype(self.documents.dtype, copy=False)  # else NumPy would widen all rows for each call
        first = np.searchsorted(self.documents, documents, side="left")
        counts = np.searchsorted(self.documents, documents, side="right") - first
        skipped = np.cumsum(counts) - counts
        return np.repeat(first - skipped, counts) + np.arange(counts.sum()), counts

    def scan(self, queries: Float32[np.ndarray, "q 256"], documents: np.ndarray | None) -> Float32[np.ndarray, "q n"]:
        """Score `documents` (ascending; None: all) against every query, fast; NaN where a document has no row.

        Equal vectors may differ here in the last bits, by where they lie in a block: `rescore` settles the order.
        """
        rows, counts = (None, self._counts) if documents is None else self.of(documents)
        scores = np.empty((len(queries), len(self) if rows is None else len(rows)), np.float32)
        for start in range(0, scores.shape[1], BLOCK):
            block = slice(start, start + BLOCK)
            _multiply(queries, self._widened(block if rows is None else rows[block]), scores[:, block])
        return _best(scores, counts)

    def rescore(self, query: Vector, documents: np.ndarray) -> Float32[np.ndarray, " n"]:
        """Score a few `documents` so that equal vectors give equal scores, bit for bit; NaN without a row."""
        return self.rescore_pairs(query[None], np.zeros(len(documents), np.int64), documents)

    def rescore_pairs(
        self, queries: Float32[np.ndarray, "q 256"], owners: Int64[np.ndarray, " n"], documents: np.ndarray
    ) -> Float32[np.ndarray, " n"]:
        """Score each of `documents` against the query at the same place of `owners`, as `rescore` does."""
        if not len(self):
            return np.full(len(documents), np.nan, np.float32)
        rows, counts = (documents, None) if self.one_each else self.of(documents)
        askers = owners if counts is None else np.repeat(owners, counts)
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), PAIRS):
            block = slice(start, start + PAIRS)
            wide = self._widened(rows[block])
            asking = np.broadcast_to(queries, wide.shape) if len(queries) == 1 else queries[askers[block]]
            np.einsum("nd,nd->n", wide, asking, out=scores[block])
        best: np.ndarray = scores if counts is None else _best(scores[None], counts)[0]
        return best

    def mask_of(self, documents: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Mark the rows of `documents`."""
        admitted = np.zeros(self.total, bool)
        admitted[documents] = True
        return self.of_marked(admitted)

    def of_marked(self, admitted: Bool[np.ndarray, " d"]) -> Bool[np.ndarray, " n"]:
        """Mark the rows of the documents that are marked."""
        return admitted if self.one_each else admitted[self.documents]

    @cached_property
    def _counts(self) -> np.ndarray:
        counts: np.ndarray = np.bincount(self.documents, minlength=self.total)
        return counts

    @cached_property
    def _wide(self) -> np.ndarray:
        return to_float32(self.vectors)

    def _widened(self, rows: np.ndarray | slice) -> np.ndarray:
        if self.resident:
            wide: np.ndarray = self._wide[rows]
            return wide
        return to_float32(self.vectors[rows] if isinstance(rows, slice) else np.take(self.vectors, rows, axis=0))


def _multiply(queries: Float32[np.ndarray, "q 256"], vectors: np.ndarray, scores: Float32[np.ndarray, "q r"]) -> None:
    if len(queries) > EINSUM_QUERIES:
        np.matmul(queries, vectors.T, out=scores)
        return
    for query, row in zip(queries, scores, strict=True):
        np.einsum("nd,d->n", vectors, query, out=row)


def _best(scores: Float32[np.ndarray, "q r"], counts: np.ndarray) -> Float32[np.ndarray, "q n"]:
    if counts.max(initial=0) == 1 and counts.min(initial=1) == 1:
        return scores
    best = np.full((len(scores), len(counts)), np.nan, np.float32)
    present = counts > 0
    if present.any():
        starts = (np.cumsum(counts) - counts)[present]
        best[:, present] = np.maximum.reduceat(scores, starts, axis=1)
    return best
