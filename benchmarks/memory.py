"""How much memory a job takes that fills a collection, as the collection grows: its peak, and its slope per document.

    python -m benchmarks.memory [--rows 400000] [--every 50000] [--json FILE]
    python -m benchmarks.memory --pictures FOLDER [--limit 2000] [--rows 255000 | --onto COLLECTION] [--json FILE]

Documents have a picture, a title, a text of a dozen words and five attributes; their vectors are given, so no encoder is loaded.
They are committed in batches of 100, and the process compacts in the background as any indexing job does. `anonymous_mb` is what
the process itself holds; `resident_mb` also counts pages of files that the system takes back when it needs them. Compactions in a
process of their own are not in these lines.

With `--pictures` a job with the default encoder indexes the picture files of a folder, each once, so that all are encoded. The
collection holds `--rows` documents with given vectors before, none of them in a segment yet: the job's first batch starts a
compaction of that many, the largest there is at 2^18, beside the encoder. (`--onto` a collection, which is changed, instead.) The
job's process and the compacting one are read together, ten times a second: `pss_mb` shares pages that both have among them.
"""

import argparse
import csv
import json
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.build import build_cache, build_encoder
from engine.collection import Collection
from engine.config import Settings, load_settings
from engine.datatypes import DIMENSIONS, Document, Embedding, EncodedDocument
from engine.search import SearchEngine
from indexer.job import IndexRequest, index_catalogue

WORDS = [f"word{number}" for number in range(5_000)]


def documents(rows: int, first_number: int = 0) -> Iterator[EncodedDocument]:
    """Make documents whose vectors gather around 500 centres, numbered from `first_number`."""
    generator = np.random.default_rng(first_number)
    centres = generator.standard_normal((500, DIMENSIONS), dtype=np.float32)
    for first in range(0, rows, 1000):
        picks, noise = generator.integers(0, 500, 1000), generator.standard_normal((2, 1000, DIMENSIONS), dtype=np.float32)
        vectors = centres[picks] + np.float32(0.8) * noise
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        for place in range(min(1000, rows - first)):
            yield _document(first_number + first + place, vectors[:, place], generator.integers(0, len(WORDS), 14))


def _document(number: int, vectors: np.ndarray, words: np.ndarray) -> EncodedDocument:
    text = [WORDS[word] for word in words]
    attributes = {
        "brand": f"brand {number % 900}",
        "price": float(number % 10_000) / 100,
        "stock": number % 50,
        "tags": (text[0], text[1]),
        "sku": f"SKU-{number:09d}",
    }
    document = Document(f"p{number}", " ".join(text[:5]) + f" {number}", " ".join(text), attributes=attributes)
    contents = [f"{view}{number:015d}".encode() for view in "it"]
    embeddings = (
        Embedding("image", contents[0], vectors[0], f"/{number}.jpg"),
        Embedding("title", contents[1], vectors[1]),
    )
    return EncodedDocument(document, b"", embeddings)


def memory() -> dict[str, int]:
    """Read what the process holds now, and the most it ever had."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    now = {name: int(status[key].split()[0]) // 1024 for name, key in (("anonymous_mb", "RssAnon"), ("resident_mb", "VmRSS"))}
    return {**now, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


@dataclass
class Together:
    """The most that a process and its children held at one moment, in MB; `of` gives it for each alone, at any moment."""

    sum: dict[str, float] = field(default_factory=dict)
    at: dict[str, list[float]] = field(default_factory=dict)
    parent: dict[str, float] = field(default_factory=dict)
    child: dict[str, float] = field(default_factory=dict)
    samples_with_child: int = 0

    def sample(self) -> None:
        """Look once."""
        parent = _held(os.getpid())
        children = [held for pid in _children() if (held := _held(pid))]
        self.samples_with_child += bool(children)
        for name, mine in parent.items():
            theirs = sum(held[name] for held in children)
            if mine + theirs > self.sum.get(name, 0):
                self.sum[name], self.at[name] = round(mine + theirs, 1), [mine, theirs]
            self.parent[name] = max(self.parent.get(name, 0), mine)
            self.child[name] = max(self.child.get(name, 0), theirs)

    def watch(self, ended: threading.Event) -> None:
        """Look ten times a second."""
        while not ended.wait(0.1):
            self.sample()


def _held(pid: int) -> dict[str, float]:
    keys = {"Rss:": "rss_mb", "Pss:": "pss_mb", "Pss_Anon:": "anonymous_mb"}
    with suppress(OSError):  # it has ended
        lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()]
        return {keys[line[0]]: round(int(line[1]) / 1024, 1) for line in lines if line[0] in keys}
    return {}


def _children() -> Iterator[int]:
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            for pid in (task / "children").read_text(encoding="ascii").split():
                if b"engine.index.compactor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    yield int(pid)


def _fill(onto: Path, fingerprint: str, encoder: str, rows: int) -> None:
    collection = Collection.create(onto, fingerprint=fingerprint, encoder=encoder, settings=Settings())
    batch: list[EncodedDocument] = []
    for document in documents(rows):
        batch.append(document)
        if len(batch) == 1000:
            collection.upsert(batch, compact=False)
            batch = []
    collection.upsert(batch, compact=False)
    collection.close()


def _catalogue(pictures: Path, limit: int, file: Path) -> int:
    found = sorted(path for path in pictures.rglob("*") if path.suffix in {".jpg", ".jpeg", ".png", ".webp"})[:limit]
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerow(["id", "title", "image"])
        csv.writer(out).writerows([f"picture-{place}", f"picture {path.stem} {place}", path] for place, path in enumerate(found))
    return len(found)


def job_with_pictures(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Index pictures into a collection while as many rows as a segment takes are compacted, and tell what both processes held."""
    onto: Path = (arguments.onto or folder / "data" / "memory").absolute()
    settings = load_settings(data=onto.parent)
    encoder = build_encoder(settings)
    if arguments.onto is None:  # in a process of its own, whose leavings are not measured
        filling = multiprocessing.get_context("spawn").Process(
            target=_fill, args=(onto, encoder.fingerprint, encoder.name, arguments.rows)
        )
        filling.start()
        filling.join()
    rows = _catalogue(arguments.pictures, arguments.limit, folder / "catalogue.csv")
    together, ended = Together(), threading.Event()
    watcher = threading.Thread(target=together.watch, args=(ended,))
    watcher.start()
    start = time.perf_counter()
    try:
        with SearchEngine(settings, encoder, build_cache(settings)) as engine:
            report = index_catalogue(engine, IndexRequest(folder / "catalogue.csv", onto.name, job_folder=folder / "job"))
            job = time.perf_counter() - start
    finally:
        ended.set()
        watcher.join()
    sizes = [len(np.load(path / "keys.npy", mmap_mode="r")) for path in onto.glob("segments/*")]
    return {
        "pictures": rows,
        "created": report.created,
        "job_s": round(job, 1),
        "closed_s": round(time.perf_counter() - start, 1),
        "segments": sorted(sizes),
        "peak_of_sum": together.sum,
        "parent_and_child_then": together.at,
        "peak_parent": together.parent,
        "peak_child": together.child,
        "sum_of_peaks": {name: round(most + together.child[name], 1) for name, most in together.parent.items()},
        "samples_with_child": together.samples_with_child,
    }


def _written(result: dict[str, object], file: Path | None) -> None:
    print(json.dumps(result))
    if file:
        file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Fill a collection and write what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, help="default: 400,000, or 255,000 with pictures")
    parser.add_argument("--every", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="where the collection is made; default: a temporary folder")
    parser.add_argument("--pictures", type=Path, help="a folder of pictures that a job with the default encoder indexes")
    parser.add_argument("--limit", type=int, default=2_000, help="how many of the pictures")
    parser.add_argument("--onto", type=Path, help="the folder of a collection that the pictures are added to")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.rows = arguments.rows or (255_000 if arguments.pictures else 400_000)
    if arguments.pictures:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            _written(job_with_pictures(arguments, Path(folder)), arguments.json)
        return
    measured: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        collection = Collection.create(Path(folder) / "memory", fingerprint="given", encoder="given", settings=Settings())
        start, batch = time.perf_counter(), []

        def note(rows: int) -> None:
            measured.append({"rows": rows, "seconds": round(time.perf_counter() - start, 1), **memory()})
            print(measured[-1], flush=True)

        note(0)
        for number, document in enumerate(documents(arguments.rows), start=1):
            batch.append(document)
            if len(batch) == 100 or number == arguments.rows:
                collection.upsert(batch)
                batch = []
            if number % arguments.every == 0:
                note(number)
        collection.close()
        note(arguments.rows)
        start = time.perf_counter()
        collection = Collection.open(Path(folder) / "memory", settings=Settings())
        opened = time.perf_counter() - start
        segments = sorted(int(path.name) for path in (Path(folder) / "memory" / "segments").iterdir())
        collection.close()
    half = next(line for line in measured if line["rows"] >= arguments.rows / 2)
    slope = 1024 * 1024 * (measured[-1]["peak_mb"] - half["peak_mb"]) / (measured[-1]["rows"] - half["rows"])
    result = {"measured": measured, "bytes_per_row": round(slope), "open_s": round(opened, 3), "segments": segments}
    _written(result, arguments.json)


if __name__ == "__main__":
    main()
