"""What a filter means: conditions on attributes, evaluated to bitmaps of the documents of one part of the index.

How an expression is written, and what each comparison promises, stands in `engine.filters`; how values are stored in
`engine.index.attributes`.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float64
from pyroaring import BitMap

from engine.index.attributes import Columns, Kind, Postings, Scalar, bitmap_of, kind_of
from engine.index.instants import moments_of


@dataclass(frozen=True, slots=True)
class Compare:
    """One attribute against one value."""

    name: str
    operator: str
    value: Scalar

    def admit(self, columns: Columns) -> BitMap:
        """Find the documents for which this holds."""
        if self.operator == "!=":
            return _any_value(columns, self.name) - _equal(columns, self.name, self.value)
        if self.operator == "=":
            return _equal(columns, self.name, self.value)
        found = BitMap()
        for postings in _comparable(columns, self.name, self.value):
            found |= postings.compare(self.operator, self.value)
        return found


@dataclass(frozen=True, slots=True)
class Dated:
    """One attribute whose texts are dates or times against a span of time: a day, or a moment with `start` = `end`."""

    name: str
    operator: str
    start: float
    end: float

    def admit(self, columns: Columns) -> BitMap:
        """Find the documents for which this holds."""
        if self.operator == "!=":
            return _any_value(columns, self.name) - Dated(self.name, "=", self.start, self.end).admit(columns)
        kinds: tuple[Kind, ...] = ("text", "item") if self.operator == "=" else ("text",)
        found = BitMap()
        for kind in kinds:
            if kind in columns.get(self.name):
                postings, moments = columns.get(self.name)[kind], moments_of(columns, self.name, kind)
                places = np.flatnonzero(self._holds(moments))
                slices = [postings.documents[postings.offsets[i] : postings.offsets[i + 1]] for i in places]
                found |= bitmap_of(np.concatenate(slices)) if slices else BitMap()
        return found

    def _holds(self, moments: Float64[np.ndarray, " v"]) -> Bool[np.ndarray, " v"]:
        """Compare; NaN, which stands for what is no date, never holds."""
        last = max(self.end, np.nextafter(self.start, np.inf))  # a moment is as long as the smallest step of time
        holds: Bool[np.ndarray, " v"]
        match self.operator:
            case "<":
                holds = moments < self.start
            case "<=":
                holds = moments < last
            case ">":
                holds = moments >= last
            case ">=":
                holds = moments >= self.start
            case _:
                holds = (moments >= self.start) & (moments < last)
        return holds


@dataclass(frozen=True, slots=True)
class Member:
    """One attribute against several values; `admitted` says whether it must be one of them or none."""

    name: str
    values: tuple[Scalar, ...]
    admitted: bool

    def admit(self, columns: Columns) -> BitMap:
        """Find the documents for which this holds."""
        found = BitMap().union(*(_equal(columns, self.name, value) for value in self.values))
        return found if self.admitted else _any_value(columns, self.name) - found


@dataclass(frozen=True, slots=True)
class Contains:
    """A list has the item, or a text has the words inside."""

    name: str
    value: Scalar
    admitted: bool

    def admit(self, columns: Columns) -> BitMap:
        """Find the documents for which this holds."""
        found = BitMap()
        if isinstance(self.value, str):
            column = columns.get(self.name)
            if "item" in column:
                found |= column["item"].equal(self.value)
            if "text" in column:
                found |= column["text"].containing(self.value)
        return found if self.admitted else _any_value(columns, self.name) - found


@dataclass(frozen=True, slots=True)
class Exists:
    """The document has the attribute; an empty list counts as not having it."""

    name: str

    def admit(self, columns: Columns) -> BitMap:
        """Find the documents for which this holds."""
        return _any_value(columns, self.name)


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary."""

    child: "Filter"

    def admit(self, columns: Columns) -> BitMap:
        """Find the documents for which this holds."""
        return columns.everything() - self.child.admit(columns)


@dataclass(frozen=True, slots=True)
class All:
    """Every one of the children."""

    children: tuple["Filter", ...]

    def admit(self, columns: Columns) -> BitMap:
        """Find the documents for which this holds."""
        found = self.children[0].admit(columns)
        for child in self.children[1:]:
            if not found:
                break
            found &= child.admit(columns)
        return found


@dataclass(frozen=True, slots=True)
class Any:
    """At least one of the children."""

    children: tuple["Filter", ...]

    def admit(self, columns: Columns) -> BitMap:
        """Find the documents for which this holds."""
        return BitMap().union(*(child.admit(columns) for child in self.children))


Filter: TypeAlias = Compare | Dated | Member | Contains | Exists | Not | All | Any


def _comparable(columns: Columns, name: str, value: Scalar) -> list[Postings]:
    kind = kind_of(value)
    kinds: tuple[Kind, ...] = ("int", "float") if kind in {"int", "float"} else (kind,)
    column = columns.get(name)
    return [column[kind] for kind in kinds if kind in column]


def _equal(columns: Columns, name: str, value: Scalar) -> BitMap:
    found = BitMap().union(*(postings.equal(value) for postings in _comparable(columns, name, value)))
    column = columns.get(name)
    if isinstance(value, str) and "item" in column:
        found |= column["item"].equal(value)
    return found


def _any_value(columns: Columns, name: str) -> BitMap:
    return BitMap().union(*(postings.everything() for postings in columns.get(name).values()))
