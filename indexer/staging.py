"""A catalogue file made readable line by line: unpacked, in one byte order, with one kind of line end.

Most files are read where they lie. A packed (gzip), UTF-16 or carriage-return-only file is rewritten once into an unnamed temporary
file, which vanishes with the process. What a file is, is told by its first bytes and not by its name. Rows do not belong here.
"""

import codecs
import gzip
import os
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self, TypeAlias, cast

from engine.errors import InvalidCatalogue, StorageError

Format: TypeAlias = Literal["csv", "jsonl", "json", "xml", "parquet"]

HEAD = 65_536
CHUNK = 2**20
SMALL, MOST_TIMES = 10**8, 200
"""What is larger than `SMALL` bytes may be so many times larger than packed: tables pack to a tenth, bombs to a thousandth."""
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NOT_CATALOGUES = (
    (b"PK\x03\x04", "a spreadsheet or zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"%PDF", "a PDF document"),
    (b"SQLite format 3", "a database"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)


class StagedFile:
    """A catalogue file ready to be read as bytes. One reader at a time; close it, or use it as a context manager."""

    def __init__(self, path: Path, encoding: str | None) -> None:
        self.path = path
        self.encoding = encoding or "utf-8"
        self._file = _open(path)
        try:
            self._prepare(encoding)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a temporary one is gone then."""
        self._file.close()

    def at(self, offset: int) -> BinaryIO:
        """Go to an offset of the bytes."""
        self._file.seek(offset)
        return self._file

    @property
    def file(self) -> BinaryIO:
        """The bytes; seek before reading."""
        return self._file

    @property
    def start(self) -> int:
        """Offset of the first byte after a UTF-8 mark."""
        return len(codecs.BOM_UTF8) if self.head().startswith(codecs.BOM_UTF8) else 0

    def head(self) -> bytes:
        """Return the first bytes."""
        self._file.seek(0)
        return self._file.read(HEAD)

    def format(self) -> Format:
        """Tell what the file is. Raises `InvalidCatalogue` when it is empty or no catalogue at all."""
        head = self.head()
        if head.startswith(b"PAR1"):
            return "parquet"
        text = head[self.start :].lstrip()
        if not text:
            raise InvalidCatalogue(f"{self.path} is empty: export the catalogue again")
        for magic, name in _NOT_CATALOGUES:
            if text[: len(magic)].lower() == magic.lower():
                raise InvalidCatalogue(f"{self.path} is {name}: export the catalogue as CSV (UTF-8), JSONL, XML or Parquet")
        if text.startswith(b"{"):
            return "jsonl"
        if text.startswith((b"<?xml", b"<rss", b"<feed")):
            return "xml"
        return "json" if text.startswith(b"[") and self.path.suffix.lower() != ".csv" else "csv"

    def _prepare(self, encoding: str | None) -> None:
        if self.head().startswith(b"\x1f\x8b"):
            self._replace(self._unpacked())
        head = self.head()
        wide = next((name for mark, name in _BOMS if head.startswith(mark)), None) or _wide(encoding) or _without_mark(head)
        if head.startswith(b"PAR1"):
            return
        if wide is not None:
            self.rewrite(self._transcoded(wide))
            head = self.head()
        if b"\r" in head and b"\n" not in head:
            self._replace(chunk.replace(b"\r", b"\n") for chunk in self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """Read the bytes from the start, a piece at a time."""
        self._file.seek(0)
        while chunk := self._file.read(CHUNK):
            yield chunk

    def _unpacked(self) -> Iterator[bytes]:
        self._file.seek(0)
        left = max(SMALL, MOST_TIMES * os.fstat(self._file.fileno()).st_size)
        try:
            with gzip.GzipFile(fileobj=self._file) as packed:
                while chunk := packed.read(CHUNK):
                    left -= len(chunk)
                    if left < 0:
                        raise InvalidCatalogue(f"{self.path} unpacks to more than {MOST_TIMES} times its size: unpack it first")
                    yield chunk
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidCatalogue(f"{self.path} cannot be unpacked ({error}): download it again") from None

    def _transcoded(self, encoding: str) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            for chunk in self.chunks():
                yield decoder.decode(chunk).encode()
            yield decoder.decode(b"", final=True).encode()
        except UnicodeError as error:
            raise InvalidCatalogue(f"{self.path} is not valid {encoding.upper()} ({error}): save it as UTF-8") from None

    def rewrite(self, chunks: Iterable[bytes]) -> None:
        """Go on with other bytes, UTF-8, in a temporary file."""
        self._replace(chunks)
        self.encoding = "utf-8"

    def _replace(self, chunks: Iterable[bytes]) -> None:
        staged = temporary_file(chunks)
        self._file.close()
        self._file = staged


def temporary_file(chunks: Iterable[bytes]) -> BinaryIO:
    """Write chunks to an unnamed file that vanishes when closed, or with the process. Raises `StorageError` for a full disk."""
    file = tempfile.TemporaryFile()
    try:
        for chunk in chunks:
            with _room():
                file.write(chunk)
        with _room():
            file.flush()
    except BaseException:
        with suppress(OSError):  # what is left of a full disk's buffer
            file.close()
        raise
    return cast(BinaryIO, file)


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"a catalogue cannot be laid out in {tempfile.gettempdir()} ({error.strerror}): make room there, or set TMPDIR"
        ) from None


def _open(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InvalidCatalogue(f"{path} is not a file: name a CSV, JSONL, XML or Parquet file, or a folder of pictures")
        return path.open("rb")
    except FileNotFoundError:
        raise InvalidCatalogue(f"there is no catalogue {path}: check the path") from None
    except OSError as error:
        raise InvalidCatalogue(f"{path} cannot be read ({error.strerror}): check its permissions") from None


def _wide(encoding: str | None) -> str | None:
    """Return an encoding asked for by name whose line ends are not single bytes. Raises `InvalidCatalogue` for an unknown one."""
    if encoding is None:
        return None
    try:
        name = codecs.lookup(encoding).name
        bytes(4).decode(name, "surrogateescape")  # as rows are read: some codecs cannot do that
    except (LookupError, ValueError):
        raise InvalidCatalogue(f"{encoding!r} is no text encoding: use utf-8, cp1252, gb18030, shift_jis...") from None
    return name if name.startswith(("utf-16", "utf-32", "utf-7")) else None


def _without_mark(head: bytes) -> str | None:
    """Recognise UTF-16 without its mark: ASCII column names have every other byte zero."""
    sample = head[:64]
    if len(sample) < 8 or sample.count(0) < len(sample) // 4:
        return None
    if not any(sample[0::2]):
        return "utf-16-be"
    return "utf-16-le" if not any(sample[1::2]) else None
