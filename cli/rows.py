"""The input of `semblance embed`, row by row: one text a line, one picture path a line, or a folder of pictures.

Nothing is held whole but the names of a folder's files. An error names the row.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from engine.config import Settings
from engine.datatypes import MAX_TEXT_LENGTH, Image
from engine.encoders.images import decode, read_bytes
from engine.errors import InvalidInput, SemblanceError
from indexer.folder import SUFFIXES

LONGEST_LINE = 4 * MAX_TEXT_LENGTH + 2
BATCHES_AHEAD = 2

Item = TypeVar("Item")
Row = tuple[str, str]


def texts(source: str) -> Iterator[str]:
    """Read one text a line from a file, or from standard input for `-`."""
    for place, line in lines(source):
        if not line.strip():
            raise InvalidInput(f"{place} is empty: every line must hold a text, since row n of the output is line n")
        yield line


def picture_count(source: str) -> int | None:
    """Count the rows to come, None when only reading tells."""
    if source == "-":
        return None
    return sum(1 for _ in pictures(source)) if Path(source).is_dir() else line_count(source)


def line_count(source: str) -> int | None:
    """Count the lines of a file, None for standard input."""
    if source == "-":
        return None
    with _opened(source) as file:
        return sum(1 for _ in file)


def pictures(source: str) -> Iterator[tuple[str, Path]]:
    """Name the pictures of a folder, sorted by path, or of a list of paths; with the place to name in an error.

    Relative paths in a list are looked for beside the list first, then in the current folder.
    """
    if source != "-" and Path(source).is_dir():
        yield from ((str(path), path) for path in _pictures_below(Path(source)))
        return
    for place, line in lines(source):
        if not line.strip():
            raise InvalidInput(f"{place} is empty: every line must name a picture, since row n of the output is line n")
        beside = Path(source).parent / line
        yield f"{place} ({line})", beside if source != "-" and beside.exists() else Path(line)


def lines(source: str) -> Iterator[Row]:
    """Read UTF-8 lines with their place; raises `InvalidInput` for another encoding, a NUL or a line beyond all measure."""
    name = "standard input" if source == "-" else source
    with _opened(source) as file:
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
            yield f"{name} line {number}", _decoded(raw, f"{name} line {number}", first=number == 1)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Group items."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def decoded(rows: Iterable[Sequence[tuple[str, Path]]], settings: Settings, size: int) -> Iterator[list[Image]]:
    """Decode batches of pictures in threads, a few batches ahead of the consumer, in order."""

    def opened(row: tuple[str, Path]) -> Image:
        place, path = row
        try:
            return decode(read_bytes(path, settings.max_image_bytes), size=size, max_pixels=settings.max_pixels)
        except SemblanceError as error:
            raise InvalidInput(f"{place}: {error}") from error

    with ThreadPoolExecutor() as pool:
        yield from _ahead(pool, opened, rows)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[tuple[str, Path]], Image], rows: Iterable[Sequence[tuple[str, Path]]]
) -> Iterator[list[Image]]:
    waiting: deque[list[Future[Image]]] = deque()
    try:
        for batch in rows:
            waiting.append([pool.submit(work, row) for row in batch])
            if len(waiting) > BATCHES_AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _pictures_below(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    visible = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not visible:
        raise InvalidInput(f"there is no picture below {folder}: expected {', '.join(sorted(SUFFIXES))}")
    return visible


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    if not Path(source).exists():
        raise InvalidInput(f"there is no file {source}")
    with Path(source).open("rb") as file:
        yield file


def _decoded(raw: bytes, place: str, *, first: bool) -> str:
    if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
        raise InvalidInput(f"{place} is longer than {MAX_TEXT_LENGTH} characters: is this a text file?")
    try:
        line = raw.decode("utf-8-sig" if first else "utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{place} is not UTF-8 (byte {error.start + 1}): save the file as UTF-8") from None
    if len(line) > MAX_TEXT_LENGTH or "\x00" in line:
        raise InvalidInput(f"{place} has a NUL or more than {MAX_TEXT_LENGTH} characters: is this a text file?")
    return line
