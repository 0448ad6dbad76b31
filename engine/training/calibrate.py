"""Queries with and without an answer, made from validation data, and the confidence curve fitted on their results.

Unanswerable are: queries for a type of product that was taken out of the shop, queries of another domain, and nonsense.
An answerable query whose right products are not among the ten best hits counts as unanswered: that is what the shop sees.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from engine.confidence import TOP, Calibrator, features, fit
from engine.datatypes import Vectors
from engine.ranking import TITLE_SHARE
from engine.training.evaluate import EncodeTexts
from engine.training.pairs import Item, Pairs

QUERIES_PER_KIND = 150
NONSENSE_LETTERS = "bcdfghjklmnpqrstvwxzaeiou"
TITLE_KINDS = ("title", "label")
QUERY_KINDS = {"fashion": ("title", "query"), "emoji": ("label", "tag"), "flickr8k": ("caption",)}


@dataclass(frozen=True, slots=True)
class Shop:
    """A validation source as a collection: pictures, titles where there are any, and its captions."""

    source: str
    pairs: Pairs
    images: Vectors
    titles: Vectors | None

    @classmethod
    def open(cls, source: str, items: Sequence[Item], images: Vectors, encode: EncodeTexts) -> "Shop":
        """Embed the titles of a source that has them."""
        titles = [next((c.text for c in item.captions if c.kind in TITLE_KINDS and c.language == "en"), "") for item in items]
        return cls(source, Pairs.build(items), images, encode(titles) if all(titles) else None)

    def scores(self, queries: Vectors) -> Float32[np.ndarray, "q n"]:
        """Score all items as the engine's ranking does."""
        cosines: Float32[np.ndarray, "q n"] = queries @ self.images.T
        if self.titles is not None:
            cosines = (1 - TITLE_SHARE) * cosines + TITLE_SHARE * (queries @ self.titles.T)
        return cosines

    def draw(self, random: np.random.Generator, language: str) -> Int64[np.ndarray, " q"]:
        """Draw captions to ask with."""
        kinds = QUERY_KINDS[self.source]
        found = [i for i, c in enumerate(self.pairs.captions) if c.kind in kinds and c.language == language]
        return random.choice(np.array(found, np.int64), min(QUERIES_PER_KIND, len(found)), replace=False)


def calibrate(items: Sequence[Item], images: Vectors, encode: EncodeTexts, seed: int = 0) -> Calibrator:
    """Fit the curve on every validation source; `images` holds one row an item."""
    random = np.random.default_rng(seed)
    shops = []
    for source in QUERY_KINDS:
        rows = [row for row, item in enumerate(items) if (item.source, item.split) == (source, "val")]
        shops.append(Shop.open(source, [items[row] for row in rows], images[rows], encode))
    described, answered = zip(*_examples(shops, encode, random), strict=True)
    return fit(np.concatenate(described), np.concatenate(answered))


Examples = tuple[Float64[np.ndarray, "q f"], Bool[np.ndarray, " q"]]


def _examples(shops: Sequence[Shop], encode: EncodeTexts, random: np.random.Generator) -> Iterator[Examples]:
    nonsense = encode([_nonsense(random) for _ in range(QUERIES_PER_KIND)])
    for shop in shops:
        yield _judged(shop.scores(nonsense), np.zeros((len(nonsense), len(shop.pairs.items)), bool))
        for language in ("en", "zh", "de"):
            captions = shop.draw(random, language)
            if not len(captions):
                continue
            queries = encode([shop.pairs.captions[caption].text for caption in captions])
            relevant = shop.pairs.relevance(captions)
            yield _judged(shop.scores(queries), relevant)
            yield _judged(np.where(relevant, -np.inf, shop.scores(queries)), np.zeros_like(relevant))
            for other in shops:
                if other is not shop:
                    yield _judged(other.scores(queries), np.zeros((len(queries), len(other.pairs.items)), bool))


def _judged(scores: Float32[np.ndarray, "q n"], relevant: Bool[np.ndarray, "q n"]) -> Examples:
    best = np.argsort(-scores, axis=1)[:, :TOP]
    top = np.take_along_axis(scores, best, 1).astype(np.float32)
    answered: Bool[np.ndarray, " q"] = np.logical_or.reduce(np.take_along_axis(relevant, best, 1), axis=1)
    return np.stack([features(row) for row in top]), answered


def _nonsense(random: np.random.Generator) -> str:
    letters = random.choice(list(NONSENSE_LETTERS), random.integers(4, 24))
    return "".join(letters) if random.random() < 0.5 else " ".join(letters)
