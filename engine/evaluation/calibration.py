"""The confidence fitted to one collection: asked with its own titles and attribute values, whole and with products taken out.

The queries are built as for a bundle (`engine.training.asked`), only that the collection's attributes say what a type is. The
result lies in the collection's folder and is used instead of the encoder's.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.confidence import FILE, Calibration
from engine.datatypes import Vectors
from engine.errors import InvalidInput
from engine.evaluation.catalogue import MOST_VALUES, Product, read_products
from engine.evidence import Background
from engine.search import SearchEngine
from engine.training.asked import Asker, Case, Shop, foreign_cases, item_cases, nonsense
from engine.training.calibrate import MIX, RISK, fit, fit_sense
from engine.training.elsewhere import concept_vectors, everyday_words
from engine.training.pairs import Pairs
from engine.training.reliability import figures_of

LEAST_PRODUCTS = 200  # on 54 the calibration error was 0.11, four times that of the curve they would replace
MOST_PRODUCTS = 5_000
MOST_ASKED = 400
FOREIGN = 300
NONSENSE = 300
UNLIKE = 0.7  # background words nearer than this to a title may be answered by it


def calibrate_collection(engine: SearchEngine, name: str, seed: int = 0) -> dict[str, Any]:
    """Fit the confidence of a collection and keep it in its folder; returns what was measured.

    Curves that the collection says nothing about are the encoder's. Raises `InvalidInput` when it is too small to learn from.
    """
    collection = engine.collection(name)
    products = [p for p in read_products(collection, MOST_PRODUCTS) if p.image is not None]
    if len(products) < LEAST_PRODUCTS:
        raise InvalidInput(
            f"collection {name!r} has {len(products)} products with pictures: a confidence of its own needs {LEAST_PRODUCTS}; "
            f"without one it uses the encoder's"
        )
    random = np.random.default_rng(seed)
    given = engine.judge.calibration_of(collection)
    shop, words = _shop(name, products), everyday_words()
    vectors = engine.embed_texts(words)
    silly = [nonsense(random) for _ in range(NONSENSE)]
    foreign = _Foreign(vectors[_far(shop, vectors, random)], engine.embed_texts(silly))
    background = given.background("titled") if given is not None else _background(engine, shop, vectors, random)
    curves = dict(given.curves) if given is not None else {}
    figures: dict[str, Any] = {}
    for own in (shop,) if shop.titles is None else (shop, replace(shop, titles=None)):
        asker = Asker(own, background, random)
        cases = [*_asked(asker, engine, products), *_unanswerable(asker, foreign)]
        curves[own.curve] = fit(cases, RISK[own.curve])
        figures[own.curve] = figures_of(cases, curves[own.curve], MIX, seed)
    sense = given.sense if given is not None else fit_sense(vectors, foreign.nonsense, random)[0]
    beside = (background.queries, background.pictures, background.titles, background.concepts)
    Calibration(engine.encoder.fingerprint, curves, sense, *beside, figures).save(collection.path / FILE)
    return figures


def _background(engine: SearchEngine, shop: Shop, words: Vectors, random: np.random.Generator) -> Background:
    """Stand in for what other shops are asked for and sell, for an encoder that brings nothing: everyday words, own pictures."""
    pictures = shop.images[random.permutation(len(shop.images))[:NONSENSE]]
    mixed = words[random.permutation(len(words))]
    return Background(mixed, pictures, mixed, concept_vectors(engine.embed_texts))


@dataclass(frozen=True, slots=True)
class _Foreign:
    elsewhere: Vectors
    nonsense: Vectors


def _unanswerable(asker: Asker, foreign: _Foreign) -> Iterator[Case]:
    for condition, vectors in (("out of catalogue", foreign.elsewhere), ("nonsense", foreign.nonsense)):
        labels = [("", "words", f"{condition} {number}") for number in range(len(vectors))]
        yield from foreign_cases(asker, condition, vectors, labels)  # type: ignore[arg-type]  # both are conditions


def _shop(name: str, products: Sequence[Product]) -> Shop:
    images = np.stack([product.image for product in products if product.image is not None])
    found = [product.title for product in products if product.title is not None]
    titles = np.stack(found) if len(found) == len(products) else None
    return Shop(name, Pairs.build([]), images, titles, _types(products))


def _types(products: Sequence[Product]) -> tuple[str, ...]:
    """Take for the type of a product its value of the attribute that sorts most of them into the most kinds of at least two."""
    values: dict[str, list[str]] = {}
    for row, product in enumerate(products):
        for name, value in product.document.attributes.items():
            text = value[0] if isinstance(value, tuple) and value else value
            if isinstance(text, str):
                values.setdefault(name, [""] * len(products))[row] = text

    def sorted_into(name: str) -> int:
        counts = Counter(value for value in values[name] if value)
        return sum(count for count in counts.values() if count > 1) if 2 <= len(counts) <= MOST_VALUES else 0

    best = max(values, key=sorted_into, default=None)
    if best is None or not sorted_into(best):
        return tuple(product.document.id for product in products)
    return tuple(value or product.document.id for value, product in zip(values[best], products, strict=True))


def _asked(asker: Asker, engine: SearchEngine, products: Sequence[Product]) -> Iterator[Case]:
    """Ask with titles, and with the words of types and of other attributes."""
    types, random = np.array(asker.shop.types), asker.random
    titles = np.array([" ".join(product.document.title.lower().split()) for product in products])
    for row in random.permutation(len(products))[:MOST_ASKED]:
        vector = products[row].title
        if vector is not None:
            sets = (titles == titles[row], types == types[row], int(row))
            yield from item_cases(asker, (asker.shop.source, "", "title"), titles[row], vector, sets)
    words = sorted({word for product in products for word in _words(product)})
    chosen = [words[place] for place in random.permutation(len(words))[:MOST_ASKED]]
    holders = [set(_words(product)) for product in products]
    for word, vector in zip(chosen, engine.embed_texts(chosen), strict=True):
        relevant = np.array([word in held for held in holders])
        sets = (relevant, relevant | np.isin(types, types[relevant]), int(np.flatnonzero(relevant)[0]))
        yield from item_cases(asker, (asker.shop.source, "", "attribute"), word, vector, sets)


def _words(product: Product) -> Iterator[str]:
    """Give a product's attribute values that are words, alone and in pairs, as people type them: "Red", "Shoes", "Red Shoes"."""
    values = [
        v
        for v in product.document.attributes.values()
        if isinstance(v, str) and 1 < len(v) <= 30 and not any(c.isdigit() for c in v)
    ]
    yield from values
    yield from (f"{first} {second}" for first in values for second in values if first != second)


def _far(shop: Shop, vectors: Vectors, random: np.random.Generator) -> list[int]:
    """Choose words that nothing in the shop is like, by its titles, or where it has none by how little pictures suit them."""
    best = (vectors @ (shop.images if shop.titles is None else shop.titles).T).max(1)
    far = np.flatnonzero(best < (np.median(best) if shop.titles is None else UNLIKE))
    return [int(row) for row in random.permutation(far)[:FOREIGN]]
