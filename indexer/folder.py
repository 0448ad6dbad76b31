"""A folder of pictures as a catalogue: the id is the path below the folder, the title the cleaned file name.

`shoes/red-trail_runner.jpg` becomes id `shoes/red-trail_runner.jpg`, title "red trail runner", attribute folder `shoes`. Names a
camera gave (`IMG_2031.jpg`) say nothing and make no title. Hidden files and folders are skipped, links to folders are not
followed, and rows are numbered in path order.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from engine.datatypes import Document
from engine.errors import InvalidCatalogue, InvalidDocument
from indexer.shard import CatalogueRow, RowError, ShardSpec
from indexer.staging import temporary_file

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
_CAMERA = re.compile(r"(?:img|dsc[nf_]?|pxl|image|photo|picture|screenshot|wp|p|mvimg)?[\W\d_]*", re.IGNORECASE)


class FolderSource:
    """The pictures below a folder. Their list is kept in a temporary file, so its length costs no memory."""

    complete = True

    def __init__(self, path: Path, exclude: Path | None = None) -> None:
        self._root = path.absolute()
        self._list = temporary_file(json.dumps(name).encode() + b"\n" for name in _names(self._root, exclude))
        self._list.seek(0)
        if not self._list.readline():
            self._list.close()
            raise InvalidCatalogue(f"the folder {path} holds no pictures ({', '.join(sorted(SUFFIXES))}): name another")

    def shards(self, size: int) -> Iterator[ShardSpec]:
        """Divide the list into runs of `size` pictures."""
        number, offset = 0, 0
        self._list.seek(0)
        while rows := sum(1 for _ in zip(range(size), iter(self._list.readline, b""), strict=False)):
            yield ShardSpec(number, number * size + 1, rows, offset)
            number, offset = number + 1, self._list.tell()

    def read(self, shard: ShardSpec) -> Iterator[CatalogueRow | RowError]:
        """Read the rows of a shard."""
        self._list.seek(shard.offset)
        for row in range(shard.first_row, shard.first_row + shard.rows):
            yield self._row(row, json.loads(self._list.readline()))

    def close(self) -> None:
        """Forget the list."""
        self._list.close()

    def _row(self, row: int, name: str) -> CatalogueRow | RowError:
        folder, _, file = name.rpartition("/")
        try:
            return CatalogueRow(
                row, Document(name, title_of(file), "", (str(self._root / name),), {"folder": folder} if folder else {})
            )
        except InvalidDocument as error:
            shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            return RowError(row, shown, f"the file's name cannot be an id: {error}", "invalid")


def title_of(file: str) -> str:
    """Make a title of a file's name: "" for the numbers that cameras give."""
    stem = file.rpartition(".")[0] or file
    return "" if _CAMERA.fullmatch(stem) else " ".join(re.sub(r"[_\-+.]+", " ", stem).split())


def _names(root: Path, exclude: Path | None) -> Iterator[str]:
    """Walk below a folder in path order, one folder's names in memory at a time."""
    hidden = exclude.resolve() if exclude is not None else None
    for folder, below, files in os.walk(root, onerror=_unreadable):
        below[:] = sorted(name for name in below if not _skipped(Path(folder) / name, hidden))
        prefix = Path(folder).relative_to(root).as_posix()
        for file in sorted(files):
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in SUFFIXES:
                yield file if prefix == "." else f"{prefix}/{file}"


def _skipped(folder: Path, hidden: Path | None) -> bool:
    return folder.name.startswith((".", "@", "__")) or (hidden is not None and folder.resolve() == hidden)


def _unreadable(error: OSError) -> NoReturn:
    raise InvalidCatalogue(f"the folder {error.filename} cannot be listed ({error.strerror}): check its permissions")
