"""How fast and how complete a search is, unfiltered and at every selectivity of a filter, as a collection grows; and beside peers.

    python -m benchmarks.search [--rows 10000 100000] [--queries N] [--vectors FILE.npy] [--views both|image] [--peers]
                                [--folder DIR] [--json FILE]

The full runs, on a machine that does nothing else (a disk with 60 GB for ten million; an hour or two):

    pip install hnswlib usearch chromadb lancedb qdrant-client milvus-lite pymilvus
    python -m benchmarks.search --rows 10000 100000 1000000 --views image --peers --vectors real.npy
    python -m benchmarks.search --rows 10000000 --views image --vectors real.npy --json benchmarks/results/search-10m.json

Every document has a picture and, with `--views both`, a title. Vectors are made by jittering base vectors: those of
`--vectors` (real embeddings, float [n, 256]) or 2,000 made-up ones in 40 groups. A query is another jitter of a base vector,
shifted by a fixed gap and noise, as texts lie beside pictures. Recall@10 compares with brute force over the float32 vectors, block
by block, in the same run. One query at a time; peers (`benchmarks.peers`) also in one batch, at the least effort that reaches each
recall. A peer that is not installed is named with the reason.
"""

import argparse
import json
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.peers import compare
from engine.collection import Collection
from engine.config import Settings
from engine.datatypes import DIMENSIONS, Document, Embedding, EncodedDocument, Vectors
from engine.documents import key_of

BUCKETS = 10_000
BLOCK = 50_000
SHARES = (0.5, 0.2, 0.1, 0.04, 0.01, 0.001, 0.0001)
K = 10


def unit(vectors: np.ndarray) -> Vectors:
    """Divide rows by their length."""
    divided: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return divided


def base_vectors(path: Path | None) -> Vectors:
    """Read real embeddings, or make up 2,000 vectors in 40 groups."""
    if path is not None:
        return unit(np.load(path).astype(np.float32))
    generator = np.random.default_rng(0)
    groups = generator.standard_normal((40, DIMENSIONS))
    return unit(groups[generator.integers(0, 40, 2_000)] + 0.8 * generator.standard_normal((2_000, DIMENSIONS)))


def jittered(base: Vectors, picks: np.ndarray, generator: np.random.Generator, amount: float) -> Vectors:
    """Move each picked base vector by noise of `amount` times its length."""
    noise = generator.standard_normal((len(picks), DIMENSIONS), dtype=np.float32) / np.float32(DIMENSIONS**0.5)
    return unit(base[picks] + np.float32(amount) * noise)


@dataclass(frozen=True)
class Catalogue:
    """`rows` made-up documents, given block by block, the same each time; `titles` tells whether they have any."""

    base: Vectors
    rows: int
    titles: bool

    def blocks(self) -> Iterator[tuple[int, Vectors, Vectors | None, np.ndarray]]:
        """Give the first number, image vectors, title vectors and buckets of each block."""
        for first in range(0, self.rows, BLOCK):
            generator = np.random.default_rng([1, first])
            count = min(BLOCK, self.rows - first)
            picks = generator.integers(0, len(self.base), count)
            images = jittered(self.base, picks, generator, 0.7)
            titles = jittered(self.base, picks, generator, 0.9) if self.titles else None
            yield first, images, titles, generator.integers(0, BUCKETS, count)


def queries_for(base: Vectors, count: int) -> Vectors:
    """Make queries beside the catalogue: other jitters of the base, shifted by a gap common to all."""
    generator = np.random.default_rng(2)
    gap = unit(generator.standard_normal((1, DIMENSIONS)))
    return unit(jittered(base, generator.integers(0, len(base), count), generator, 0.9) + 0.5 * gap)


def documents(catalogue: Catalogue) -> Iterator[EncodedDocument]:
    """Wrap vectors as documents ready to be committed."""
    for first, images, titles, buckets in catalogue.blocks():
        for place, image in enumerate(images):
            number = first + place
            contents = [f"{view}{number:015d}".encode() for view in "it"]
            embeddings = [Embedding("image", contents[0], image, f"/{number}.jpg")]
            if titles is not None:
                embeddings.append(Embedding("title", contents[1], titles[place]))
            document = Document(f"p{number}", f"product {number}", attributes={"bucket": int(buckets[place])})
            yield EncodedDocument(document, b"", tuple(embeddings))


def fill(collection: Collection, made: Iterator[EncodedDocument], rows: int) -> float:
    """Commit everything in batches of 100; returns documents per second of committing."""
    seconds, batch = 0.0, []
    for number, document in enumerate(made, start=1):
        batch.append(document)
        if len(batch) == 100 or number == rows:
            start = time.perf_counter()
            collection.upsert(batch)
            seconds += time.perf_counter() - start
            batch = []
    return rows / seconds


def milliseconds(work: Callable[[int], object], count: int) -> dict[str, float]:
    """Time `work(0)`, `work(1)`, ... one after another."""
    times = []
    for number in range(count):
        start = time.perf_counter()
        work(number)
        times.append(1000 * (time.perf_counter() - start))
    return {"p50_ms": round(float(np.median(times)), 3), "p99_ms": round(float(np.percentile(times, 99)), 3)}


def truth(catalogue: Catalogue, queries: Vectors) -> tuple[list[list[set[int]]], list[int]]:
    """List the numbers of the best `K` of each query, without a filter and at each selectivity, and how many are admitted."""
    limits = [BUCKETS, *(round(share * BUCKETS) for share in SHARES)]
    numbers = np.full((len(limits), len(queries), K), -1)
    best = np.full((len(limits), len(queries), K), -np.inf, np.float32)
    admitted = [0] * len(limits)
    for first, images, titles, buckets in catalogue.blocks():
        scores = queries @ images.T if titles is None else 0.5 * (queries @ images.T) + 0.5 * (queries @ titles.T)
        for place, limit in enumerate(limits):
            rows = np.flatnonzero(buckets < limit)
            admitted[place] += len(rows)
            both = np.concatenate([best[place], scores[:, rows]], axis=1)
            names = np.concatenate([numbers[place], np.broadcast_to(first + rows, (len(queries), len(rows)))], axis=1)
            top = np.argpartition(-both, K - 1, axis=1)[:, :K]
            best[place], numbers[place] = np.take_along_axis(both, top, 1), np.take_along_axis(names, top, 1)
    return [[set(row[row >= 0].tolist()) for row in found] for found in numbers], admitted


def searches(collection: Collection, queries: Vectors, catalogue: Catalogue) -> list[dict[str, object]]:
    """Measure recall and latency without a filter and at each selectivity."""
    weights = np.array([[0.5, 0.5] if catalogue.titles else [1.0, 0.0]], np.float32)
    measured: list[dict[str, object]] = []
    for share, expected, admitted in zip((None, *SHARES), *truth(catalogue, queries), strict=True):
        where = None if share is None else f"bucket < {round(share * BUCKETS)}"
        wanted = [{key_of(f"p{number}") for number in numbers} for numbers in expected]

        def ask(number: int, where: str | None = where) -> list[int]:
            return [c.key for c in collection.search(queries[number : number + 1], K, weights=weights, where=where)[0]]

        first = milliseconds(ask, 1)["p50_ms"]
        found = [set(ask(number)) for number in range(len(queries))]
        recall = [len(f & e) / len(e) for f, e in zip(found, wanted, strict=True) if e]
        measured.append(
            {
                "filter": where,
                "admitted": admitted,
                "recall_at_10": round(float(np.mean(recall)), 4) if recall else 1.0,
                "first_ms": first,
                **milliseconds(ask, len(queries)),
            }
        )
    return measured


def edits(collection: Collection, images: Vectors, made: list[EncodedDocument]) -> dict[str, float]:
    """Time from committing one document to the end of the search that finds it."""
    weights = np.array([[1.0, 0.0]], np.float32)

    def edit(number: int) -> None:
        collection.upsert([made[number]])
        assert collection.search(images[number : number + 1], 1, weights=weights)[0][0].score > 0.999

    return milliseconds(edit, len(made))


def measure(catalogue: Catalogue, count: int, folder: Path) -> dict[str, object]:
    """Fill, compact, reopen and search a collection."""
    settings, rows = Settings(), catalogue.rows
    queries = queries_for(catalogue.base, count)
    collection = Collection.create(folder / f"rows-{rows}", fingerprint="benchmark", encoder="benchmark", settings=settings)
    upserts = fill(collection, documents(catalogue), rows)
    start = time.perf_counter()
    collection.compact()
    compacted = time.perf_counter() - start
    collection.close()
    start = time.perf_counter()
    collection = Collection.open(folder / f"rows-{rows}", settings=settings)
    opened = time.perf_counter() - start
    _, images, _, _ = next(catalogue.blocks())
    result: dict[str, object] = {
        "rows": rows,
        "upserts_per_s": round(upserts),
        "compact_s": round(compacted, 2),
        "open_s": round(opened, 3),
        "searches": searches(collection, queries, catalogue),
        "edit_to_searchable": edits(collection, images, list(islice(documents(catalogue), 50))),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    collection.close()
    return result


def beside_peers(catalogue: Catalogue, count: int, folder: Path) -> list[dict[str, object]]:
    """Measure peers, and this index, on the pictures alone."""
    alone = Catalogue(catalogue.base, catalogue.rows, titles=False)
    queries = queries_for(alone.base, count)
    images = np.concatenate([images for _, images, _, _ in alone.blocks()])
    return compare(images, queries, truth(alone, queries)[0][0], folder)


def main() -> None:
    """Run every size and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--vectors", type=Path, help="real embeddings to jitter, float [n, 256]")
    parser.add_argument("--views", choices=("both", "image"), default="both", help="what documents have")
    parser.add_argument("--peers", action="store_true", help="also measure other indexes on the pictures")
    parser.add_argument("--folder", type=Path, help="where the collections are made; default: a temporary folder")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/search.json"))
    arguments = parser.parse_args()
    base = base_vectors(arguments.vectors)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        sizes = []
        for rows in arguments.rows:
            catalogue = Catalogue(base, rows, titles=arguments.views == "both")
            sizes.append(measure(catalogue, arguments.queries, Path(folder)))
            if arguments.peers:
                sizes[-1]["peers"] = beside_peers(catalogue, arguments.queries, Path(folder))
    machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    result = {"machine": machine, "vectors": str(arguments.vectors or "made up"), "sizes": sizes}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
