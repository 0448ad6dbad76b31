"""How the approximate index of a collection is made and searched: chosen by size, by a setting, or by measuring.

What was measured is recorded in `index.json` in the collection's folder, beside what it led to. Measuring itself is done in
`engine.index.measuring`; FAISS is called in `engine.index.ann` alone.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from engine.errors import StorageError
from engine.index.ann import KINDS, PROBES, Kind

FILE = "index.json"
CODED_DOCUMENTS = 4_000_000  # from here on, product codes of 64 bytes: 8-bit codes of two views would no longer fit beside others


@dataclass(frozen=True, slots=True)
class Measurement:
    """Recall of the true ten best, and time, of one way to search."""

    kind: Kind
    probes: int
    recall: float
    p50_ms: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """`kind` None goes by size. `probes` is how many inverted lists an unfiltered search of a segment visits."""

    kind: Kind | None = None
    probes: int = PROBES
    target: float | None = None
    measured: Sequence[Measurement] = ()

    def kind_for(self, documents: int) -> Kind:
        """Choose the kind for a collection of so many documents."""
        if self.kind is not None:
            return self.kind
        return "ivf-sq8" if documents < CODED_DOCUMENTS else "ivf-pq"


def read_tuning(folder: Path) -> Tuning:
    """Read what was recorded; the defaults when nothing was, or when it is not readable: an answer is right either way."""
    try:
        found = orjson.loads((folder / FILE).read_bytes())
        measured = tuple(Measurement(**line) for line in found["measured"])
        kind = found["kind"] if found["kind"] in KINDS else None
        return Tuning(kind, int(found["probes"]), found["target"], measured)
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return Tuning()


def write_tuning(folder: Path, tuning: Tuning) -> None:
    """Record a choice, whole or not at all; raises `StorageError`."""
    fresh = folder / f"{FILE}.new"
    try:
        fresh.write_bytes(orjson.dumps(asdict(tuning), option=orjson.OPT_INDENT_2))
        os.replace(fresh, folder / FILE)
    except OSError as error:
        raise StorageError(f"{folder / FILE} cannot be written ({error}): check its permissions and its disk") from error
