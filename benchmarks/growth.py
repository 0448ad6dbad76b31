"""How a collection grows to ten million documents: what building costs, and how fast, complete and large a search is at each size.

    python -m benchmarks.growth [--rows 10000 100000 1000000 10000000] [--queries N] [--vectors FILE.npy] [--texts FILE.npy]
                                [--folder DIR] [--stage build|measure|all] [--json FILE]

Documents and queries are those of `benchmarks.search` with one picture each; attributes are one number. They are committed in
batches of 8,192 and compacted after every million, so that each document is written into a segment once. A build that was broken
off goes on where it stopped; the phase it was in is timed from there. Ten million take 20 GB below `--folder`.

Phases of a build are reported with their wall and processor time: on a machine that does other things too, the wall time is an
upper bound. A search is timed around `Collection.search`, one query at a time, after all have been asked once. `own_mb` is what
the process holds itself, `mapped_mb` are pages of files that the system takes back when it needs them.
"""

import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.beside import memory_mb
from benchmarks.search import Catalogue, base_vectors, command_line, documents, queries_for, searched, truth
from engine.collection import Collection
from engine.config import Settings

SEGMENT = 1_000_000  # documents written between two compactions: nearly as many as the largest segment takes
BATCH = 8_192
SETTINGS = Settings(threads=2)
BUILDING = Settings(threads=4, busy_timeout_ms=120_000)  # half of the threads make a segment


class Progress:
    """What was done of a build, and what it took; written down after each phase."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.phases: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []

    @contextmanager
    def phase(self, name: str, rows: int) -> Iterator[None]:
        """Time what is done inside, after which there are `rows` documents."""
        wall, used = time.perf_counter(), time.process_time()
        yield
        taken = {"s": round(time.perf_counter() - wall, 1), "processor_s": round(time.process_time() - used, 1)}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        self.phases.append({"phase": name, "rows": rows, **taken, "peak_mb": peak})
        print(json.dumps(self.phases[-1]), flush=True)
        self._path.write_text(json.dumps(self.phases), encoding="utf-8")

    def reached(self, name: str) -> int:
        """Tell how many documents there were when a phase was last done."""
        return max((phase["rows"] for phase in self.phases if phase["phase"] == name), default=0)

    def total(self, *names: str) -> dict[str, float]:
        """Add up what phases took."""
        chosen = [phase for phase in self.phases if phase["phase"] in names]
        return {unit: round(sum(phase[unit] for phase in chosen), 1) for unit in ("s", "processor_s")}


def place_of(folder: Path, catalogue: Catalogue) -> Path:
    """Name the folder of one size."""
    return folder / f"growth-{catalogue.rows}"


def build(catalogue: Catalogue, queries: np.ndarray, folder: Path) -> None:
    """Make a collection and what is true of it, or go on with it."""
    place = place_of(folder, catalogue)
    place.mkdir(parents=True, exist_ok=True)
    progress, path = Progress(place / "phases.json"), place / "collection"
    if not path.exists():
        Collection.create(path, fingerprint="benchmark", encoder="benchmark", settings=BUILDING).close()
    with closing(Collection.open(path, settings=BUILDING)) as collection:
        fill(collection, catalogue, progress)
    if not (place / "truth.npz").exists():
        with progress.phase("truth", catalogue.rows):
            numbers, admitted = truth(catalogue, queries)
            np.savez(place / "truth.npz", numbers=numbers, admitted=admitted, queries=queries)


def fill(collection: Collection, catalogue: Catalogue, progress: Progress) -> None:
    """Write what is missing, in the order of the numbers, and compact after every `SEGMENT` documents."""
    written, made = len(collection), documents(catalogue, len(collection))
    while progress.reached("compact") < catalogue.rows:
        stop = min(catalogue.rows, progress.reached("compact") // SEGMENT * SEGMENT + SEGMENT)
        if written < stop:
            with progress.phase("write", stop):
                while written < stop:
                    batch = list(islice(made, min(BATCH, stop - written)))
                    collection.upsert(batch, compact=False)
                    written += len(batch)
        with progress.phase("compact", written):
            collection.compact()


def measure(catalogue: Catalogue, folder: Path) -> dict[str, object]:
    """Open what was built and search it."""
    place = place_of(folder, catalogue)
    progress, start = Progress(place / "phases.json"), time.perf_counter()
    before = memory_mb()
    with closing(Collection.open(place / "collection", settings=SETTINGS)) as collection:
        opened = round(time.perf_counter() - start, 3)
        first = searched(collection, np.load(place / "truth.npz"), titles=False, line=0)
        while collection._index._background is not None:  # large files are digested beside the first searches
            time.sleep(0.1)
        found = searched(collection, np.load(place / "truth.npz"), titles=False, line=0)
        held = memory_mb()
        segments = len(collection.snapshot().parts)
    return {
        "rows": catalogue.rows,
        "segments": segments,
        "build": progress.total("write", "compact"),
        "write": progress.total("write"),
        "compact": progress.total("compact"),
        "build_peak_mb": max((phase["peak_mb"] for phase in progress.phases if phase["phase"] != "truth"), default=0),
        "disk_mb": sum(file.stat().st_size for file in place.glob("collection/**/*") if file.is_file()) // 2**20,
        "open_s": opened,
        "first_ms": first["first_ms"],
        **{name: found[name] for name in ("recall_at_10", "p50_ms", "p99_ms")},
        **{f"{kind}_mb": held[kind] - before[kind] for kind in held},
    }


def main() -> None:
    """Run every size and write the table."""
    command = command_line(__doc__ or "", [10_000, 100_000, 1_000_000, 10_000_000], "growth.json")
    arguments, sizes = command.parse_args(), []
    base = base_vectors(arguments.vectors)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for rows in arguments.rows:
            catalogue = Catalogue(base, rows, titles=False)
            if arguments.stage != "measure":
                build(catalogue, queries_for(base, arguments.queries, arguments.texts), folder)
            if arguments.stage != "build":
                sizes.append(measure(catalogue, folder))
                print(json.dumps(sizes[-1]), flush=True)
    if sizes:
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
        result = {"machine": machine, "vectors": "real" if arguments.vectors else "made up", "sizes": sizes}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
