"""Write `collection-<format>.tar.xz`: a small collection in today's formats, which every later version must open.

    python tests/golden/write_collection.py

Run it only when a format changes, and keep the files of the formats before.
"""

import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from engine.collection import Collection
from engine.config import Settings
from engine.folder import FORMAT
from engine.index import segment
from tests.storage import axis, encoded

TARGET = Path(__file__).with_name(f"collection-{FORMAT}.{segment.FORMAT}.tar.xz")


def fill(path: Path) -> None:
    """Make 20 documents in two segments, with changes after them that only the log holds."""
    collection = Collection.create(path, fingerprint="golden", encoder="golden", settings=Settings(threads=1))
    collection.upsert([encoded(f"p{n}", [axis(n)], axis(n + 100), n=n, brand=f"b{n % 3}", tags=("x", f"t{n}")) for n in range(20)])
    collection.compact()
    collection.upsert([encoded("late", [axis(50)], n=50)])
    collection.delete(["p7"])
    collection._index.compact(extent="due")
    collection.upsert([encoded("newest", [axis(60)], n=60)])
    collection.delete(["p8"])
    collection.close()


def main() -> None:
    """Write the file; one of this format that is there already is kept."""
    if TARGET.exists():
        sys.exit(f"{TARGET} exists: golden files are written once")
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "golden")
        with tarfile.open(TARGET, "w:xz") as archive:
            archive.add(Path(folder) / "golden", "golden", filter=lambda entry: None if entry.name.endswith(".lock") else entry)


if __name__ == "__main__":
    main()
