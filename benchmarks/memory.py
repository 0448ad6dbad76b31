"""How much memory a job takes that fills a collection, as the collection grows: its peak, and its slope per document.

    python -m benchmarks.memory [--rows 400000] [--every 50000] [--json FILE]

Documents have a picture, a title, a text of a dozen words and five attributes; their vectors are given, so no encoder is loaded.
They are committed in batches of 100, and the process compacts in the background as any indexing job does. `anonymous_mb` is what
the process itself holds; `resident_mb` also counts pages of files that the system takes back when it needs them.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine.collection import Collection
from engine.config import Settings
from engine.datatypes import DIMENSIONS, Document, Embedding, EncodedDocument

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


def main() -> None:
    """Fill a collection and write what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--every", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="where the collection is made; default: a temporary folder")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
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
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
