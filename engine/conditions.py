"""What a filter means: conditions on attributes, evaluated to bitmaps of the documents of one part of the index.

How an expression is written, and what each comparison promises, stands in `engine.filters`; how values are stored in
`engine.index.attributes`.
"""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from pyroaring import BitMap

from engine.index.attributes import Columns, Kind, Postings, Scalar, kind_of


class _Documents(Protocol):
    """What a filter is evaluated on: one part of the index."""

    @property
    def columns(self) -> Columns:
        """The attributes of its documents."""

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Compare:
    """One attribute against one value."""

    name: str
    operator: str
    value: Scalar

    def admit(self, part: _Documents) -> BitMap:
        """Find the documents of `part` for which this holds."""
        if self.operator == "!=":
            return _any_value(part, self.name) - _equal(part, self.name, self.value)
        if self.operator == "=":
            return _equal(part, self.name, self.value)
        found = BitMap()
        for postings in _comparable(part, self.name, self.value):
            found |= postings.compare(self.operator, self.value)
        return found


@dataclass(frozen=True, slots=True)
class Member:
    """One attribute against several values; `admitted` says whether it must be one of them or none."""

    name: str
    values: tuple[Scalar, ...]
    admitted: bool

    def admit(self, part: _Documents) -> BitMap:
        """Find the documents of `part` for which this holds."""
        found = BitMap().union(*(_equal(part, self.name, value) for value in self.values))
        return found if self.admitted else _any_value(part, self.name) - found


@dataclass(frozen=True, slots=True)
class Contains:
    """A list has the item, or a text has the words inside."""

    name: str
    value: Scalar
    admitted: bool

    def admit(self, part: _Documents) -> BitMap:
        """Find the documents of `part` for which this holds."""
        found = BitMap()
        if isinstance(self.value, str):
            column = part.columns.get(self.name)
            if "item" in column:
                found |= column["item"].equal(self.value)
            if "text" in column:
                found |= column["text"].containing(self.value)
        return found if self.admitted else _any_value(part, self.name) - found


@dataclass(frozen=True, slots=True)
class Exists:
    """The document has the attribute; an empty list counts as not having it."""

    name: str

    def admit(self, part: _Documents) -> BitMap:
        """Find the documents of `part` for which this holds."""
        return _any_value(part, self.name)


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary."""

    child: "Filter"

    def admit(self, part: _Documents) -> BitMap:
        """Find the documents of `part` for which this holds."""
        return BitMap(range(len(part))) - self.child.admit(part)


@dataclass(frozen=True, slots=True)
class All:
    """Every one of the children."""

    children: tuple["Filter", ...]

    def admit(self, part: _Documents) -> BitMap:
        """Find the documents of `part` for which this holds."""
        found = self.children[0].admit(part)
        for child in self.children[1:]:
            if not found:
                break
            found &= child.admit(part)
        return found


@dataclass(frozen=True, slots=True)
class Any:
    """At least one of the children."""

    children: tuple["Filter", ...]

    def admit(self, part: _Documents) -> BitMap:
        """Find the documents of `part` for which this holds."""
        return BitMap().union(*(child.admit(part) for child in self.children))


Filter: TypeAlias = Compare | Member | Contains | Exists | Not | All | Any


def _comparable(part: _Documents, name: str, value: Scalar) -> list[Postings]:
    kind = kind_of(value)
    kinds: tuple[Kind, ...] = ("int", "float") if kind in {"int", "float"} else (kind,)
    column = part.columns.get(name)
    return [column[kind] for kind in kinds if kind in column]


def _equal(part: _Documents, name: str, value: Scalar) -> BitMap:
    found = BitMap().union(*(postings.equal(value) for postings in _comparable(part, name, value)))
    column = part.columns.get(name)
    if isinstance(value, str) and "item" in column:
        found |= column["item"].equal(value)
    return found


def _any_value(part: _Documents, name: str) -> BitMap:
    return BitMap().union(*(postings.everything() for postings in part.columns.get(name).values()))
