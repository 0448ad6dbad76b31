"""Records of a CSV file, one broken row at a time: a stray quote costs its own row, never the rest of the file.

A cell that begins with a quote must end with one, before a delimiter or the end of the line; it may hold line breaks and
doubled quotes (RFC 4180). A quote inside an unquoted cell (`5" mug`) is an ordinary character. Where that does not work out,
because text follows the closing quote, the file ends inside the quotes, or the quoted cell has plainly swallowed the next
product's line, the *first line* of the record is refused and reading goes on at the line after it.

What the cells mean does not belong here: see `indexer.rows`.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from indexer.shard import RowError

MAX_LINE = 8 * 2**20
MAX_RECORD = 2**20
MAX_RECORD_LINES = 10_000
DELIMITERS = ",;\t|"
_UNDECODABLE = re.compile("[\udc80-\udcff]")
"""What `surrogateescape` makes of bytes that are not in the encoding."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file writes its cells."""

    delimiter: str
    encoding: str
    skip_space: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One physical line with its line end; `cut` when it was longer than `MAX_LINE` and the rest was skipped."""

    offset: int
    data: bytes
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the file: cells, or what is wrong with it. `end` is the offset after it."""

    row: int
    offset: int
    cells: list[str] | None
    error: RowError | None = None


class Lines:
    """The lines of a binary file from an offset on; lines may be put back."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        file.seek(offset)
        self._file = file
        self._offset = offset
        self._returned: list[Line] = []

    def take(self) -> Line | None:
        """Return the next line, None at the end."""
        if self._returned:
            return self._returned.pop()
        data = self._file.readline(MAX_LINE)
        if not data:
            return None
        line = Line(self._offset, data)
        self._offset += len(data)
        if len(data) == MAX_LINE and not data.endswith(b"\n"):
            line = Line(line.offset, data, cut=True)
            self._skip_rest()
        return line

    def put_back(self, lines: list[Line]) -> None:
        """Return lines, in the order they were taken."""
        self._returned.extend(reversed(lines))

    def _skip_rest(self) -> None:
        while data := self._file.readline(MAX_LINE):
            self._offset += len(data)
            if data.endswith(b"\n"):
                return


class RecordReader:
    """Reads records from line boundaries on. `key` is the position of the id among the cells, `width` their number."""

    def __init__(self, dialect: Dialect, key: int, width: int) -> None:
        self._dialect = dialect
        self._key = key
        self._width = width

    def records(self, lines: Lines, row: int) -> Iterator[Record]:
        """Yield the records, numbered from `row`; a blank line counts as a row, as spreadsheets do, and is skipped."""
        while (line := lines.take()) is not None:
            if line.data.strip():
                yield self._record(line, lines, row)
            row += 1

    def first(self, lines: Lines) -> tuple[list[str], int]:
        """Read the header record; return its cells and the offset after it. Raises `ValueError` for broken quoting."""
        line = lines.take()
        taken = [] if line is None else [line]
        cells = self._split(self._whole(taken, lines))
        return cells, taken[-1].offset + len(taken[-1].data)

    def _record(self, first: Line, lines: Lines, row: int) -> Record:
        taken = [first]
        try:
            texts = self._whole(taken, lines)
            cells = self._split(texts)
        except ValueError as error:
            lines.put_back(taken[1:])
            return self._refused(row, first, "quoting", str(error))
        bad = _UNDECODABLE.search("".join(texts))
        if bad is not None:
            return self._refused(row, first, "encoding", undecodable(ord(bad[0]) - 0xDC00, self._dialect.encoding))
        if any(line.cut for line in taken):
            return self._refused(row, first, "too_long", f"the line is longer than {MAX_LINE:,} bytes")
        while len(cells) > self._width and not cells[-1].strip():
            cells.pop()
        if len(cells) != self._width:
            reason = (
                f"the row has {len(cells)} cells and the header {self._width}: put cells that hold a "
                f"{_name(self._dialect.delimiter)} in quotes, and leave none out"
            )
            return self._refused(row, first, "columns", reason)
        return Record(row, first.offset, cells)

    def _refused(self, row: int, first: Line, code: str, reason: str) -> Record:
        return Record(row, first.offset, None, RowError(row, self._readable_id(first), reason, code))

    def _whole(self, taken: list[Line], lines: Lines) -> list[str]:
        """Decode a record's lines, taking more of them while a quote is open. Raises `ValueError` for broken quoting."""
        texts = [self._decode(taken[0])]
        size, inside = len(taken[0].data), self._open_after(texts[0], False)
        while inside:
            line = lines.take()
            if line is None:
                raise ValueError("a quote opens and the file ends before it closes: remove or double it")
            taken.append(line)
            size += len(line.data)
            if size > MAX_RECORD or len(taken) > MAX_RECORD_LINES:
                raise ValueError(f"a quote opens and does not close within {MAX_RECORD:,} bytes: remove or double it")
            texts.append(self._decode(line))
            inside = self._open_after(texts[-1], True)
        if len(texts) > 1 and self._swallowed(texts):
            raise ValueError("a quote opens and closes only after the next product's line: remove or double it")
        return texts

    def _split(self, texts: list[str]) -> list[str]:
        if len(texts) == 1 and '"' not in texts[0]:
            return texts[0].rstrip("\r\n").split(self._dialect.delimiter)
        try:
            return next(self._csv(texts))
        except csv.Error as error:
            raise ValueError(f"the quotes or line ends of the row are broken ({error})") from None

    def _csv(self, texts: list[str]) -> Iterator[list[str]]:
        return csv.reader(texts, delimiter=self._dialect.delimiter, skipinitialspace=self._dialect.skip_space, strict=True)

    def _open_after(self, text: str, inside: bool) -> bool:
        """Say whether a quoted cell is still open at the end of a line that began `inside` one or not."""
        delimiter, at = self._dialect.delimiter, 0
        while True:
            if not inside:
                at = _after_spaces(text, at) if self._dialect.skip_space else at
                if text.startswith('"', at):
                    inside, at = True, at + 1
                    continue
                at = text.find(delimiter, at) + 1
                if not at:
                    return False
                continue
            at = text.find('"', at) + 1
            if not at:
                return True
            following = text[at : at + 1]
            if following == '"':
                at += 1
            elif following == delimiter:
                inside, at = False, at + 1
            elif not text[at:].strip("\r\n"):
                return False
            else:
                raise ValueError('text follows a closing quote: write a quote inside a quoted cell twice ("")')

    def _swallowed(self, texts: list[str]) -> bool:
        """Say whether the second line of a record is a product of its own: as many cells, and an id of the same build."""
        own, second = (text.rstrip("\r\n").split(self._dialect.delimiter) for text in texts[:2])
        if len(second) != self._width or self._width < 2 or self._key >= len(own):
            return False
        return _build(own[self._key]) == _build(second[self._key]) != ""

    def _readable_id(self, first: Line) -> str | None:
        """Read the id of a broken row where that is certain: it stands before the first quote and decodes."""
        before = self._decode(first).partition('"')[0]
        cells = before.rstrip("\r\n").split(self._dialect.delimiter)
        id = cells[self._key].strip() if self._key < len(cells) else ""
        ended = self._key < len(cells) - 1 or (before == self._decode(first) and first.data.endswith(b"\n"))
        return id if id and ended and not any(0xDC80 <= ord(c) <= 0xDCFF for c in id) else None

    def _decode(self, line: Line) -> str:
        return line.data.decode(self._dialect.encoding, "surrogateescape")


def undecodable(byte: int, encoding: str) -> str:
    """Say that a row is not in the file's encoding, and what to do."""
    return (
        f"the row is not {encoding.upper()} (byte 0x{byte:02X}): save the file as UTF-8, or name its encoding, for example "
        f"--encoding cp1252 (Western Excel) or --encoding gb18030 (Chinese Excel)"
    )


def _after_spaces(text: str, at: int) -> int:
    while text[at : at + 1] == " ":
        at += 1
    return at


def _build(id: str) -> str:
    """Describe how an id is built: `p12-x` and `q7-yy` are both `a0-a`."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", id.strip()))


def _name(delimiter: str) -> str:
    return {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}.get(delimiter, repr(delimiter))
