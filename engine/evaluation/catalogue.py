"""Questions made from a collection itself: title -> image, image -> title, attribute -> image.

The vectors are those stored, so nothing but the attributes' words is encoded.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.collection import Collection
from engine.datatypes import Document, Vector
from engine.evaluation.questions import Question

MOST_ATTRIBUTES = 12
MOST_VALUES = 60  # an attribute with more values names products (a SKU), not kinds of them
MOST_SHARE = 0.5  # a value that half the shop has is not asked for
DOCUMENTS_PER_READ = 500


@dataclass(frozen=True, slots=True)
class Product:
    """A document with its stored vectors, None where it has no picture or no title."""

    document: Document
    image: Vector | None
    title: Vector | None
    picture: str | None


def read_products(collection: Collection, most: int | None = None) -> list[Product]:
    """Read documents with their vectors, in the order of their ids; of several pictures the first."""
    found: list[Product] = []
    batch: list[str] = []
    for id in collection.ids():
        batch.append(id)
        if len(batch) == DOCUMENTS_PER_READ:
            found.extend(_products(collection, batch))
            batch = []
        if most is not None and len(found) + len(batch) >= most:
            break
    found.extend(_products(collection, batch))
    return found


def _products(collection: Collection, ids: Sequence[str]) -> Iterator[Product]:
    for document in collection.get(ids):
        if document is not None:  # deleted since its id was read
            embeddings = collection.embeddings_of(document.id)
            image = next((e for e in embeddings if e.view == "image"), None)
            title = next((e.vector for e in embeddings if e.view == "title"), None)
            yield Product(document, image.vector if image else None, title, image.location if image else None)


def questions_of(products: Sequence[Product], *, most: int, seed: int = 0) -> list[Question]:
    """Make questions in all three directions, at most `most` of each, drawn by chance."""
    titled = [p for p in products if p.title is not None]
    shown = [p for p in products if p.image is not None]
    sharing: dict[str, dict[str, int]] = defaultdict(dict)
    for product in titled:
        sharing[_meaning(product)][product.document.id] = 1
    both = [p for p in titled if p.image is not None]
    random = np.random.default_rng(seed)
    return [
        *_title_to_image(_drawn(list({_meaning(p): p for p in both}.values()), most, random), sharing),
        *_image_to_title(_drawn(both, most, random), sharing),
        *_drawn(list(_attribute_to_image(shown)), most, random),
    ]


def _meaning(product: Product) -> str:
    return " ".join(product.document.title.lower().split())


def _title_to_image(products: Sequence[Product], sharing: dict[str, dict[str, int]]) -> Iterator[Question]:
    for product in products:
        title = product.document.title
        assert product.title is not None  # noqa: S101  chosen for having one
        yield Question(
            f"title:{_meaning(product)}", "title->image", product.title, sharing[_meaning(product)], target="image", label=title
        )


def _image_to_title(products: Sequence[Product], sharing: dict[str, dict[str, int]]) -> Iterator[Question]:
    for product in products:
        id, title = product.document.id, product.document.title
        assert product.image is not None  # noqa: S101  chosen for having one
        yield Question(f"image:{id}", "image->title", product.image, sharing[_meaning(product)], target="title", label=title)


def _attribute_to_image(products: Sequence[Product]) -> Iterator[Question]:
    holders: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for product in products:
        for name, value in product.document.attributes.items():
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and any(letter.isalpha() for letter in text):
                    holders[name][text][product.document.id] = 1
    told = {name: values for name, values in holders.items() if 2 <= len(values) <= MOST_VALUES and _sorts(values)}
    for name in sorted(told, key=lambda name: len(told[name]))[:MOST_ATTRIBUTES]:
        for value, ids in told[name].items():
            if len(ids) <= MOST_SHARE * len(products):
                yield Question(
                    f"{name}:{value}", "attribute->image", value, ids, group=name, target="image", label=f"{name}: {value}"
                )


def _sorts(values: dict[str, dict[str, int]]) -> bool:
    """Say whether an attribute sorts products into kinds: its values are shared by two products or more, on average."""
    return sum(len(ids) for ids in values.values()) >= 2 * len(values)


def _drawn(items: list, most: int, random: np.random.Generator) -> list:  # type: ignore[type-arg]
    if len(items) <= most:
        return items
    return [items[place] for place in np.sort(random.choice(len(items), most, replace=False))]
