"""What the words of a query say in one state of a collection: how rare each is, and which documents have how much of them.

Rarity counts the documents that are alive, so an answer does not depend on how the parts came about. How much words weigh beside
pictures and titles is decided in `engine.ranking`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32
from pyroaring import BitMap

from engine.index.attributes import numbers_of
from engine.index.lexical import Lexical
from engine.index.words import asked, digest, letters_and_digits, whole

SAMPLE = 256  # documents that stand for the whole collection
EXACT = 0.98  # the lift of a document whose id or article number was typed


@runtime_checkable
class Part(Protocol):
    """A segment or a delta, as far as words go."""

    @property
    def keys(self) -> np.ndarray:
        """The keys of its documents, ascending."""

    @property
    def lexical(self) -> Lexical:
        """The inverted lists of its documents."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Wording:
    """The words of a query with their information in a collection, in nats; `whole` is set when they spell an article number.

    `weight` (0 to 1) is how far a document that has all of them is lifted from its cosine towards 1.
    """

    words: tuple[str, ...]
    information: tuple[float, ...]
    average: float
    whole: int | None
    weight: float = 0.0
    held: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, compare=False, repr=False)

    def scores(self, part: Part) -> tuple[np.ndarray, Float32[np.ndarray, " d"]]:
        """Score the documents of a part that have any of the words.

        Gives their numbers, ascending, and the share of the query's information they hold, at most 1. Documents that are no
        longer alive may be among them.
        """
        found = self.held.get(id(part))
        if found is None:
            found = self.held[id(part)] = self._scored(part)
        return found

    def lifts(self, part: Part) -> tuple[np.ndarray, Float32[np.ndarray, " d"]]:
        """Tell how far the documents of a part are lifted: numbers, ascending, and shares of the way to 1."""
        numbers, scores = self.scores(part)
        lifts = scores * np.float32(self.weight)
        if self.whole is not None:
            lifts[np.isin(numbers, part.lexical.having(self.whole)[0])] = EXACT
        return numbers, lifts

    def _scored(self, part: Part) -> tuple[np.ndarray, Float32[np.ndarray, " d"]]:
        sums, total = np.zeros(len(part), np.float32), sum(self.information)
        for word, information in zip(self.words, self.information, strict=True):
            documents, counts = part.lexical.having(digest(word))
            sums[documents] += np.float32(information / total) * part.lexical.gain(documents, counts, self.average)
        if self.whole is not None:
            sums[part.lexical.having(self.whole)[0]] = 1.0
        numbers = np.flatnonzero(sums)
        return numbers, np.minimum(sums[numbers], np.float32(1.0))


class Statistics:
    """How often words occur among the living documents of a snapshot's parts."""

    def __init__(self, parts: Sequence[Part], dead: Sequence[BitMap]) -> None:
        self._parts = parts
        self._alive = [_alive(part, gone) for part, gone in zip(parts, dead, strict=True)]
        self.documents = sum(map(len, parts)) - sum(map(len, dead))
        words = (_words(part, gone) for part, gone in zip(parts, dead, strict=True))
        self.average = sum(words) / max(self.documents, 1)

    def coverage(self, wording: Wording) -> float:
        """Tell the largest share of a query's information that one living document holds."""
        best = [0.0]
        for part, alive in zip(self._parts, self._alive, strict=True):
            numbers, scores = wording.scores(part)
            best.append(float((scores if alive is None else scores[alive[numbers]]).max(initial=0.0)))
        return max(best)

    @cached_property
    def sample(self) -> tuple[tuple[Part, np.ndarray], ...]:
        """Draw a few living documents, part by part: those of the smallest keys, which are digests of the ids."""
        picked = []
        for number, (part, alive) in enumerate(zip(self._parts, self._alive, strict=True)):
            documents = np.arange(len(part))[:SAMPLE] if alive is None else np.flatnonzero(alive)[:SAMPLE]
            picked += [(int(part.keys[document]), number, int(document)) for document in documents]
        drawn: dict[int, list[int]] = {}
        for _, number, document in sorted(picked)[:SAMPLE]:
            drawn.setdefault(number, []).append(document)
        return tuple((self._parts[number], np.array(documents)) for number, documents in drawn.items())

    def frequency(self, word: int) -> int:
        """Count the living documents that have a word."""
        found = ((part.lexical.having(word)[0], alive) for part, alive in zip(self._parts, self._alive, strict=True))
        return sum(len(documents) if alive is None else int(alive[documents].sum()) for documents, alive in found)

    def wording(self, texts: Sequence[str]) -> Wording:
        """Weigh the words of a query's texts; one that no document has is tried cut where letters meet digits."""
        known = list(dict.fromkeys(part for word in asked(texts) for part in self._spelled(word)))
        information = [self.information(self.frequency(digest(word))) for word in known]
        id = whole(texts[0]) if len(texts) == 1 else None
        spelled = id if id is not None and self.frequency(id) else None
        return Wording(tuple(known), tuple(information), self.average, spelled)

    def information(self, frequency: int) -> float:
        """Compute the weight of a word by how many documents have it, as BM25 does: always above 0."""
        return float(np.log1p((self.documents - frequency + 0.5) / (frequency + 0.5)))

    def _spelled(self, word: str) -> Iterator[str]:
        parts = letters_and_digits(word)
        if parts and not self.frequency(digest(word)) and any(self.frequency(digest(part)) for part in parts):
            yield from parts
        else:
            yield word


def _words(part: Part, dead: BitMap) -> int:
    lengths = part.lexical.lengths
    return int(lengths.sum(dtype=np.int64)) - int(lengths[numbers_of(dead)].sum(dtype=np.int64))


def _alive(part: Part, dead: BitMap) -> np.ndarray | None:
    if not dead:
        return None
    alive = np.ones(len(part), bool)
    alive[numbers_of(dead)] = False
    return alive
