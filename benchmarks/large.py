"""Make a large collection of products that the default bundle can search: real titles and pictures, varied a million times.

    python -m benchmarks.large DATA [--rows 1000000] [--collection large]

Every product has a title, a picture, a description, a brand, a price and a stock. Vectors are given: nothing is encoded but the
bases, title and picture of each of `examples/emoji`, by the default bundle; they are jittered by seven tenths of their length for
a picture and by half for a title. Titles put a colour and an adjective before the base's name, as `texts` does for queries.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.search import jittered
from engine.build import open_engine
from engine.collection import Collection
from engine.datatypes import Document, Embedding, EncodedDocument, Vectors
from engine.search import SearchEngine

EMOJI = Path("examples/emoji/emoji.jsonl")
COLOURS = "red blue green black white yellow grey brown pink orange purple silver golden beige dark".split()
ADJECTIVES = "small large light warm soft wooden steel old new plain shiny cheap fine round folding".split()
BLOCK = 1_000


def titles() -> list[str]:
    """Read the names of the bases."""
    return [json.loads(line)["title"] for line in EMOJI.read_text(encoding="utf-8").splitlines()]


def texts(count: int, seed: int = 0) -> list[str]:
    """Draw `count` different texts, in words that the products have too."""
    names = titles()
    most = len(names) * len(COLOURS) * len(ADJECTIVES)
    draws = np.random.default_rng(seed).permutation(most)[:count]
    return [_worded(names, int(draw)) for draw in draws]


def _worded(names: list[str], number: int) -> str:
    rest, name = divmod(number, len(names))
    return f"{COLOURS[rest % len(COLOURS)]} {ADJECTIVES[rest // len(COLOURS) % len(ADJECTIVES)]} {names[name]}"


def bases(engine: SearchEngine) -> tuple[Vectors, Vectors]:
    """Embed pictures and titles of the bases."""
    rows = [json.loads(line) for line in EMOJI.read_text(encoding="utf-8").splitlines()]
    pictures = [engine.embed_images([engine.open_image(EMOJI.parent / row["image"])])[0] for row in rows]
    return np.stack(pictures), engine.embed_texts([row["title"] for row in rows])


def documents(rows: int, pictures: Vectors, worded: Vectors) -> Iterator[list[EncodedDocument]]:
    """Make products block by block, the same each time."""
    names = titles()
    for first in range(0, rows, BLOCK):
        generator = np.random.default_rng([3, first])
        numbers = generator.integers(0, len(names) * len(COLOURS) * len(ADJECTIVES), min(BLOCK, rows - first))
        picks = numbers % len(names)
        images, words = jittered(pictures, picks, generator, 0.7), jittered(worded, picks, generator, 0.5)
        titled = [_worded(names, int(number)) for number in numbers]
        yield [_document(first + place, title, images[place], words[place]) for place, title in enumerate(titled)]


def _document(number: int, title: str, image: np.ndarray, words: np.ndarray) -> EncodedDocument:
    attributes = {"brand": f"brand {number % 900}", "price": float(number % 10_000) / 100, "stock": number % 50}
    document = Document(f"p{number}", title, f"{title}, number {number} of its kind", attributes=attributes)
    embeddings = (Embedding("image", f"i{number:015d}".encode(), image), Embedding("title", f"t{number:015d}".encode(), words))
    return EncodedDocument(document, b"", embeddings)


def fill(engine: SearchEngine, name: str, rows: int) -> Collection:
    """Commit every product that is not there yet and build the index."""
    collection = engine.ensure(name)
    there = len(collection)
    for place, block in enumerate(documents(rows, *bases(engine))):
        if (place + 1) * BLOCK > there:
            collection.upsert(block)
        if place % 50 == 49:
            print(f"{(place + 1) * BLOCK} products", flush=True)
    collection.compact()
    return collection


def main() -> None:
    """Make the collection, or finish one that was begun."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--collection", default="large")
    options = parser.parse_args()
    began = time.perf_counter()
    with open_engine(options.data) as engine:
        collection = fill(engine, options.collection, options.rows)
        print(f"{len(collection)} products in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
