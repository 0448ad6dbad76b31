"""Queries put to shops made of validation data: some that can be answered, and four kinds that cannot.

    answerable         the asked product is there
    type removed       every product of the asked type was taken out
    item removed       only the products asked for were taken out; their siblings remain
    out of catalogue   the query belongs to another domain
    nonsense           letters, digits or characters at random

Every query is put to a shop of random size, so that size tells nothing. What is made of the results is in
`engine.training.calibrate`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from zlib import crc32

import numpy as np
from jaxtyping import Bool, Float64, Int64

from engine.confidence import CurveName
from engine.datatypes import Vector, Vectors
from engine.evidence import JUDGED, TOP, Background, Null, Outcome, describe
from engine.index.wording import SAMPLE
from engine.judge import NULL_QUERIES
from engine.ranking import TITLE_SHARE
from engine.training.pairs import Caption, Item, Pairs

Condition: TypeAlias = Literal["answerable", "type removed", "item removed", "out of catalogue", "nonsense"]
CONDITIONS: tuple[Condition, ...] = ("answerable", "type removed", "item removed", "out of catalogue", "nonsense")
EncodeTexts: TypeAlias = Callable[[Sequence[str]], Vectors]

QUERIES_PER_KIND = 400
SIZES = (0.5, 1.0)
LEAST = 20
TITLE_KINDS = ("title", "label")
QUERY_KINDS = {"fashion": ("title", "query"), "emoji": ("label",), "flickr8k": ("caption",)}
ASKED_LANGUAGES = ("en", "zh")
FOLDS = 4
FOREIGN = ("animals-nature", "food-drink", "travel-places", "smileys-emotion")  # emoji that no shop for clothes sells
SUBJECTS = ("dog", "boy", "girl", "woman", "man", "child", "people", "person", "baby", "players")


@dataclass(frozen=True, slots=True)
class Case:
    """One query put to one shop. `fold` 0 to 3 is drawn by the query's meaning: what is fitted on some is tested on others."""

    source: str
    language: str
    kind: str
    condition: Condition
    fold: int
    described: Float64[np.ndarray, " f"]
    answered: bool


@dataclass(frozen=True, slots=True)
class Shop:
    """A validation source as a collection: pictures, titles where there are any, captions, and what type each item is."""

    source: str
    pairs: Pairs
    images: Vectors
    titles: Vectors | None
    types: tuple[str, ...] = field(default=())

    @classmethod
    def open(cls, source: str, items: Sequence[Item], images: Vectors, encode: EncodeTexts | None) -> "Shop":
        """Embed the titles of a source that has them; without `encode` the shop has pictures alone."""
        titles = [next((c.text for c in item.captions if c.kind in TITLE_KINDS and c.language == "en"), "") for item in items]
        vectors = encode(titles) if encode is not None and titles and all(titles) else None
        return cls(source, Pairs.build(items), images, vectors, tuple(type_of(item) for item in items))

    @property
    def curve(self) -> CurveName:
        """Say which curve words in this shop are judged by."""
        return "untitled" if self.titles is None else "titled"

    @property
    def fused(self) -> Vectors:
        """The vectors whose products with a query of words are its scores."""
        if self.titles is None:
            return self.images
        mixed: Vectors = (1 - TITLE_SHARE) * self.images + TITLE_SHARE * self.titles
        return mixed


def type_of(item: Item) -> str:
    """Name the type of a product: its article type, the subject most spoken of in its captions, or the group of its emoji."""
    if item.source == "flickr8k":
        words = " ".join(caption.text.lower() for caption in item.captions if caption.language == "en")
        return max(SUBJECTS, key=words.count)
    if item.source == "emoji":
        return item.group.split(":")[0]
    return next((c.key for c in item.captions if c.key.startswith("query:type:") and c.key.endswith("||")), item.group)


@dataclass(frozen=True, slots=True)
class Asker:
    """Puts queries to one shop and describes what comes back."""

    shop: Shop
    background: Background
    random: np.random.Generator
    pictures: bool = False

    def ask(
        self, query: Vector, *, relevant: Bool[np.ndarray, " n"], removed: Bool[np.ndarray, " n"], kept: int | None = None
    ) -> tuple[Float64[np.ndarray, " f"], bool] | None:
        """Ask a shop of random size from which some items were removed; None when too little of it is left."""
        there = self.random.random(len(removed)) < self.random.uniform(*SIZES)
        if kept is not None:
            there[kept] = True
        there &= ~removed
        if there.sum() < LEAST:
            return None
        rows = np.flatnonzero(there)
        seen = self.shop.images if self.pictures else self.shop.fused
        scores = seen[rows] @ query
        best = rows[np.argsort(-scores, kind="stable")[:JUDGED]]
        image = self.shop.images[best] @ query
        no_titles = self.pictures or self.shop.titles is None
        title = np.full(len(best), np.nan, np.float32) if no_titles else self.shop.titles[best] @ query  # type: ignore[index]
        sample = self.random.permutation(scores)[:SAMPLE]
        outcome = Outcome(query, seen[best] @ query, image, title, seen[best[:TOP]], sample)
        return describe(outcome, self._null(seen[rows]), self.background), bool(relevant[best[:TOP]].any())

    def _null(self, seen: Vectors) -> Null:
        scores = self.background.queries[:NULL_QUERIES] @ seen.T
        return Null.of(-np.sort(np.partition(-scores, TOP, axis=1)[:, :TOP], axis=1))


def captions_of(shop: Shop, kind: str, language: str, random: np.random.Generator) -> Int64[np.ndarray, " q"]:
    """Draw captions to ask with, no text twice."""
    found = {c.text: row for row, c in enumerate(shop.pairs.captions) if (c.kind, c.language) == (kind, language)}
    rows = np.array(sorted(found.values()), np.int64)
    return random.permutation(rows)[:QUERIES_PER_KIND]


def word_cases(asker: Asker, encode: EncodeTexts) -> Iterator[Case]:
    """Ask with the shop's own titles, captions and everyday queries, whole and with types and items removed."""
    shop = asker.shop
    for language in ASKED_LANGUAGES:
        for kind in QUERY_KINDS[shop.source]:
            rows = captions_of(shop, kind, language, asker.random)
            if not len(rows):
                continue
            relevance = shop.pairs.relevance(rows)
            vectors = encode([shop.pairs.captions[row].text for row in rows])
            for row, query, relevant in zip(rows, vectors, relevance, strict=True):
                caption, owner = shop.pairs.captions[row], int(shop.pairs.owner[row])
                alike = _same_type(shop, caption, owner) | relevant
                label = (shop.source, language, kind)
                yield from item_cases(asker, label, caption.key, query, (relevant, alike, owner))


def picture_cases(asker: Asker, queries: Vectors, shown: Int64[np.ndarray, " q"]) -> Iterator[Case]:
    """Ask with other views of the shop's pictures: row `i` of `queries` shows item `shown[i]`."""
    shop = asker.shop
    for query, owner in zip(queries, shown, strict=True):
        relevant = np.arange(len(shop.images)) == owner
        alike = np.array([kind == shop.types[owner] for kind in shop.types]) | relevant
        item = shop.pairs.items[owner]
        yield from item_cases(asker, (shop.source, "", "picture"), item.group, query, (relevant, alike, int(owner)))


def foreign_cases(asker: Asker, condition: Condition, queries: Vectors, labels: Sequence[tuple[str, str, str]]) -> Iterator[Case]:
    """Ask for what is not there at all; `labels` are language, kind and text of each query."""
    nothing = np.zeros(len(asker.shop.images), bool)
    for query, (language, kind, text) in zip(queries, labels, strict=True):
        yield from _case(
            asker, (asker.shop.source, language, kind), condition, text, asker.ask(query, relevant=nothing, removed=nothing)
        )


_Sets: TypeAlias = tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"], int]


def item_cases(asker: Asker, label: tuple[str, str, str], key: str, query: Vector, sets: _Sets) -> Iterator[Case]:
    """Ask one query whole, with its type removed, and with its items removed where siblings remain.

    `sets` say which items are right, which are of the asked type, and one right item that every shop keeps.
    """
    relevant, alike, owner = sets
    nothing = np.zeros(len(relevant), bool)
    yield from _case(asker, label, "answerable", key, asker.ask(query, relevant=relevant, removed=nothing, kept=owner))
    yield from _case(asker, label, "type removed", key, asker.ask(query, relevant=nothing, removed=alike))
    if (alike & ~relevant).any():
        yield from _case(asker, label, "item removed", key, asker.ask(query, relevant=nothing, removed=relevant))


def _case(
    asker: Asker, label: tuple[str, str, str], condition: Condition, key: str, result: tuple[Float64[np.ndarray, " f"], bool] | None
) -> Iterator[Case]:
    del asker
    if result is not None:
        yield Case(*label, condition, crc32(key.encode("utf-8", "surrogatepass")) % FOLDS, *result)


def _same_type(shop: Shop, caption: Caption, owner: int) -> Bool[np.ndarray, " n"]:
    if caption.kind == "query":  # everything of the asked concept, in every colour
        concept = caption.key.split("|")[0]
        return np.array([any(c.key.split("|")[0] == concept for c in item.captions) for item in shop.pairs.items])
    return np.array([kind == shop.types[owner] for kind in shop.types])


def foreign_captions(items: Sequence[Item], source: str) -> list[Caption]:
    """List the texts that belong to another domain than `source`, short and long."""
    found = []
    for item in items:
        for caption in item.captions:
            elsewhere = {
                "fashion": item.source == "flickr8k" or (item.source == "emoji" and item.group.split(":")[0] in FOREIGN),
                "flickr8k": item.source == "fashion",
                "emoji": item.source in ("flickr8k", "fashion") and caption.kind != "query",
            }[source]
            if elsewhere and caption.language in ASKED_LANGUAGES and caption.kind in ("caption", "title", "query", "label"):
                found.append(caption)
    return found


def nonsense(random: np.random.Generator) -> str:
    """Make words that mean nothing: letters, keys side by side, signs, or characters at random."""
    kind = random.integers(0, 4)
    if kind == 0:
        return "".join(random.choice(list("bcdfghjklmnpqrstvwxzaeiou"), random.integers(4, 18)))
    if kind == 1:
        keys = [list("qwertyuiop"), list("asdfghjkl"), list("zxcvbnm")]
        rows = (keys[random.integers(0, 3)] for _ in range(random.integers(1, 4)))
        return " ".join(
            "".join(row[(start + i) % len(row)] for i in range(random.integers(3, 8)))
            for row in rows
            for start in [random.integers(0, 7)]
        )
    if kind == 2:
        return "".join(random.choice(list("0123456789#@!$%&*()-_=+.,;:?/xz"), random.integers(3, 14)))
    return "".join(chr(int(code)) for code in random.integers(0x4E00, 0x9FA5, random.integers(3, 9)))
