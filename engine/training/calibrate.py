"""Queries with and without an answer, made from validation data, and the confidence curve fitted on their results.

Unanswerable are: everyday queries for a type of product that was taken out of the shop, queries of another domain, and nonsense.
Taking out just the one product a title names is not among them: its siblings remain, and they are an answer.
An answerable query whose right products are not among the ten best hits counts as unanswered: that is what the shop sees.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from engine.confidence import TOP, Calibration, Calibrator, features, fit
from engine.datatypes import Vectors
from engine.ranking import TITLE_SHARE
from engine.training.evaluate import EncodeTexts
from engine.training.pairs import Item, Pairs

QUERIES_PER_KIND = 150
ANSWERABLE = 0.5  # the share of a shop's queries taken to have an answer; far more are built here than asked there
NONSENSE_LETTERS = "bcdfghjklmnpqrstvwxzaeiou"
TITLE_KINDS = ("title", "label")
TYPE_KINDS = ("query", "tag")  # their right products are all of a type
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


def calibrate(items: Sequence[Item], images: Vectors, encode: EncodeTexts, seed: int = 0) -> Calibration:
    """Fit both curves on every validation source; `images` holds one row an item."""
    random = np.random.default_rng(seed)
    shops = []
    for source in QUERY_KINDS:
        rows = [row for row, item in enumerate(items) if (item.source, item.split) == (source, "val")]
        shops.append(Shop.open(source, [items[row] for row in rows], images[rows], encode))
    examples = list(_examples(shops, encode, random))
    return Calibration(*(_fit([e for e in examples if e.titled is titled]) for titled in (True, False)))


@dataclass(frozen=True, slots=True)
class Examples:
    """Described results of one shop and whether each held a right product."""

    titled: bool
    described: Float64[np.ndarray, "q f"]
    answered: Bool[np.ndarray, " q"]


def _fit(examples: Sequence[Examples]) -> Calibrator:
    return fit(np.concatenate([e.described for e in examples]), np.concatenate([e.answered for e in examples]), prior=ANSWERABLE)


def _examples(shops: Sequence[Shop], encode: EncodeTexts, random: np.random.Generator) -> Iterator[Examples]:
    nonsense = encode([_nonsense(random) for _ in range(QUERIES_PER_KIND)])
    for shop in shops:
        yield _unanswered(shop, shop.scores(nonsense))
        for language in ("en", "zh", "de"):
            captions = shop.draw(random, language)
            if not len(captions):
                continue
            queries = encode([shop.pairs.captions[caption].text for caption in captions])
            scores, relevant = shop.scores(queries), shop.pairs.relevance(captions)
            yield _judged(shop, scores, relevant)
            whole = np.array([shop.pairs.captions[caption].kind in TYPE_KINDS for caption in captions])
            if whole.any():
                yield _unanswered(shop, np.where(relevant, -np.inf, scores)[whole])
            for other in shops:
                if other is not shop:
                    yield _unanswered(other, other.scores(queries))


def _unanswered(shop: Shop, scores: Float32[np.ndarray, "q n"]) -> Examples:
    return _judged(shop, scores, np.zeros(scores.shape, bool))


def _judged(shop: Shop, scores: Float32[np.ndarray, "q n"], relevant: Bool[np.ndarray, "q n"]) -> Examples:
    best = np.argsort(-scores, axis=1)[:, :TOP]
    top = np.take_along_axis(scores, best, 1).astype(np.float32)
    answered: Bool[np.ndarray, " q"] = np.logical_or.reduce(np.take_along_axis(relevant, best, 1), axis=1)
    return Examples(shop.titles is not None, np.stack([features(row) for row in top]), answered)


def _nonsense(random: np.random.Generator) -> str:
    letters = random.choice(list(NONSENSE_LETTERS), random.integers(4, 24))
    return "".join(letters) if random.random() < 0.5 else " ".join(letters)
