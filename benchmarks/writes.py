"""What writing costs: upserts a second, how soon they are found, how long opening takes, and what searches feel of a compaction.

    python -m benchmarks.writes [--rows 100000] [--runs 3] [--folder DIR] [--stage build|measure|all] [--json FILE]

Documents have a picture, a title, a text and five attributes; their vectors are given, so no encoder is loaded. They are committed
in batches of 100, each commit synced to the disk that `--folder` is on, while the process compacts in the background and searches
follow the log. Everything is measured on a collection of `--rows` documents; the median of the runs is reported with each of them.
A search that a reader in another process repeats until it finds the change tells how soon other workers see it.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.memory import documents
from engine.collection import Collection
from engine.config import Settings
from engine.datatypes import EncodedDocument, Vectors

BATCH = 100
UPSERTS = 10_000
EDITS = 500
SEEN = 100
SEARCHES = 1_000
WEIGHTS = np.array([[0.5, 0.5]], np.float32)
SETTINGS = Settings(threads=2)


def build(place: Path, rows: int) -> None:
    """Make the collection that is measured, unless it is there."""
    if (place / "built").exists():
        return
    shutil.rmtree(place / "collection", ignore_errors=True)  # of a build that was broken off
    with closing(Collection.create(place / "collection", fingerprint="given", encoder="given", settings=SETTINGS)) as collection:
        batches = documents(rows)
        while batch := list(islice(batches, BATCH)):
            collection.upsert(batch)
        collection.compact()
    (place / "built").touch()


def opening(path: Path) -> float:
    """Time opening, and the first search with it, in seconds."""
    start = time.perf_counter()
    with closing(Collection.open(path, settings=SETTINGS)) as collection:
        collection.search(np.eye(256, dtype=np.float32)[:1], 10, weights=WEIGHTS)
        return time.perf_counter() - start


def upserts(collection: Collection, made: Sequence[EncodedDocument]) -> float:
    """Count upserts a second; a search after each batch keeps the index up to date, as a server does."""
    start = time.perf_counter()
    for first in range(0, len(made), BATCH):
        collection.upsert(made[first : first + BATCH])
        collection.count(None)
    return len(made) / (time.perf_counter() - start)


def edits(collection: Collection, made: Sequence[EncodedDocument]) -> list[float]:
    """Time from the beginning of an edit to the end of the search that finds it, in milliseconds."""
    times = []
    for document in made:
        start = time.perf_counter()
        collection.upsert([document])
        (found,) = collection.search(vectors_of(document)[:1], 1, weights=np.array([[1, 0]], np.float32))
        times.append(1000 * (time.perf_counter() - start))
        assert found[0].score > 0.999
    return times


def vectors_of(document: EncodedDocument) -> Vectors:
    """Stack the vectors of a document."""
    return np.stack([embedding.vector for embedding in document.embeddings if embedding.vector is not None])


def _look(path: Path, told: Connection) -> None:
    """Be the other process: search for each vector that is sent until it is found, and answer when that was."""
    with closing(Collection.open(path, settings=SETTINGS)) as collection:
        collection.count(None)  # what had gathered before it came is not measured here
        told.send(0.0)
        while (vector := told.recv()) is not None:
            while collection.search(vector, 1, weights=np.array([[1, 0]], np.float32))[0][0].score < 0.999:
                pass
            told.send(time.monotonic())


@contextmanager
def another_process(path: Path) -> Iterator[Connection]:
    """Run a reader beside this process."""
    ours, theirs = multiprocessing.Pipe()
    reader = multiprocessing.get_context("spawn").Process(target=_look, args=(path, theirs))
    reader.start()
    ours.recv()
    yield ours
    ours.send(None)
    reader.join()


def seen_elsewhere(collection: Collection, made: Sequence[EncodedDocument]) -> list[float]:
    """Time from a commit to the end of the search of another process that finds it, in milliseconds."""
    times = []
    with another_process(collection.path) as reader:
        for document in made:
            reader.send(vectors_of(document)[:1])
            time.sleep(0.005)
            collection.upsert([document])
            committed = time.monotonic()
            times.append(1000 * (reader.recv() - committed))
    return times


def searching(collection: Collection, queries: Vectors, *, until: Callable[[], bool]) -> list[float]:
    """Search one query after another until told to stop; milliseconds each."""
    times: list[float] = []
    while not until() or len(times) < 10:
        start = time.perf_counter()
        collection.search(queries[len(times) % len(queries)][None], 10, weights=WEIGHTS)
        times.append(1000 * (time.perf_counter() - start))
    return times


def beside_compaction(collection: Collection, queries: Vectors, made: Sequence[EncodedDocument]) -> dict[str, object]:
    """Time searches with changes pending, and while another process makes these into a segment, as in the background."""
    for first in range(0, len(made), BATCH):
        collection.upsert(made[first : first + BATCH])
    count = iter(range(SEARCHES))
    alone = searching(collection, queries, until=lambda: next(count, None) is None)
    index = collection._index
    while index._background is not None:  # one that a write began
        time.sleep(0.01)
    index._order = replace(index._order, extent="mergeable")
    start = time.perf_counter()
    index._start(index._compact_in_background)
    during = searching(collection, queries, until=lambda: index._background is None)
    seconds = time.perf_counter() - start
    ratio = np.percentile(during, 99) / np.percentile(alone, 99)
    return {
        "alone": spread(alone),
        "during": spread(during),
        "p99_ratio": round(float(ratio), 2),
        "compaction_s": round(seconds, 2),
    }


def spread(times: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and longest."""
    return {
        "p50_ms": round(float(np.median(times)), 3),
        "p99_ms": round(float(np.percentile(times, 99)), 3),
        "max_ms": round(max(times), 3),
        "count": len(times),
    }


def changed(document: EncodedDocument, number: int) -> EncodedDocument:
    """Give a stored product the words, attributes and pictures of another."""
    return replace(document, document=replace(document.document, id=f"p{number}"))


def run(place: Path, rows: int, number: int) -> dict[str, object]:
    """Measure everything once, on a copy."""
    path = place / f"run{number}"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(place / "collection", path)
    made = documents(2 * UPSERTS + EDITS + SEEN, first_number=rows)
    new, others = list(islice(made, UPSERTS)), list(made)
    edited = [changed(document, place) for place, document in enumerate(others)]
    result: dict[str, object] = {"open_s": round(opening(path), 3)}
    with closing(Collection.open(path, settings=SETTINGS)) as collection:
        result["upserts_per_s"] = round(upserts(collection, new))
        result["edit_to_searchable"] = spread(edits(collection, edited[:EDITS]))
        result["seen_by_another_process"] = spread(seen_elsewhere(collection, edited[EDITS : EDITS + SEEN]))
        queries = np.concatenate([vectors_of(document)[:1] for document in new[:200]])
        result["beside_compaction"] = beside_compaction(collection, queries, edited[EDITS + SEEN :])
    shutil.rmtree(path)
    return result


def median(runs: Sequence[dict[str, object]]) -> dict[str, object]:
    """Take the median of every number, however deep it lies."""
    names, found = runs[0].keys(), {}
    for name in names:
        values = [run[name] for run in runs]
        found[name] = median(values) if isinstance(values[0], dict) else round(float(np.median(values)), 3)  # type: ignore[arg-type]
    return found


def main() -> None:
    """Build, measure, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the collection is made and kept; default: a temporary folder")
    parser.add_argument("--stage", choices=("build", "measure", "all"), default="all")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/writes.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = (arguments.folder or Path(temporary)) / f"writes-{arguments.rows}"
        place.mkdir(parents=True, exist_ok=True)
        build(place, arguments.rows)
        if arguments.stage == "build":
            return
        runs = [run(place, arguments.rows, number) for number in range(arguments.runs)]
    known = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.exists() else {"sizes": []}
    sizes = {size["rows"]: size for size in known["sizes"]}
    sizes[arguments.rows] = {"rows": arguments.rows, "median": median(runs), "runs": runs}
    result = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "batch": BATCH,
        "sizes": [sizes[rows] for rows in sorted(sizes)],
    }
    print(json.dumps(sizes[arguments.rows]["median"], indent=2))
    arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
