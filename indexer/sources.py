"""Where catalogues come from: a CSV, JSON, XML or Parquet file, or a folder of pictures, all read as numbered rows.

A source is planned first (`shards` reads it once from end to end, so that its size is known and damage at its end is seen before
anything is removed) and read afterwards. Row numbers are those a shopkeeper sees: in CSV the header is row 1 and blank lines
count, in JSONL it is the line, elsewhere the position, from 1.

Parquet is in `indexer.parquet`, folders in `indexer.folder`; what rows mean is in `indexer.rows`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeAlias

import orjson

from engine.errors import InvalidCatalogue
from indexer.columns import FIELDS, GUESSES, plan_columns
from indexer.continuing import Continuations
from indexer.delimited import DELIMITERS, MAX_LINE, Dialect, Line, Lines, Record, RecordReader, undecodable
from indexer.rows import RowBuilder
from indexer.shard import CatalogueRow, RowError, ShardSpec
from indexer.staging import HEAD, StagedFile
from indexer.values import kinds_of

Row: TypeAlias = CatalogueRow | RowError

SAMPLE = 10_000
MAX_COLUMNS = 1_000
MAX_JSON = 32 * 2**20


class CatalogSource(Protocol):
    """A catalogue that can be read in parts. `complete` is False when its last row is damaged, as by a broken-off download."""

    @property
    def complete(self) -> bool:
        """Say whether the catalogue seems to end where it should; known once `shards` is exhausted."""

    def shards(self, size: int) -> Iterator[ShardSpec]:
        """Divide the catalogue into runs of about `size` rows."""

    def read(self, shard: ShardSpec) -> Iterator[Row]:
        """Read the rows of a shard, the good and the bad, in order."""

    def close(self) -> None:
        """Release files."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a catalogue is to be read: column mapping, text encoding, and a folder that is not part of it."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    exclude: Path | None = None


def open_source(path: Path, options: SourceOptions | None = None) -> CatalogSource:
    """Open a catalogue. Raises `InvalidCatalogue` when it is missing, empty, of no known kind, or lacks the columns needed."""
    options = options or SourceOptions()
    if path.is_dir():
        from indexer.folder import FolderSource  # noqa: PLC0415  it builds on this module

        return FolderSource(path, options.exclude)
    staged = StagedFile(path, options.encoding)
    try:
        kind = staged.format()
        if kind == "parquet":
            from indexer.parquet import ParquetSource  # noqa: PLC0415  loads pyarrow

            return ParquetSource(staged, options.mapping)
        if kind == "csv":
            return DelimitedSource(staged, options.mapping)
        if kind == "xml":
            from indexer.markup import json_lines  # noqa: PLC0415  few catalogues are XML

            staged.rewrite(json_lines(staged.chunks(), str(path)))
        elif kind == "json":
            staged.rewrite(_array_lines(staged))
        return JsonLinesSource(staged, options.mapping)
    except BaseException:
        staged.close()
        raise


class DelimitedSource:
    """Rows of a CSV file."""

    def __init__(self, staged: StagedFile, mapping: Mapping[str, str]) -> None:
        self._staged = staged
        self.complete = True
        dialect, self._names, self._offset, self._row = _header(staged, mapping)
        columns = plan_columns(_distinct(self._names, staged.path), mapping, str(staged.path))
        self._reader = RecordReader(dialect, self._names.index(columns.id), len(self._names))
        self._joined = Continuations(self._names, columns)
        sample = (record.cells for record in islice(self._records(self._offset, self._row), SAMPLE) if record.cells)
        self._builder = RowBuilder(columns, staged.path.parent, kinds_of(self._names, sample))

    def shards(self, size: int) -> Iterator[ShardSpec]:
        """Divide the file at record boundaries."""
        return _planned(((r.offset, r.row, r.error is None) for r in self._records(self._offset, self._row)), size, self)

    def read(self, shard: ShardSpec) -> Iterator[Row]:
        """Read the rows of a shard."""
        for record in islice(self._records(shard.offset, shard.first_row), shard.rows):
            if record.error is not None:
                yield record.error
            elif record.cells is not None:
                yield self._builder.build(record.row, dict(zip(self._names, record.cells, strict=True)))

    def close(self) -> None:
        """Close the file."""
        self._staged.close()

    def _records(self, offset: int, row: int) -> Iterator[Record]:
        return self._joined.records(self._reader.records(Lines(self._staged.file, offset), row))


class JsonLinesSource:
    """Objects, one a line."""

    def __init__(self, staged: StagedFile, mapping: Mapping[str, str]) -> None:
        self._staged = staged
        self.complete = True
        self._start, self._encoding = staged.start, staged.encoding
        names = _keys(self._parsed(line) for _, line in islice(self._lines(self._start, 1), SAMPLE))
        if not names:
            raise InvalidCatalogue(f"{staged.path} holds no JSON object in its first {SAMPLE:,} lines: write one product a line")
        self._builder = RowBuilder(plan_columns(names, mapping, str(staged.path)), staged.path.parent)

    def shards(self, size: int) -> Iterator[ShardSpec]:
        """Divide the file at line ends."""
        return _planned(((line.offset, row, _whole(line)) for row, line in self._lines(self._start, 1)), size, self)

    def read(self, shard: ShardSpec) -> Iterator[Row]:
        """Read the rows of a shard."""
        for row, line in islice(self._lines(shard.offset, shard.first_row), shard.rows):
            value = self._parsed(line)
            yield RowError(row, None, *value) if isinstance(value, tuple) else self._builder.build(row, value)

    def close(self) -> None:
        """Close the file."""
        self._staged.close()

    def _lines(self, offset: int, row: int) -> Iterator[tuple[int, Line]]:
        lines = Lines(self._staged.file, offset)
        while (line := lines.take()) is not None:
            if line.data.strip():
                yield row, line
            row += 1

    def _parsed(self, line: Line) -> dict[str, object] | tuple[str, str]:
        """Parse a line: an object, or (reason, code)."""
        if line.cut:
            return f"the line is longer than {MAX_LINE:,} bytes", "too_long"
        try:
            value = orjson.loads(line.data if self._encoding == "utf-8" else line.data.decode(self._encoding))
        except UnicodeDecodeError as error:
            return undecodable(line.data[error.start], self._encoding), "encoding"
        except orjson.JSONDecodeError as error:
            return self._broken(line, error)
        if not isinstance(value, dict):
            return f"the line is no JSON object ({line.data[:40]!r}): write one product a line, in braces", "json"
        return value

    def _broken(self, line: Line, error: orjson.JSONDecodeError) -> tuple[str, str]:
        try:
            line.data.decode(self._encoding)
        except UnicodeDecodeError as bad:
            return undecodable(line.data[bad.start], self._encoding), "encoding"
        return f"the line is not valid JSON ({error.msg}, column {error.colno})", "json"


class _Planned(Protocol):
    complete: bool


def _planned(rows: Iterable[tuple[int, int, bool]], size: int, source: _Planned) -> Iterator[ShardSpec]:
    """Group (offset, row, whole) into shards; tell the source whether the last row was whole."""
    pending = iter(rows)
    number, whole = 0, True
    while first := next(pending, None):
        offset, row, whole = first
        rest = list(islice(pending, size - 1))
        whole = rest[-1][2] if rest else whole
        yield ShardSpec(number, row, 1 + len(rest), offset)
        number += 1
    source.complete = whole


def _whole(line: Line) -> bool:
    return line.data.endswith(b"\n") or line.data.rstrip().endswith(b"}")


def _header(staged: StagedFile, mapping: Mapping[str, str]) -> tuple[Dialect, list[str], int, int]:
    """Find delimiter and column names; return them with offset and row number of what follows."""
    lines, row, forced = Lines(staged.file, staged.start), 1, ""
    while (line := lines.take()) is not None and (not line.data.strip() or line.data.startswith(b"sep=")):
        forced = line.data[4:5].decode("latin-1") if line.data.startswith(b"sep=") else forced
        row += 1
    if line is None:
        raise InvalidCatalogue(f"{staged.path} has no header line: the first line must name the columns")
    try:
        text = line.data.decode(staged.encoding)
    except UnicodeDecodeError as error:
        reason = undecodable(line.data[error.start], staged.encoding)
        raise InvalidCatalogue(f"{staged.path}: the header cannot be read: {reason}") from None
    dialects = [Dialect(d, staged.encoding, _spaced(text, d)) for d in (forced or DELIMITERS)]
    found = [(dialect, *_split_header(staged, line.offset, dialect)) for dialect in dialects]
    dialect, names, end = max(found, key=lambda candidate: _merit(candidate[1], mapping))
    if not staged.at(end).read(HEAD).strip():
        raise InvalidCatalogue(f"{staged.path} has a header but no rows: export the catalogue again")
    return dialect, names, end, row + 1


def _spaced(header: str, delimiter: str) -> bool:
    return 0 < header.count(delimiter) == header.count(delimiter + " ")


def _split_header(staged: StagedFile, offset: int, dialect: Dialect) -> tuple[list[str], int]:
    try:
        cells, end = RecordReader(dialect, 0, 0).first(Lines(staged.file, offset))
    except ValueError as error:
        raise InvalidCatalogue(f"{staged.path}: the header cannot be read: {error}") from None
    names = [name.strip() for name in cells]
    while len(names) > 1 and not names[-1]:  # a delimiter at the end of every line
        names.pop()
    return names, end


def _merit(names: Sequence[str], mapping: Mapping[str, str]) -> tuple[int, int]:
    known = {guess.casefold() for field in FIELDS for guess in GUESSES[field]} | {name.casefold() for name in mapping.values()}
    return sum(name.casefold() in known for name in names), len(names)


def _distinct(names: Sequence[str], path: Path) -> Sequence[str]:
    if len(names) > MAX_COLUMNS:
        raise InvalidCatalogue(
            f"{path} has {len(names):,} columns, at most {MAX_COLUMNS:,} are read: check its first line, or leave some out"
        )
    twice = sorted(name for name, times in Counter(names).items() if name and times > 1)
    if twice:
        raise InvalidCatalogue(f"{path} names the column {twice[0]!r} twice: rename one of them")
    return names


def _keys(values: Iterable[object]) -> list[str]:
    return list(dict.fromkeys(key for value in values if isinstance(value, dict) for key in value))


def _array_lines(staged: StagedFile) -> Iterator[bytes]:
    if len(data := staged.at(staged.start).read(MAX_JSON + 1)) > MAX_JSON:
        raise InvalidCatalogue(
            f"{staged.path} is a JSON array of more than {MAX_JSON >> 20} MB: save it as JSONL, one product a line"
        )
    try:
        items = orjson.loads(data.decode(staged.encoding))
    except (UnicodeDecodeError, orjson.JSONDecodeError) as error:
        raise InvalidCatalogue(f"{staged.path} is not valid JSON ({error})") from None
    yield from (orjson.dumps(item) + b"\n" for item in items)
