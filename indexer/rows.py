"""One row of a catalogue becomes a document, or the reason why it cannot.

- id, title and description are text; a number there is written out (`123`, never `123.0`), anything else refuses the row.
- HTML in a description is reduced to its text.
- Images: one location, several separated by `|`, a list, a JSON list in a cell, URLs or picture files separated by commas, or
  objects with `src`, `url` or `path`. At most 20 pictures of a row are read; a remark says when there were more.
- Attributes of JSONL and Parquet keep their types: missing values, empty texts and lists, and NaN mean "absent"; infinity refuses
  the row; decimals become numbers, dates text, lists of anything plain lists of text; an object is flattened (`size.width`).
  What cannot be filtered by (lists of objects, raw bytes) is left out, with one remark for the column.

How columns are chosen is in `indexer.columns`, how texts of CSV cells are typed in `indexer.values`.
"""

import logging
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import orjson

from engine.datatypes import AttributeValue, Document
from engine.errors import InvalidDocument
from indexer.columns import Columns
from indexer.fetch import locate
from indexer.shard import CatalogueRow, RowError
from indexer.values import SEPARATOR, Kind, attributes_of, is_money, money_attributes, without_markup

logger = logging.getLogger(__name__)

MAX_PICTURES = 20
_LINK_KEYS = ("src", "url", "path", "link", "href", "large", "hi_res")
_MAX_DEPTH = 3
_PICTURE = re.compile(r"\.(?:jpe?g|png|webp|gif|bmp|tiff?|avif)\s*$", re.IGNORECASE)


class _Refused(Exception):
    def __init__(self, reason: str, code: str) -> None:
        super().__init__(reason)
        self.code = code


class RowBuilder:
    """Makes documents of the cells of one catalogue. `kinds` types the text cells of CSV; without it values have types."""

    def __init__(self, columns: Columns, base: Path, kinds: Mapping[str, Kind] | None = None) -> None:
        self._columns = columns
        self._base = base
        self._kinds = kinds
        self._left_out: set[str] = set()

    def build(self, row: int, cells: Mapping[str, object]) -> CatalogueRow | RowError:
        """Make the document of row number `row`."""
        id: str | None = None
        try:
            id = self._id(cells)
            remarks: list[RowError] = []
            attributes = self._attributes(row, id, cells, remarks)
            remarks += _unread_amounts(row, id, attributes)
            images = self._images(row, id, cells, remarks)
            title = self._text(cells, self._columns.title)
            if not title and not images:
                raise _Refused("the row has neither a title nor a picture: nothing could find it", "nothing_to_search")
            description = without_markup(self._text(cells, self._columns.description))
            document = Document(id, title, description, images, attributes)
        except _Refused as error:
            return RowError(row, id, str(error), error.code)
        except InvalidDocument as error:
            return RowError(row, id, str(error), "invalid")
        except Exception as error:  # one row must not stop a job
            logger.exception("row %d (id %r) could not be understood", row, id)
            return RowError(row, id, f"it could not be understood ({type(error).__name__}): see the log", "unexpected")
        return CatalogueRow(row, document, tuple(remarks))

    def id_of(self, cells: Mapping[str, object]) -> str | None:
        """Read the id of a row, None when it has none."""
        try:
            return self._id(cells)
        except _Refused:
            return None

    def _id(self, cells: Mapping[str, object]) -> str:
        id = self._text(cells, self._columns.id)
        if not id:
            raise _Refused(f"the id is empty (column {self._columns.id!r}): give every product an id of its own", "id_missing")
        return id

    def _text(self, cells: Mapping[str, object], column: str | None) -> str:
        value = cells.get(column) if column is not None else None
        if isinstance(value, str):
            return value.strip()
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return str(int(value)) if math.isfinite(value) and value == int(value) else str(value)
        raise _Refused(f"{column!r} is {_sort(value)} where text is needed: write it as text", "type")

    def _images(self, row: int, id: str, cells: Mapping[str, object], remarks: list[RowError]) -> tuple[str, ...]:
        found = [item for column in self._columns.images for item in _locations(column, cells.get(column))]
        images = list(dict.fromkeys(locate(item, self._base) for item in found))
        if len(images) > MAX_PICTURES:
            reason = f"the product went in with its first {MAX_PICTURES} pictures of {len(images)}"
            remarks.append(RowError(row, id, reason, "picture_left_out"))
        return tuple(images[:MAX_PICTURES])

    def _attributes(self, row: int, id: str, cells: Mapping[str, object], remarks: list[RowError]) -> Mapping[str, AttributeValue]:
        attributes: dict[str, AttributeValue] = {}
        for column, value in cells.items():
            name = self._columns.attribute(column)
            if name is None or value is None:
                continue
            if self._kinds is not None:
                attributes.update(attributes_of(name, str(value), self._kinds.get(column, "text")))
                continue
            for path, plain in _flattened(name, value, _MAX_DEPTH):
                try:
                    attributes.update(_typed(path, plain))
                except TypeError:
                    if path not in self._left_out:
                        self._left_out.add(path)
                        reason = f"{path!r} holds {_sort(plain)}, which nothing can filter by: it is left out of every row"
                        remarks.append(RowError(row, id, reason, "attribute_left_out"))
        return attributes


def _unread_amounts(row: int, id: str, attributes: Mapping[str, AttributeValue]) -> Iterator[RowError]:
    """Remark on texts where a price was to be expected: the product goes in, but no comparison finds it."""
    for name, value in attributes.items():
        if isinstance(value, str) and is_money(name) and "currency" not in name.casefold():
            reason = f"{name} is {value[:60]!r}, not an amount: filters on {name} will not find it; write it like 19.90"
            yield RowError(row, id, reason, "amount_expected")


def _flattened(name: str, value: object, depth: int) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and depth:
        for key, inner in value.items():
            yield from _flattened(f"{name}.{key}", inner, depth - 1)
    else:
        yield name, value


def _typed(name: str, value: object) -> Mapping[str, AttributeValue]:
    """Keep a typed value, as the engine stores it. Raises `TypeError` for what it cannot store."""
    if value is None or value == "" or (isinstance(value, float | Decimal) and math.isnan(value)):
        return {}
    if isinstance(value, str):
        text = value.strip()
        return (money_attributes(name, text) if is_money(name) else {name: text}) if text else {}
    if isinstance(value, bool | int | float):
        return {name: value}
    if isinstance(value, Decimal):
        return {name: int(value) if value == value.to_integral_value() else float(value)}
    if isinstance(value, list | tuple):
        items = tuple(dict.fromkeys(_item(item) for item in value if item is not None and item != ""))
        return {name: items} if items else {}
    raise TypeError(type(value).__name__)


def _item(item: object) -> str:
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, str | int | float | Decimal):
        return str(item).strip()
    raise TypeError(type(item).__name__)


def _locations(column: str, value: object) -> Iterator[str]:
    """Split a cell into picture locations."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return
    if isinstance(value, str):
        yield from _split(value.strip())
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _locations(column, item)
    elif isinstance(value, Mapping):
        link = next((value[key] for key in _LINK_KEYS if isinstance(value.get(key), str) and value[key].strip()), None)
        if link is None or value.get("bytes"):
            raise _Refused(f"{column!r} holds the picture itself or no link to one: name a file or URL", "type")
        yield link.strip()
    else:
        raise _Refused(f"{column!r} is {_sort(value)} where a picture's file or URL is needed", "type")


def _split(cell: str) -> Iterator[str]:
    if cell.startswith("["):
        try:
            items = orjson.loads(cell)
        except orjson.JSONDecodeError:
            items = [cell]
        yield from (str(item).strip() for item in items if isinstance(item, str) and item.strip())
        return
    for part in cell.split(SEPARATOR):
        links = re.split(r",\s*(?=https?://)", part) if part.lstrip().startswith("http") else _files(part)
        yield from (link.strip() for link in links if link.strip())


def _files(part: str) -> list[str]:
    """Split at commas where that leaves nothing but picture files: `a.jpg, b.jpg`, not `red, blue.jpg`."""
    several = part.split(",")
    return several if all(_PICTURE.search(one) for one in several) else [part]


def _sort(value: object) -> str:
    """Name the sort of a value in a shopkeeper's words."""
    if isinstance(value, bool):
        return f"{str(value).lower()} (true or false)"
    if isinstance(value, int | float | Decimal):
        return f"the number {value}"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list of objects" if any(isinstance(item, Mapping) for item in value) else "a list"
    return "raw bytes" if isinstance(value, bytes) else f"a value of type {type(value).__name__}"
