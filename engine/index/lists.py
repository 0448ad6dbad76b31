"""Which inverted lists a filtered search visits: the nearest of those that hold rows the filter admits.

A filter such as a category admits one region of the space. The lists nearest to a query may then hold none of its rows, and
visiting a number of them chosen by how much the filter keeps finds half of what is there. Searching stands in `engine.index.ann`.
"""

from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from engine.datatypes import Vectors

LOOKED_AT = 0.4  # a filter that keeps the share s has s ** 0.4 times as many admitted rows looked at as there are without a filter
MORE_LISTS = 3  # and up to three times as many lists: those of a region far from the query are harder to tell apart
EINSUM_QUERIES = 4  # for few queries BLAS gains nothing and its threads wait on one another when the processor is busy


class Lists:
    """The inverted lists of one FAISS index, their centroids and the list of each row; read when the first filter asks for them."""

    def __init__(self, faiss: ModuleType, index: Any) -> None:  # noqa: ANN401  FAISS has no type hints
        self._faiss, self._index = faiss, index

    def __len__(self) -> int:
        return int(self._index.nlist)

    @cached_property
    def homes(self) -> np.ndarray:
        """Tell the list of each row."""
        inverted = self._index.invlists
        homes = np.empty(self._index.ntotal, np.uint16 if len(self) <= 2**16 else np.uint32)
        for number in range(len(self)):
            if size := inverted.list_size(number):
                homes[self._faiss.rev_swig_ptr(inverted.get_ids(number), size)] = number
        return homes

    @cached_property
    def centroids(self) -> Float32[np.ndarray, "l 256"]:
        """Copy the centroids, 1 KB a list."""
        copied: Float32[np.ndarray, "l 256"] = self._index.quantizer.reconstruct_n(0, len(self))
        return copied

    def nearest(
        self, vectors: Vectors, admitted: Int64[np.ndarray, " l"], probes: int, least: int
    ) -> tuple[Int64[np.ndarray, "q p"], Float32[np.ndarray, "q p"]]:
        """Choose lists per query, nearest first, with their centroids' scores; -1 stands where a query needs fewer than another.

        `admitted` is how many rows of each list are; `probes` lists are visited without a filter, at least `least` rows looked at.
        """
        share = admitted.sum() / self._index.ntotal
        rows = max(least, probes * self._index.ntotal / len(self) * share**LOOKED_AT)
        scores = self._scores(vectors)
        scores[:, admitted == 0] = -np.inf
        order = np.argsort(-scores, axis=1)[:, : np.count_nonzero(admitted)]
        enough = (np.cumsum(admitted[order], axis=1) < rows).sum(axis=1) + 1
        wanted = np.maximum(enough, int(np.ceil(probes * min(MORE_LISTS, 1 / share))))
        order = order[:, : wanted.max()]
        chosen = np.where(np.arange(order.shape[1]) < wanted[:, None], order, -1)
        return chosen, np.take_along_axis(scores, order, axis=1)

    def _scores(self, vectors: Vectors) -> Float32[np.ndarray, "q l"]:
        if len(vectors) > EINSUM_QUERIES:
            scores: Float32[np.ndarray, "q l"] = vectors @ self.centroids.T
            return scores
        return np.stack([np.einsum("ld,d->l", self.centroids, vector) for vector in vectors])
