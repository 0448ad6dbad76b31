"""Batches: which pictures meet which of their texts in one training step.

A source contributes a fixed number of pictures a step. Each brings its first text (a caption, title or label) into one group and
one of its other texts, drawn anew every time it comes round, into a second. A text meets only the pictures and texts of its
group: mixed with titles, everyday queries that suit a hundred products would take most of what a picture's title should get.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float32, Int64

from engine.training.pairs import Caption, Pairs

NAMING_KINDS = frozenset({"caption", "multi30k", "ja_mt", "title", "label"})
"""Kinds of text that say which picture is meant; queries and tags only say what would do."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One text to draw for a picture: of these kinds and languages (none given: any), worth `weight` in the loss."""

    kinds: frozenset[str]
    languages: frozenset[str] = frozenset()
    weight: float = 1.0

    def admits(self, caption: Caption) -> bool:
        """Say whether the slot may draw this caption."""
        return caption.kind in self.kinds and (not self.languages or caption.language in self.languages)


def slot(kinds: str, languages: str = "", weight: float = 1.0) -> Slot:
    """Write a slot with words separated by spaces."""
    return Slot(frozenset(kinds.split()), frozenset(languages.split()), weight)


@dataclass(frozen=True, slots=True)
class Slots:
    """What a source's pictures bring: the first text always, and one of the others by their shares."""

    first: Slot
    others: tuple[Slot, ...]
    shares: tuple[float, ...]


DEFAULT_SLOTS = {
    "flickr8k": Slots(
        slot("caption multi30k", "en"),
        (slot("caption", "zh", 0.6), slot("caption multi30k ja_mt", "de fr cs ja", 0.4)),
        (0.55, 0.45),
    ),
    "fashion": Slots(slot("title"), (slot("query", "en zh", 0.3), slot("query", weight=0.2)), (0.6, 0.4)),
    "emoji": Slots(slot("label", "en zh de", 0.7), (slot("label", weight=0.5), slot("label tag", weight=0.3)), (0.5, 0.5)),
}
DEFAULT_COUNTS = {"flickr8k": 256, "fashion": 208, "emoji": 64}


@dataclass(frozen=True, slots=True)
class Group:
    """Texts that meet each other: rows, what each is worth, the pictures each is right for, and whether it names its picture."""

    texts: Int64[np.ndarray, " t"]
    weights: Float32[np.ndarray, " t"]
    positive: Bool[np.ndarray, "i t"]
    naming: Bool[np.ndarray, " t"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of pictures and the groups of texts they meet."""

    pictures: Int64[np.ndarray, " i"]
    groups: tuple[Group, ...]


class Sampler:
    """Draws batches from the training items; the same seed gives the same batches."""

    def __init__(
        self,
        pairs: Pairs,
        usable: Bool[np.ndarray, " n"],
        counts: Mapping[str, int],
        seed: int,
        slots: Mapping[str, Slots] = DEFAULT_SLOTS,
    ) -> None:
        self._slots = slots
        self._random = np.random.default_rng(seed)
        self._counts = counts
        self._pairs = pairs
        self._members = {source: _train_items(pairs, source) for source in counts}
        self._options = _options(pairs, usable, slots)
        self._holders = _holders(pairs)
        self._naming = np.array([caption.kind in NAMING_KINDS for caption in pairs.captions])
        self._orders: dict[str, list[int]] = {source: [] for source in counts}

    def batches(self, steps: int) -> Iterator[Batch]:
        """Draw this many batches."""
        for _ in range(steps):
            yield self._batch()

    def _batch(self) -> Batch:
        pictures = [item for source, count in self._counts.items() for item in self._take(source, count)]
        firsts = [drawn for item in pictures for drawn in self._draw(self._options[item][:1], (1.0,))]
        others = [drawn for item in pictures for drawn in self._draw(self._options[item][1:], self._shares(item))]
        return Batch(np.array(pictures), tuple(self._group(pictures, drawn) for drawn in (firsts, others) if drawn))

    def _take(self, source: str, count: int) -> list[int]:
        order = self._orders[source]
        if len(order) < count:
            order.extend(int(item) for item in self._random.permutation(self._members[source]))
        self._orders[source] = order[count:]
        return list(dict.fromkeys(order[:count]))

    def _shares(self, item: int) -> tuple[float, ...]:
        return self._slots[self._pairs.items[item].source].shares

    def _draw(self, options: Sequence[tuple[list[int], float]], shares: Sequence[float]) -> Iterator[tuple[int, float]]:
        """Draw one text from one of the slots that have any."""
        chances = np.array([share * bool(captions) for (captions, _), share in zip(options, shares, strict=True)])
        if chances.any():
            captions, weight = options[int(self._random.choice(len(options), p=chances / chances.sum()))]
            yield int(self._random.choice(captions)), weight

    def _group(self, pictures: Sequence[int], drawn: Sequence[tuple[int, float]]) -> Group:
        texts = np.array([caption for caption, _ in drawn])
        places = {item: place for place, item in enumerate(pictures)}
        positive = np.zeros((len(pictures), len(texts)), bool)
        for column, key in enumerate(self._pairs.keys[texts]):
            positive[[places[item] for item in self._holders[int(key)] if item in places], column] = True
        return Group(texts, np.array([weight for _, weight in drawn], np.float32), positive, self._naming[texts])


def _train_items(pairs: Pairs, source: str) -> list[int]:
    return [row for row, item in enumerate(pairs.items) if item.source == source and item.split == "train"]


def _options(pairs: Pairs, usable: Bool[np.ndarray, " n"], slots: Mapping[str, Slots]) -> list[list[tuple[list[int], float]]]:
    """List for every training item the captions each of its slots may draw, with the slot's weight."""
    starts = np.searchsorted(pairs.owner, np.arange(len(pairs.items) + 1))
    options: list[list[tuple[list[int], float]]] = []
    for item, (first, last) in zip(pairs.items, pairwise(starts), strict=True):
        captions = [c for c in range(first, last) if usable[c]] if item.split == "train" else []
        options.append(_slots_of(slots[item.source], pairs, captions))
    return options


def _slots_of(slots: Slots, pairs: Pairs, captions: Sequence[int]) -> list[tuple[list[int], float]]:
    return [([c for c in captions if slot.admits(pairs.captions[c])], slot.weight) for slot in (slots.first, *slots.others)]


def _holders(pairs: Pairs) -> dict[int, list[int]]:
    """List the items that carry each key."""
    holders: dict[int, list[int]] = defaultdict(list)
    for item, key in zip(pairs.owner, pairs.keys, strict=True):
        if holders[int(key)][-1:] != [int(item)]:
            holders[int(key)].append(int(item))
    return holders
