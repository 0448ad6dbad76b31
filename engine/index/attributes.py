"""Inverted lists of attribute values: which documents of one part of the index have which value.

Documents are numbered 0..n-1 inside their part. Every column keeps, per kind of value, its distinct values in ascending order and
the documents of each, so that equality and ranges are slices that become roaring bitmaps. What an expression means stands in
`engine.filters`; files are checked by `engine.index.segment`.
"""

import mmap
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
import orjson
from pyroaring import BitMap

from engine.datatypes import Attributes, AttributeValue

Kind: TypeAlias = Literal["text", "item", "int", "float", "bool"]
Scalar: TypeAlias = str | int | float | bool
Place: TypeAlias = tuple[int, int, str]  # where an array lies in a file: start, length, type
KINDS: tuple[Kind, ...] = ("text", "item", "int", "float", "bool")
NUMBER_TYPES: Mapping[str, str] = {"int": "<i8", "float": "<f8", "bool": "|b1"}
_SEPARATOR = b"\0"  # no document's text contains it, so a match never spans two values


class Texts(Sequence[str]):
    """Ascending texts in one run of UTF-8 bytes, each followed by a NUL; nothing is decoded before it is asked for."""

    def __init__(self, data: "np.ndarray", starts: "np.ndarray") -> None:
        self.data, self.starts = data, starts

    @classmethod
    def pack(cls, values: Iterable[str]) -> "Texts":
        """Lay values out; they must be ascending."""
        encoded = [value.encode() + _SEPARATOR for value in values]
        starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        return self.data[self.starts[index] : self.starts[index + 1] - 1].tobytes().decode()

    def containing(self, part: str) -> "np.ndarray":
        """List the numbers of the values that contain `part`, ascending."""
        places = [match.start() for match in re.finditer(re.escape(part.encode()), self.data.data)] if part else []
        if not part:
            return np.arange(len(self))
        return np.unique(np.searchsorted(self.starts, np.asarray(places, np.int64), side="right") - 1)


@dataclass(frozen=True, slots=True)
class Postings:
    """Distinct ascending `values`; the documents of value `i` are `documents[offsets[i]:offsets[i + 1]]`."""

    values: Sequence[Scalar] | np.ndarray
    offsets: np.ndarray
    documents: np.ndarray

    def equal(self, value: Scalar) -> BitMap:
        """Find the documents with exactly this value."""
        return self._between(self._left(value), self._right(value))

    def compare(self, operator: str, value: Scalar) -> BitMap:
        """Find the documents whose value is `<`, `<=`, `>` or `>=` the given one."""
        match operator:
            case "<":
                return self._between(0, self._left(value))
            case "<=":
                return self._between(0, self._right(value))
            case ">":
                return self._between(self._right(value), len(self.values))
            case _:
                return self._between(self._left(value), len(self.values))

    def containing(self, part: str) -> BitMap:
        """Find the documents with a text that contains `part`."""
        numbers = self.values.containing(part) if isinstance(self.values, Texts) else ()
        slices = [self.documents[self.offsets[i] : self.offsets[i + 1]] for i in numbers]
        return bitmap_of(np.concatenate(slices)) if slices else BitMap()

    def everything(self) -> BitMap:
        """Find the documents that have any value."""
        return self._between(0, len(self.values))

    def _left(self, value: Scalar) -> int:
        return bisect_left(self.values, value, key=_plain)

    def _right(self, value: Scalar) -> int:
        return bisect_right(self.values, value, key=_plain)

    def _between(self, first: int, last: int) -> BitMap:
        return bitmap_of(self.documents[self.offsets[first] : self.offsets[last]]) if first < last else BitMap()


Column: TypeAlias = Mapping[Kind, Postings]


class Columns:
    """The columns of one part of `total` documents, by attribute name; immutable."""

    def __init__(self, columns: Mapping[str, Column], total: int) -> None:
        self._columns, self._total = columns, total

    def everything(self) -> BitMap:
        """Find every document, whatever it has."""
        return BitMap(range(self._total))

    def get(self, name: str) -> Column:
        """Look a column up; empty when no document has the attribute."""
        return self._columns.get(name, {})

    def names(self) -> list[str]:
        """List the attributes that any document has."""
        return list(self._columns)

    def save(self, folder: Path) -> None:
        """Write `attributes.json` (what lies where) and `attributes.bin`."""
        places: dict[str, dict[str, list[Place]]] = {}
        with (folder / "attributes.bin").open("wb") as file:
            for name, column in self._columns.items():
                places[name] = {}
                for kind, postings in column.items():
                    values = (
                        [postings.values.data, postings.values.starts] if isinstance(postings.values, Texts) else [postings.values]
                    )
                    arrays = [postings.offsets, postings.documents, *values]
                    places[name][kind] = [write_array(file, array) for array in arrays]
        write_places(folder, self._total, places)

    @classmethod
    def open(cls, folder: Path) -> "Columns":
        """Map what `save` wrote; values are read when a filter asks for them."""
        with (folder / "attributes.bin").open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        about = orjson.loads((folder / "attributes.json").read_bytes())
        places = about["columns"]
        columns = {name: {kind: _mapped(data, kind, arrays) for kind, arrays in column.items()} for name, column in places.items()}
        return cls(columns, about["total"])


class ColumnsBuilder:
    """Collects documents one by one, in the order of their numbers, and gives their columns."""

    def __init__(self) -> None:
        self._found: dict[str, dict[Kind, dict[Scalar, array[int]]]] = {}
        self._total, self.noted = 0, 0

    def __len__(self) -> int:
        return self._total

    def add(self, id: str, title: str, attributes: Attributes) -> None:
        """Note the next document; `id` and `title` are columns too and win over attributes of those names."""
        for name, value in attributes.items():
            if name not in {"id", "title"}:
                self._note(name, value)
        self._note("id", id)
        self._note("title", title)
        self._total += 1

    def build(self) -> Columns:
        """Sort and pack what was noted."""
        columns = {
            name: {kind: _pack(kind, column[kind]) for kind in KINDS if kind in column} for name, column in self._found.items()
        }
        return Columns(columns, self._total)

    def _note(self, name: str, value: AttributeValue) -> None:
        if value == ():
            return
        self.noted += len(value) if isinstance(value, tuple) else 1
        kinds = self._found.setdefault(name, {})
        if isinstance(value, tuple):
            items = kinds.setdefault("item", {})
            for item in set(value):
                items.setdefault(item, array("I")).append(self._total)
        else:
            kinds.setdefault(kind_of(value), {}).setdefault(value, array("I")).append(self._total)


def write_array(file: BinaryIO, values: np.ndarray) -> Place:
    """Append an array, aligned, and tell where it lies."""
    file.write(bytes(-file.tell() % 8))
    place = (file.tell(), len(values), values.dtype.str)
    file.write(np.ascontiguousarray(values).data)
    return place


def write_places(folder: Path, total: int, places: Mapping[str, Mapping[str, Sequence[Place]]]) -> None:
    """Write down what lies where in `attributes.bin`, once everything is in it."""
    with (folder / "attributes.bin").open("ab") as file:
        file.write(bytes(8))  # an empty file cannot be mapped
    (folder / "attributes.json").write_bytes(orjson.dumps({"total": total, "columns": places}))


def kind_of(value: Scalar) -> Kind:
    """Name the kind of a value that is not a list."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "bool"
    return "int" if isinstance(value, int) else "float"


def bitmap_of(numbers: np.ndarray) -> BitMap:
    """Turn document numbers, in any order, into a bitmap; pyroaring takes an `array` four times faster than an ndarray."""
    if len(numbers) > 1 and not (numbers[1:] > numbers[:-1]).all():
        numbers = np.unique(numbers)
    return BitMap(array("I", np.ascontiguousarray(numbers, np.uint32).tobytes()))


def numbers_of(bitmap: BitMap) -> np.ndarray:
    """List a bitmap's numbers, ascending, uint32."""
    return np.frombuffer(bitmap.to_array(), np.uint32)


def _pack(kind: Kind, found: Mapping[Scalar, "array[int]"]) -> Postings:
    ordered = sorted(found)
    offsets = np.cumsum([0, *(len(found[value]) for value in ordered)], dtype=np.int64)
    documents = np.frombuffer(b"".join(found[value].tobytes() for value in ordered), np.uint32)
    number_type = NUMBER_TYPES.get(kind)
    values = np.asarray(ordered, number_type) if number_type else Texts.pack(map(str, ordered))
    return Postings(values, offsets, documents)


def _mapped(data: mmap.mmap, kind: Kind, arrays: Sequence[Sequence[Any]]) -> Postings:
    offsets, documents, *values = (np.frombuffer(data, np.dtype(type), count, start) for start, count, type in arrays)
    return Postings(Texts(*values) if kind in {"text", "item"} else values[0], offsets, documents)


def _plain(value: Scalar | np.generic) -> Scalar:
    # Python compares int with float exactly, NumPy rounds the int to a float first.
    plain: Scalar = value.item() if isinstance(value, np.generic) else value
    return plain
