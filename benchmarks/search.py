"""How fast and how complete a search is, unfiltered and at every selectivity of a filter, as a collection grows.

    python -m benchmarks.search [--rows 10000 100000] [--queries N] [--vectors FILE.npy] [--folder DIR] [--json FILE]

Every document has a picture and a title. Its vectors are made by jittering base vectors: those of `--vectors` (real embeddings,
float [n, 256]) or 2,000 made-up ones in 40 groups. A query is another jitter of a base vector, shifted by a fixed gap and noise, as
texts lie beside pictures. Recall@10 compares with brute force over the float32 vectors, in the same run. One query at a time.
"""

import argparse
import hashlib
import json
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from engine.collection import Collection
from engine.config import Settings
from engine.datatypes import DIMENSIONS, Document, Embedding, EncodedDocument, Vectors
from engine.documents import key_of

BUCKETS = 10_000
SHARES = (0.5, 0.2, 0.1, 0.04, 0.01, 0.001, 0.0001)
K = 10


def unit(vectors: np.ndarray) -> Vectors:
    """Divide rows by their length."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


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


def catalogue(base: Vectors, rows: int) -> tuple[Vectors, Vectors, np.ndarray]:
    """Make the image vectors, title vectors and bucket numbers of `rows` documents."""
    generator = np.random.default_rng(1)
    picks = generator.integers(0, len(base), rows)
    return jittered(base, picks, generator, 0.7), jittered(base, picks, generator, 0.9), generator.integers(0, BUCKETS, rows)


def queries_for(base: Vectors, count: int) -> Vectors:
    """Make queries beside the catalogue: other jitters of the base, shifted by a gap common to all."""
    generator = np.random.default_rng(2)
    gap = unit(generator.standard_normal((1, DIMENSIONS)))
    return unit(jittered(base, generator.integers(0, len(base), count), generator, 0.9) + 0.5 * gap)


def documents(images: Vectors, titles: Vectors, buckets: np.ndarray) -> Iterator[EncodedDocument]:
    """Wrap vectors as documents ready to be committed."""
    for number in range(len(images)):
        contents = [hashlib.blake2b(f"{view}{number}".encode(), digest_size=16).digest() for view in ("image", "title")]
        embeddings = (
            Embedding("image", contents[0], images[number], f"/{number}.jpg"),
            Embedding("title", contents[1], titles[number]),
        )
        document = Document(f"p{number}", f"product {number}", attributes={"bucket": int(buckets[number])})
        yield EncodedDocument(document, b"", embeddings)


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


def truth(scores: np.ndarray, keys: np.ndarray, mask: np.ndarray) -> list[set[int]]:
    """List the keys of the best `K` of each query among the rows of `mask`."""
    rows = np.flatnonzero(mask)
    best = [rows[np.argsort(-score[rows], kind="stable")[:K]] for score in scores]
    return [set(keys[pick].tolist()) for pick in best]


def searches(collection: Collection, queries: Vectors, scores: np.ndarray, buckets: np.ndarray) -> list[dict[str, object]]:
    """Measure recall and latency without a filter and at each selectivity."""
    keys = np.array([key_of(f"p{number}") for number in range(len(buckets))])
    weights = np.full((1, 2), 0.5, np.float32)
    measured: list[dict[str, object]] = []
    for share in (None, *SHARES):
        where = None if share is None else f"bucket < {round(share * BUCKETS)}"
        expected = truth(scores, keys, np.ones(len(keys), bool) if share is None else buckets < round(share * BUCKETS))

        def ask(number: int, where: str | None = where) -> list[int]:
            return [c.key for c in collection.search(queries[number : number + 1], K, weights=weights, where=where)[0]]

        first = milliseconds(ask, 1)["p50_ms"]
        found = [set(ask(number)) for number in range(len(queries))]
        recall = [len(f & e) / len(e) for f, e in zip(found, expected, strict=True) if e]
        measured.append(
            {
                "filter": where,
                "admitted": collection.count(where),
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


def measure(rows: int, base: Vectors, count: int, folder: Path) -> dict[str, object]:
    """Fill, compact, reopen and search a collection of `rows` documents."""
    settings = Settings()
    images, titles, buckets = catalogue(base, rows)
    queries = queries_for(base, count)
    collection = Collection.create(folder / f"rows-{rows}", fingerprint="benchmark", encoder="benchmark", settings=settings)
    upserts = fill(collection, documents(images, titles, buckets), rows)
    start = time.perf_counter()
    collection.compact()
    compacted = time.perf_counter() - start
    collection.close()
    start = time.perf_counter()
    collection = Collection.open(folder / f"rows-{rows}", settings=settings)
    opened = time.perf_counter() - start
    result: dict[str, object] = {
        "rows": rows,
        "upserts_per_s": round(upserts),
        "compact_s": round(compacted, 2),
        "open_s": round(opened, 3),
        "searches": searches(collection, queries, 0.5 * (queries @ images.T) + 0.5 * (queries @ titles.T), buckets),
        "edit_to_searchable": edits(collection, images, list(documents(images[:50], titles[:50], buckets[:50]))),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    collection.close()
    return result


def main() -> None:
    """Run every size and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--vectors", type=Path, help="real embeddings to jitter, float [n, 256]")
    parser.add_argument("--folder", type=Path, help="where the collections are made; default: a temporary folder")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/search.json"))
    arguments = parser.parse_args()
    base = base_vectors(arguments.vectors)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        sizes = [measure(rows, base, arguments.queries, Path(folder)) for rows in arguments.rows]
    machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    result = {"machine": machine, "vectors": str(arguments.vectors or "made up"), "sizes": sizes}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
