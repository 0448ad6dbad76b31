"""Batches: which pictures meet which of their texts in one training step.

A source contributes a fixed number of pictures a step; each picture brings one text per slot ("an English caption", "a
label in any language"), drawn anew every time it comes round.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float32, Int64

from engine.training.pairs import Caption, Item, Pairs


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


DEFAULT_SLOTS = {
    "flickr8k": (slot("caption multi30k", "en"), slot("caption", "zh"), slot("caption multi30k ja_mt", "de fr cs ja", 0.6)),
    "fashion": (slot("title"), slot("query", "en zh", 0.5), slot("query", weight=0.4)),
    "emoji": (slot("label", "en zh de"), slot("label", weight=0.7), slot("label tag", weight=0.5)),
}
DEFAULT_COUNTS = {"flickr8k": 256, "fashion": 128, "emoji": 64}


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of pictures and of texts, what is right for what, and what each text is worth."""

    pictures: Int64[np.ndarray, " i"]
    texts: Int64[np.ndarray, " t"]
    positive: Bool[np.ndarray, "i t"]
    weights: Float32[np.ndarray, " t"]


class Sampler:
    """Draws batches from the training items; the same seed gives the same batches."""

    def __init__(self, pairs: Pairs, usable: Bool[np.ndarray, " n"], counts: dict[str, int], seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._counts = counts
        self._keys = pairs.keys
        self._members = {source: _train_items(pairs, source) for source in counts}
        self._choices = _choices(pairs, usable)
        self._item_keys = _keys_of_items(pairs)
        self._orders: dict[str, list[int]] = {source: [] for source in counts}

    def batches(self, steps: int) -> Iterator[Batch]:
        """Draw this many batches."""
        for _ in range(steps):
            yield self._batch()

    def _batch(self) -> Batch:
        pictures = [item for source, count in self._counts.items() for item in self._take(source, count)]
        drawn = [(caption, weight) for item in pictures for caption, weight in self._draw(item)]
        texts = np.array([caption for caption, _ in drawn])
        keys = self._keys[texts]
        positive = np.stack([np.isin(keys, self._item_keys[item]) for item in pictures])
        return Batch(np.array(pictures), texts, positive, np.array([weight for _, weight in drawn], np.float32))

    def _take(self, source: str, count: int) -> list[int]:
        order = self._orders[source]
        if len(order) < count:
            order.extend(int(item) for item in self._random.permutation(self._members[source]))
        self._orders[source] = order[count:]
        return list(dict.fromkeys(order[:count]))

    def _draw(self, item: int) -> Iterator[tuple[int, float]]:
        for captions, weight in self._choices[item]:
            yield int(self._random.choice(captions)), weight


def _train_items(pairs: Pairs, source: str) -> list[int]:
    return [row for row, item in enumerate(pairs.items) if item.source == source and item.split == "train"]


def _choices(pairs: Pairs, usable: Bool[np.ndarray, " n"]) -> list[list[tuple[list[int], float]]]:
    starts = np.searchsorted(pairs.owner, np.arange(len(pairs.items) + 1))
    choices: list[list[tuple[list[int], float]]] = []
    for row, item in enumerate(pairs.items):
        captions = [c for c in range(starts[row], starts[row + 1]) if usable[c]]
        choices.append(_slots_of(item, pairs, captions) if item.split == "train" else [])
    return choices


def _slots_of(item: Item, pairs: Pairs, captions: list[int]) -> list[tuple[list[int], float]]:
    drawn = (([c for c in captions if slot.admits(pairs.captions[c])], slot.weight) for slot in DEFAULT_SLOTS[item.source])
    return [(options, weight) for options, weight in drawn if options]


def _keys_of_items(pairs: Pairs) -> list[Int64[np.ndarray, " k"]]:
    starts = np.searchsorted(pairs.owner, np.arange(len(pairs.items) + 1))
    return [np.unique(pairs.keys[a:b]) for a, b in pairwise(starts)]
