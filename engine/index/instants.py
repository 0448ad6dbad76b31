"""Dates and times written as text, as instants that can be compared whatever their precision and time zone."""

import functools
from datetime import UTC, datetime, timedelta
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float64

from engine.index.attributes import Columns, Kind

_READ: WeakKeyDictionary[Columns, dict[tuple[str, Kind], Float64[np.ndarray, " v"]]] = WeakKeyDictionary()
DAY_LENGTH = len("2026-01-31")


@functools.lru_cache(maxsize=1 << 16)
def instant(text: str) -> float | None:
    """Read an ISO 8601 date, or date and time, as seconds since 1970; without a zone it is UTC. None for any other text."""
    if len(text) < DAY_LENGTH or text[4:5] != "-" or text[7:8] != "-":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def span(text: str) -> tuple[float, float] | None:
    """Give the time from which on and before which a date or time lies: a day is a day long, a time is a moment."""
    start = instant(text)
    if start is None:
        return None
    return start, start + (timedelta(days=1).total_seconds() if len(text) == DAY_LENGTH else 0.0)


def moments_of(columns: Columns, name: str, kind: Kind) -> Float64[np.ndarray, " v"]:
    """Read every distinct text of an attribute as an instant, NaN where it is none; done once for each part of the index."""
    read = _READ.setdefault(columns, {})
    found = read.get((name, kind))
    if found is None:
        moments = (instant(str(value)) for value in columns.get(name)[kind].values)
        found = read[name, kind] = np.array([np.nan if moment is None else moment for moment in moments])
    return found
