"""How a caller wants the list of results: counted by facets, in which order, with which boosts.

Here belong the frozen values that say so and check themselves. What they do to a list of results stands in `engine.facets` and
`engine.arrange`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from engine.errors import InvalidQuery

MAX_FACETS = 20
MAX_FACET_VALUES = 1_000
MAX_NAME_LENGTH = 512
SCORE = "score"


@dataclass(frozen=True, slots=True)
class Facet:
    """Count the relevant documents by the values of an attribute.

    The `limit` most frequent values are listed. `edges`, ascending numbers, make ranges instead: below the first, between each
    two, from the last on. Numbers of more than `limit` distinct values get five ranges of their own.
    """

    name: str
    edges: tuple[float, ...] = ()
    limit: int = 20

    def __post_init__(self) -> None:
        _check_name("facet", self.name)
        if not 1 <= self.limit <= MAX_FACET_VALUES:
            raise InvalidQuery(f"the facet {self.name!r} asks for {self.limit} values: ask for 1 to {MAX_FACET_VALUES}")
        ascending = all(low < high for low, high in zip(self.edges, self.edges[1:], strict=False))
        if not ascending or not all(map(math.isfinite, self.edges)) or len(self.edges) > MAX_FACET_VALUES:
            raise InvalidQuery(f"the edges of the facet {self.name!r} must be ascending finite numbers")


@dataclass(frozen=True, slots=True)
class Sort:
    """Order the relevant documents by an attribute, or by "score". Those without the attribute come last either way."""

    by: str
    descending: bool = False

    def __post_init__(self) -> None:
        _check_name("sort", self.by)

    @classmethod
    def parse(cls, text: str) -> "Sort":
        """Read `price`, `price:asc` or `price:desc`; without a direction "score" is descending, anything else ascending."""
        name, separator, direction = text.rpartition(":")
        if separator and direction in {"asc", "desc"}:
            return cls(name, direction == "desc")
        return cls(text, text == SCORE)


@dataclass(frozen=True, slots=True)
class Boost:
    """Lift documents by a number they carry, such as their popularity.

    The score that orders them grows by `weight * log(1 + value) / log(1 + highest)`, the highest among the relevant ones; a
    negative weight lowers. Values below 0 and missing ones count as 0.
    """

    by: str
    weight: float = 0.1

    def __post_init__(self) -> None:
        _check_name("boost", self.by)
        if not math.isfinite(self.weight) or not 0 < abs(self.weight) <= 1:
            raise InvalidQuery(f"the boost by {self.by!r} weighs {self.weight}: use a number other than 0 between -1 and 1")

    @classmethod
    def parse(cls, text: str) -> "Boost":
        """Read `popularity` or `popularity=0.2`."""
        name, separator, weight = text.rpartition("=")
        if not separator:
            return cls(text)
        try:
            return cls(name, float(weight))
        except ValueError:
            raise InvalidQuery(f"the boost {text!r} has no number after the =: write for example popularity=0.2") from None


def _check_name(what: str, name: str) -> None:
    if not name.strip() or len(name) > MAX_NAME_LENGTH:
        raise InvalidQuery(f"a {what} names the attribute {name[:80]!r}: give 1 to {MAX_NAME_LENGTH} characters")


@dataclass(frozen=True, slots=True)
class Counted:
    """How many relevant documents have one value."""

    value: str | float | bool
    count: int


@dataclass(frozen=True, slots=True)
class CountedRange:
    """How many relevant documents have a number from `low` (None: any) up to but not including `high` (None: any)."""

    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True, slots=True)
class FacetResult:
    """What a `Facet` counted: `values` by falling count or `ranges` by rising number, never both.

    `other` are the documents whose value is beyond the limit, `missing` those without the attribute; `low` and `high` are the
    extremes of its numbers.
    """

    name: str
    values: tuple[Counted, ...] = ()
    ranges: tuple[CountedRange, ...] = ()
    other: int = 0
    missing: int = 0
    low: float | None = None
    high: float | None = None


class ListOptions(TypedDict, total=False):
    """The options of a search beside what is looked for, as `engine.datatypes.Query` has them; texts are read."""

    target: Literal["any", "image", "title"]
    facets: Sequence[Facet | str]
    sort: Sequence[Sort | str]
    boosts: Sequence[Boost | str]
    group_by: str | None
    dedup: bool
    cursor: str | None
    explain: bool


def parsed(options: ListOptions) -> dict[str, Any]:
    """Make the fields of a query of options, reading those given as text."""
    fields: dict[str, Any] = dict(options)
    for name, read in (("facets", Facet), ("sort", Sort.parse), ("boosts", Boost.parse)):
        if name in fields:
            fields[name] = tuple(read(item) if isinstance(item, str) else item for item in fields[name])
    return fields
