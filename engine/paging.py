"""Turning pages: what is left of a frozen list, as a text the client keeps.

The list is made once, of one state of the collection, and travels with the client. So pages hold no document twice and leave none
out, whatever is written meanwhile; any worker continues it, also after a restart; nothing is kept for clients that went away.
Documents that were deleted since are passed over.
"""

import base64
import binascii
import zlib
from dataclasses import asdict, dataclass, replace
from types import NoneType
from typing import Any, get_args

import orjson

from engine.datatypes import Decision
from engine.errors import InvalidQuery

START = "*"
MAX_BYTES = 200_000  # unpacked; a list of a thousand documents, which is the longest there is, takes 35 kB


@dataclass(frozen=True, slots=True)
class Entry:
    """One document of a list by key, its score, and the keys behind it."""

    key: int
    score: float
    variants: tuple[int, ...] = ()
    duplicates: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Frozen:
    """What is left of a list, and what every page of it repeats. `asked` is the digest of the search it belongs to."""

    asked: str
    version: int
    total: int
    admitted: int
    confidence: float | None
    decision: Decision
    left: tuple[Entry, ...]

    def after(self, count: int) -> "Frozen | None":
        """Give what is left after `count` entries; None when nothing is."""
        return replace(self, left=self.left[count:]) if count < len(self.left) else None

    def text(self) -> str:
        """Write it down for the client."""
        left = [(entry.key, round(entry.score, 6), entry.variants, entry.duplicates) for entry in self.left]
        packed = zlib.compress(orjson.dumps({**asdict(replace(self, left=())), "left": left}), 1)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read(cursor: str, asked: str) -> Frozen:
    """Read what `Frozen.text` wrote; raises `InvalidQuery` for anything else, and for the cursor of another search."""
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True), MAX_BYTES)
        frozen = _frozen(orjson.loads(data))
    except (binascii.Error, zlib.error, ValueError, TypeError, KeyError) as error:
        raise InvalidQuery("the cursor cannot be read: send the one of the answer before, or * to begin") from error
    if frozen.asked != asked:
        raise InvalidQuery("the cursor belongs to another search: repeat the same search with it, or begin with *")
    return frozen


def _frozen(fields: dict[str, Any]) -> Frozen:
    left = tuple(_entry(*entry) for entry in fields.pop("left"))
    if not all(type(fields[name]) is int for name in ("version", "total", "admitted")):
        raise TypeError("counts are whole numbers")
    if type(fields["confidence"]) not in (float, int, NoneType) or fields["decision"] not in get_args(Decision):
        raise TypeError("a confidence is a number or nothing, a decision one of a few words")
    return Frozen(**{**fields, "left": left})


def _entry(key: int, score: float, variants: list[int], duplicates: list[int]) -> Entry:
    keys = [key, *variants, *duplicates]
    if not all(type(one) is int and 0 <= one < 2**63 for one in keys) or not isinstance(score, int | float):
        raise TypeError("an entry is made of keys and a score")
    return Entry(key, float(score), tuple(variants), tuple(duplicates))
