"""Training pairs: pictures, the texts that describe them, and which text is right for which picture.

An `Item` is a picture with its captions. Every caption has a key; a picture is right for every text whose key it carries,
so captions in several languages, shared titles and everyday queries ("red shoes") are positives, never negatives.
Reading data folders is in `engine.training.sources`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Int64

Split: TypeAlias = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Caption:
    """One text for a picture. `kind` names what it is ("caption", "title", "query", "label", "tag"), `key` its meaning."""

    text: str
    language: str
    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class Item:
    """One picture. Items of one `group` show the same thing and must not be divided among splits."""

    id: str
    image: Path
    source: str
    split: Split
    group: str
    captions: tuple[Caption, ...]


class SplitLeak(ValueError):
    """A group of items has members in more than one split, so a model would be tested on what it learned."""


def check_splits(items: Iterable[Item]) -> None:
    """Raise `SplitLeak` if a group or a picture is in two splits."""
    seen: dict[str, tuple[str, str]] = {}
    for item in items:
        for shared in (f"group {item.group!r} of {item.source!r}", f"picture {str(item.image)!r}"):
            split, other = seen.setdefault(shared, (item.split, item.id))
            if split != item.split:
                raise SplitLeak(
                    f"{shared} is in two splits: item {other!r} in {split}, item {item.id!r} in {item.split}: "
                    f"put everything that shares it into one split"
                )


@dataclass(frozen=True, slots=True)
class Pairs:
    """Items and their captions as arrays: caption `j` belongs to item `owner[j]` and means `keys[j]`."""

    items: tuple[Item, ...]
    captions: tuple[Caption, ...]
    owner: Int64[np.ndarray, " n"]
    keys: Int64[np.ndarray, " n"]

    @classmethod
    def build(cls, items: Sequence[Item]) -> "Pairs":
        """Give every caption a number; refuse groups that cross splits."""
        check_splits(items)
        captions = tuple(caption for item in items for caption in item.captions)
        owner = np.repeat(np.arange(len(items)), [len(item.captions) for item in items])
        numbers: dict[str, int] = {}
        keys = np.array([numbers.setdefault(caption.key, len(numbers)) for caption in captions], np.int64)
        return cls(tuple(items), captions, owner, keys)

    def select(self, *, source: str, split: Split) -> "Pairs":
        """Keep the items of one source and split."""
        return Pairs.build([item for item in self.items if item.source == source and item.split == split])

    def relevance(self, captions: Int64[np.ndarray, " q"]) -> Bool[np.ndarray, "q n"]:
        """Say for each of these captions which items are right."""
        holders: dict[int, list[int]] = defaultdict(list)
        for item, key in zip(self.owner, self.keys, strict=True):
            holders[int(key)].append(int(item))
        relevant = np.zeros((len(captions), len(self.items)), bool)
        for row, caption in enumerate(captions):
            relevant[row, holders[int(self.keys[caption])]] = True
        return relevant

    def find(self, *, kind: str, language: str) -> Int64[np.ndarray, " q"]:
        """List the captions of one kind and language."""
        wanted = [i for i, caption in enumerate(self.captions) if (caption.kind, caption.language) == (kind, language)]
        return np.array(wanted, np.int64)
