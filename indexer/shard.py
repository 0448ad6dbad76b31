"""What a catalogue is divided into, and what becomes of one part.

Values only: who reads a shard is in `indexer.sources`, who runs the work in `indexer.runners`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from engine.datatypes import Document


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """A run of consecutive rows. `offset` says where the first begins: a byte for text files, a row group for Parquet."""

    number: int
    first_row: int
    rows: int
    offset: int


@dataclass(frozen=True, slots=True)
class CatalogueRow:
    """A row that makes a document. `row` is its number as the shopkeeper sees it, `remarks` what was left out of it."""

    row: int
    document: Document
    remarks: tuple["RowError", ...] = ()


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row, or a part of it, did not go in. `id` is None when it could not be read; `code` is one of `report.CODES`."""

    row: int
    id: str | None
    reason: str
    code: str


@dataclass(slots=True)
class ShardReport:
    """What became of the rows of one shard: `read` is always the sum of `created`, `updated`, `unchanged` and `refused`.

    `remarks` counts rows that went in without some part, a broken second picture for example.
    """

    read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    remarks: int = 0
    codes: dict[str, int] = field(default_factory=dict)

    def add(self, other: "ShardReport") -> None:
        """Count another shard in."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for code, count in other.codes.items():
            self.codes[code] = self.codes.get(code, 0) + count

    def as_dict(self) -> Mapping[str, int]:
        """Return the counts by name."""
        return {name: getattr(self, name) for name in COUNTS}


COUNTS = tuple(f.name for f in fields(ShardReport) if f.name != "codes")
