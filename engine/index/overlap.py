"""Which words of a query each document of a part has, told apart without scoring any of them.

Common words are in so many documents that scoring all of those costs more than everything else about a search among a million.
Documents with the same words score within the same bound, so most of them need no score. How words score stands in
`engine.index.lexical`, what a query makes of it in `engine.index.wording`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int64

from engine.index.lexical import Lexical

MOST_WORDS = 8  # one bit each of a byte a document


class Overlap:
    """For each document of a part the set of words it has, one bit a word in their order; what is computed of a set is kept."""

    def __init__(self, lexical: Lexical, words: Sequence[int]) -> None:
        self._marks = np.zeros(len(lexical.lengths), np.uint8)
        self._sizes = np.zeros(1 << len(words), np.int64)
        self._listed: dict[int, Int64[np.ndarray, " n"]] = {}
        self.shares: dict[int, Float32[np.ndarray, " n"]] = {}
        for place, word in enumerate(words):
            documents, earlier = lexical.having(word)[0], 1 << place
            before = self._marks[documents]
            self._marks[documents] = before | np.uint8(earlier)
            moved = np.bincount(before, minlength=earlier)
            self._sizes[:earlier] -= moved
            self._sizes[earlier : 2 * earlier] += moved

    def sets(self, bounds: Sequence[float]) -> Iterator[tuple[int, float]]:
        """Give every set of words that documents have, as bits, in the descending order of the sum of their words' `bounds`."""
        uppers = np.zeros(len(self._sizes))
        for place, bound in enumerate(bounds):
            uppers[1 << place : 2 << place] = uppers[: 1 << place] + bound
        present = np.flatnonzero(self._sizes[1:] > 0) + 1
        for words in present[np.argsort(-uppers[present], kind="stable")].tolist():
            yield words, float(uppers[words])

    def documents(self, words: int) -> Int64[np.ndarray, " n"]:
        """List the documents that have just these words, ascending."""
        if words not in self._listed:
            self._listed[words] = np.flatnonzero(self._marks == words)
        return self._listed[words]
