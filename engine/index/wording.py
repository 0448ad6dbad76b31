"""What the words of a query say in one state of a collection: how rare each is, and which documents have how much of them.

Rarity counts the documents that are alive, so an answer does not depend on how the parts came about. How much words weigh beside
pictures and titles is decided in `engine.ranking`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64
from pyroaring import BitMap

from engine.index.attributes import numbers_of
from engine.index.lexical import Lexical
from engine.index.matches import SLACK, contenders
from engine.index.overlap import MOST_WORDS, Overlap
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
    overlaps: dict[int, Overlap] = field(default_factory=dict, compare=False, repr=False)

    def scores(self, part: Part) -> tuple[np.ndarray, Float32[np.ndarray, " d"]]:
        """Score the documents of a part that have any of the words.

        Gives their numbers, ascending, and the share of the query's information they hold, at most 1. Documents that are no
        longer alive may be among them.
        """
        having = [part.lexical.having(word)[0] for word in self._digests]
        marked = np.zeros(len(part), bool)
        for documents in having:
            marked[documents] = True
        numbers = having[0].astype(np.int64) if len(having) == 1 else np.flatnonzero(marked)
        return numbers, self.at(part, numbers)[0]

    def at(self, part: Part, documents: np.ndarray) -> tuple[Float32[np.ndarray, " d"], Float32[np.ndarray, " d"]]:
        """Tell of `documents` of a part, ascending, what share of the query's information each holds, and how far it is lifted."""
        shares = self._shares(part, documents, -1)
        lifts = shares * np.float32(self.weight)
        if self.whole is not None:
            spelled = part.lexical.counted_in(self.whole, documents) > 0
            shares[spelled], lifts[spelled] = 1.0, EXACT
        return shares, lifts

    def _shares(self, part: Part, documents: np.ndarray, words: int) -> Float32[np.ndarray, " d"]:
        """Score documents, ascending, that have no other words than those whose bits are set."""
        sums, total = np.zeros(len(documents), np.float32), sum(self.information)
        for place, (word, information) in enumerate(zip(self.words, self.information, strict=True)):
            if words & (1 << place):
                counts = part.lexical.counted_in(digest(word), documents)
                have = np.flatnonzero(counts)
                sums[have] += np.float32(information / total) * part.lexical.gain(documents[have], counts[have], self.average)
        shares: Float32[np.ndarray, " d"] = np.minimum(sums, np.float32(1.0))
        return shares

    def best(self, part: Part, k: int, admitted: np.ndarray | None) -> Int64[np.ndarray, " n"]:
        """List the documents of a part that may be among the `k` lifted furthest, ascending; `admitted` marks those that count."""
        if len(self._digests) > MOST_WORDS:
            numbers = _admitted(self.scores(part)[0], admitted)
            best: Int64[np.ndarray, " m"] = numbers[contenders(self.at(part, numbers)[1], k)]
            return best
        return self._best(part, k, admitted, self.weight, EXACT)[0]

    def most(self, part: Part, admitted: np.ndarray | None) -> float:
        """Tell the largest share of the query's information that one document of a part holds."""
        if len(self._digests) > MOST_WORDS:
            return float(self.at(part, _admitted(self.scores(part)[0], admitted))[0].max(initial=0.0))
        return float(self._best(part, 1, admitted, 1.0, 1.0)[1].max(initial=0.0))

    def _best(
        self, part: Part, k: int, admitted: np.ndarray | None, weight: float, spelled: float
    ) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """Find the documents of the `k` largest shares times `weight`, `spelled` standing for one whose id was typed."""
        overlap = self._overlap(part)
        found, values, floor = [np.zeros(0, np.int64)], np.zeros(0, np.float32), -np.inf
        for words, upper in overlap.sets(self._bounds(part)):
            if upper * weight < floor - SLACK:
                break
            numbers = overlap.documents(words)
            if upper == np.inf:
                own = np.full(len(numbers), spelled, np.float32)
            else:
                if words not in overlap.shares:
                    overlap.shares[words] = self._shares(part, numbers, words)
                own = overlap.shares[words] * np.float32(weight)
            if admitted is not None:
                numbers, own = numbers[admitted[numbers]], own[admitted[numbers]]
            found.append(numbers)
            values = np.concatenate([values, own])
            floor = np.partition(values, len(values) - k)[len(values) - k] if len(values) >= k else -np.inf
        numbers, picks = np.concatenate(found), contenders(values, k)
        order = np.argsort(numbers[picks])
        return numbers[picks][order], values[picks][order]

    def _bounds(self, part: Part) -> list[float]:
        """Give for each word what no document of a part holds more than; an id that was typed is worth anything."""
        total = sum(self.information)
        words = zip(self.words, self.information, strict=True)
        bounds = [information / total * part.lexical.most(digest(word), self.average) for word, information in words]
        return bounds if self.whole is None else [*bounds, np.inf]

    def _overlap(self, part: Part) -> Overlap:
        if id(part) not in self.overlaps:
            self.overlaps[id(part)] = Overlap(part.lexical, self._digests)
        return self.overlaps[id(part)]

    @property
    def _digests(self) -> list[int]:
        return [*map(digest, self.words), *([] if self.whole is None else [self.whole])]


def _admitted(numbers: Int64[np.ndarray, " n"], admitted: np.ndarray | None) -> Int64[np.ndarray, " m"]:
    return numbers if admitted is None else numbers[admitted[numbers]]


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
        return max([0.0, *(wording.most(part, alive) for part, alive in zip(self._parts, self._alive, strict=True))])

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
