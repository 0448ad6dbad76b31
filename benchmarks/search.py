"""How fast and how complete a search is, unfiltered and at every selectivity of a filter, as a collection grows; and beside peers.

    python -m benchmarks.search [--rows 10000 100000] [--queries N] [--vectors FILE.npy] [--texts FILE.npy] [--views both|image]
                                [--peers NAME ...] [--folder DIR] [--stage build|measure|all] [--json FILE]

The full runs take hours to build and minutes to measure, so they can be done apart: `--stage build --folder DIR` while the machine
does other things, `--stage measure --folder DIR` when it does nothing else (60 GB of disk for ten million). Peers first:
`pip install hnswlib usearch chromadb lancedb qdrant-client milvus-lite pymilvus`.

Every document has a picture and, with `--views both`, a title. Vectors are made by jittering base vectors: those of
`--vectors` (real embeddings of pictures, float [n, 256]) or 2,000 made-up ones in 40 groups. Queries are the real embeddings of
texts in `--texts`, as they are; without it other jitters of the base, shifted by a gap and noise, as texts lie beside pictures.
Recall@10 compares with brute force over the float32 vectors, block by block. One query at a time is timed around
`Collection.search`: following the log, the filter, the candidates, their exact scores. Peers (`benchmarks.peers`) are also asked in
one batch, at the least effort that reaches each recall. A peer that is not installed is named with the reason.
"""

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.beside import build_peers, measure_peers, memory_mb
from benchmarks.peers import PEERS
from engine.collection import Collection
from engine.config import Settings
from engine.datatypes import DIMENSIONS, Document, Embedding, EncodedDocument, Vectors
from engine.documents import key_of
from engine.index.merging import Extent

BUCKETS = 10_000
BLOCK = 50_000
SPANS = ((0, 5_000), (0, 2_000), (0, 1_000), (1_600, 2_000), (0, 100), (0, 10), (0, 1))  # 50, 20, 10, 4 (AND), 1, 0.1, 0.01 %
K = 10
THREADS = 2
CHANGED = 19_000  # as many as start a compaction by themselves
REMADE_ROWS = 100_000  # up to so many, everything is made anew


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

    def blocks(self, start: int = 0) -> Iterator[tuple[int, Vectors, Vectors | None, np.ndarray]]:
        """Give the first number, image vectors, title vectors and buckets of each block, from the one with number `start` on."""
        for first in range(start - start % BLOCK, self.rows, BLOCK):
            generator = np.random.default_rng([1, first])
            count = min(BLOCK, self.rows - first)
            picks = generator.integers(0, len(self.base), count)
            images = jittered(self.base, picks, generator, 0.7)
            titles = jittered(self.base, picks, generator, 0.9) if self.titles else None
            yield first, images, titles, generator.integers(0, BUCKETS, count)


def queries_for(base: Vectors, count: int, texts: Path | None) -> Vectors:
    """Read real embeddings of texts, or make queries: other jitters of the base, shifted by a gap common to all."""
    if texts is not None:
        return unit(np.load(texts)[:count].astype(np.float32))
    generator = np.random.default_rng(2)
    gap = unit(generator.standard_normal((1, DIMENSIONS)))
    return unit(jittered(base, generator.integers(0, len(base), count), generator, 0.9) + 0.5 * gap)


def documents(catalogue: Catalogue, start: int = 0) -> Iterator[EncodedDocument]:
    """Wrap vectors as documents ready to be committed, from number `start` on."""
    for first, images, titles, buckets in catalogue.blocks(start):
        for place, image in enumerate(images):
            number = first + place
            if number < start:
                continue
            contents = [hashlib.blake2b(f"{view}{number}".encode(), digest_size=16).digest() for view in "it"]
            embeddings = [Embedding("image", contents[0], image, f"/{number}.jpg")]
            if titles is not None:
                embeddings.append(Embedding("title", contents[1], titles[place]))
            document = Document(f"p{number}", f"product {number}", attributes={"bucket": int(buckets[place])})
            yield EncodedDocument(document, b"", tuple(embeddings))


def fill(collection: Collection, made: Iterator[EncodedDocument]) -> None:
    """Commit everything, in batches of 1,000, without starting a compaction: what a write costs is not measured here."""
    while batch := list(islice(made, 1_000)):
        collection.upsert(batch, compact=False)


def milliseconds(work: Callable[[int], object], count: int) -> dict[str, float]:
    """Time `work(0)`, `work(1)`, ... one after another."""
    times = []
    for number in range(count):
        start = time.perf_counter()
        work(number)
        times.append(1000 * (time.perf_counter() - start))
    return spread(times)


def spread(times: Sequence[float]) -> dict[str, float]:
    """Give median and 99th percentile."""
    return {"p50_ms": round(float(np.median(times)), 3), "p99_ms": round(float(np.percentile(times, 99)), 3)}


def truth(catalogue: Catalogue, queries: Vectors) -> tuple[np.ndarray, list[int]]:
    """Find the numbers of the best `K` of each query, without a filter and at each selectivity, and how many are admitted."""
    spans = [(0, BUCKETS), *SPANS]
    numbers = np.full((len(spans), len(queries), K), -1)
    best = np.full((len(spans), len(queries), K), -np.inf, np.float32)
    admitted = [0] * len(spans)
    for first, images, titles, buckets in catalogue.blocks():
        scores = queries @ images.T if titles is None else 0.5 * (queries @ images.T) + 0.5 * (queries @ titles.T)
        for place, (low, high) in enumerate(spans):
            rows = np.flatnonzero((buckets >= low) & (buckets < high))
            admitted[place] += len(rows)
            both = np.concatenate([best[place], scores[:, rows]], axis=1)
            names = np.concatenate([numbers[place], np.broadcast_to(first + rows, (len(queries), len(rows)))], axis=1)
            top = np.argpartition(-both, K - 1, axis=1)[:, :K]
            best[place], numbers[place] = np.take_along_axis(both, top, 1), np.take_along_axis(names, top, 1)
    return numbers, admitted


def build(catalogue: Catalogue, queries: Vectors, folder: Path, peers: Sequence[str]) -> None:
    """Make a collection, what is true of it, and the peers; what is there already is kept."""
    place = folder / f"rows-{catalogue.rows}"
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "built.json").exists():
        wall, used = time.perf_counter(), time.process_time()
        settings = Settings(threads=THREADS)
        collection = Collection.create(place / "collection", fingerprint="benchmark", encoder="benchmark", settings=settings)
        fill(collection, documents(catalogue))
        filled = {"fill_s": round(time.perf_counter() - wall, 1), "fill_processor_s": round(time.process_time() - used, 1)}
        collection.compact()
        collection.close()
        seconds = {"build_s": round(time.perf_counter() - wall, 1), "build_processor_s": round(time.process_time() - used, 1)}
        (place / "built.json").write_text(json.dumps({**filled, **seconds}), encoding="utf-8")
    if not (place / "truth.npz").exists():
        numbers, admitted = truth(catalogue, queries)
        np.savez(place / "truth.npz", numbers=numbers, admitted=admitted, queries=queries)
    if peers:
        if not (place / "vectors.npy").exists():
            np.save(place / "vectors.npy", np.concatenate([images for _, images, _, _ in catalogue.blocks()]))
        build_peers(place, peers)


def searches(collection: Collection, place: Path, titles: bool) -> list[dict[str, object]]:
    """Measure recall and latency without a filter and at each selectivity."""
    known = np.load(place / "truth.npz")
    return [searched(collection, known, titles, number) for number in range(1 + len(SPANS))]


def searched(collection: Collection, known: Mapping[str, np.ndarray], titles: bool, line: int) -> dict[str, object]:
    """Measure recall and latency of one line of what is `known`: the first has no filter, the others one of `SPANS` each."""
    weights, queries = np.array([[0.5, 0.5] if titles else [1.0, 0.0]], np.float32), known["queries"]
    low, high = (0, BUCKETS) if line == 0 else SPANS[line - 1]
    where = None if line == 0 else f"bucket < {high}" + (f" and bucket >= {low}" if low else "")
    expected = [{key_of(f"p{number}") for number in row[row >= 0].tolist()} for row in known["numbers"][line]]

    def ask(number: int) -> list[int]:
        return [c.key for c in collection.search(queries[number : number + 1], K, weights=weights, where=where)[0]]

    first = milliseconds(ask, 1)["p50_ms"]
    found = [set(ask(number)) for number in range(len(queries))]
    recall = [len(f & e) / len(e) for f, e in zip(found, expected, strict=True) if e]
    mean = round(float(np.mean(recall)), 4) if recall else 1.0
    admitted = int(known["admitted"][line])
    return {"filter": where, "admitted": admitted, "recall_at_10": mean, "first_ms": first, **milliseconds(ask, len(queries))}


def edits(collection: Collection, catalogue: Catalogue) -> dict[str, float]:
    """Time from committing one document to the end of the search that finds it."""
    weights, made = np.array([[1.0, 0.0]], np.float32), list(islice(documents(catalogue), 200))

    def edit(number: int) -> None:
        collection.upsert([made[number]])
        assert collection.search(made[number].embeddings[0].vector[None], 1, weights=weights)[0][0].score > 0.999

    return milliseconds(edit, len(made))


def beside_compaction(collection: Collection, catalogue: Catalogue, queries: Vectors) -> dict[str, object]:
    """Time searches alone, and while the process of `engine.index.compactor` makes changes into a segment.

    A collection that is not large is made anew with them.
    """
    weights = np.array([[1.0, 0.0]], np.float32)

    def ask(number: int) -> None:
        collection.search(queries[number % len(queries)][None], K, weights=weights)

    alone = milliseconds(ask, 5 * len(queries))
    fill(collection, islice(documents(catalogue), CHANGED))
    pending = milliseconds(ask, 5 * len(queries))
    extent: Extent = "mergeable" if catalogue.rows <= REMADE_ROWS else "due"
    index, spent, start = collection._index, children_seconds(), time.perf_counter()
    index._order = replace(index._order, extent=extent)
    index._start(index._compact_in_background)
    times = []
    while index._background is not None:
        times.append(milliseconds(ask, 1)["p50_ms"])
    seconds = time.perf_counter() - start
    return {
        "alone": alone,
        "changes_pending": pending,
        "during": spread(times),
        "p99_ratio": round(spread(times)["p99_ms"] / pending["p99_ms"], 2),
        "searches": len(times),
        "extent": extent,
        "compaction_s": round(seconds, 2),
        "compaction_processor_s": round(children_seconds() - spent, 2),
    }


def children_seconds() -> float:
    """Read the processor time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def copied(collection: Path) -> Path:
    """Copy a collection, so that it can be changed and measured again; segments never change and are linked."""
    copy = collection.with_name("measured")
    shutil.rmtree(copy, ignore_errors=True)

    def put(source: str, target: str) -> None:
        (os.link if "segments" in Path(source).parts else shutil.copy2)(source, target)

    shutil.copytree(collection, copy, copy_function=put)
    return copy


def measure(catalogue: Catalogue, folder: Path, peers: Sequence[str]) -> dict[str, object]:
    """Open what was built, search it, then change it."""
    place = folder / f"rows-{catalogue.rows}"
    result: dict[str, object] = {"rows": catalogue.rows, **json.loads((place / "built.json").read_text(encoding="utf-8"))}
    result["peers"] = measure_peers(place, peers)
    before, start = memory_mb(), time.perf_counter()
    collection = Collection.open(copied(place / "collection"), settings=Settings(threads=THREADS))
    result["open_s"] = round(time.perf_counter() - start, 3)
    result["searches"] = searches(collection, place, catalogue.titles)
    result["memory_mb"] = {kind: held - before[kind] for kind, held in memory_mb().items()}
    result["edit_to_searchable"] = edits(collection, catalogue)
    result["beside_compaction"] = beside_compaction(collection, catalogue, np.load(place / "truth.npz")["queries"])
    collection.close()
    return result


def command_line(about: str, rows: list[int], result: str) -> argparse.ArgumentParser:
    """Lay out what every benchmark of sizes can be told; `rows` and `result`, a file's name, are its own."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=rows)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--vectors", type=Path, help="real embeddings of pictures to jitter, float [n, 256]")
    parser.add_argument("--texts", type=Path, help="real embeddings of texts to ask with, float [n, 256]")
    parser.add_argument("--folder", type=Path, help="where everything is made and kept; default: a temporary folder")
    parser.add_argument("--stage", choices=("build", "measure", "all"), default="all")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results") / result)
    return parser


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "", [10_000, 100_000, 1_000_000], "search.json")
    parser.add_argument("--views", choices=("both", "image"), default="both", help="what documents have")
    parser.add_argument(
        "--peers", nargs="*", choices=[peer.name for peer in PEERS], default=[], help="measured on the pictures too"
    )
    return parser.parse_args()


def main() -> None:
    """Run every size and write the result."""
    arguments, sizes = parsed(), []
    base = base_vectors(arguments.vectors)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for rows in arguments.rows:
            catalogue = Catalogue(base, rows, titles=arguments.views == "both")
            if arguments.stage != "measure":
                build(catalogue, queries_for(base, arguments.queries, arguments.texts), folder, arguments.peers)
            if arguments.stage != "build":
                sizes.append(measure(catalogue, folder, arguments.peers))
    if sizes:
        machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        result = {
            "machine": machine,
            "vectors": "real" if arguments.vectors else "made up",
            "views": arguments.views,
            "sizes": sizes,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
