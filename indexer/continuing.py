"""Rows that go on with the product of the row before, as in exports of Shopify, become one record.

There a product with several pictures or variants takes several rows: all have its id, and only the first has its title. Its
pictures and option values are gathered, of every other column the first value counts. Two rows with one id and a title each are
not such a product: the second is refused as a duplicate later on.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from indexer.columns import Columns, plain
from indexer.delimited import Record
from indexer.values import SEPARATOR

MAX_ROWS = 1_000
_OPTION = re.compile(r"option\d+value")


class Continuations:
    """Joins the rows of one product."""

    def __init__(self, names: Sequence[str], columns: Columns) -> None:
        self._id = names.index(columns.id)
        self._title = None if columns.title is None else names.index(columns.title)
        self._gathered = [at for at, name in enumerate(names) if name in columns.images or _OPTION.fullmatch(plain(name))]

    def records(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records, joined; of a product of more than `MAX_ROWS` rows the rest stands alone."""
        first: Record | None = None
        rest: list[list[str]] = []
        for record in records:
            if first is not None and record.cells is not None and len(rest) < MAX_ROWS and self._continues(first, record.cells):
                rest.append(record.cells)
                continue
            if first is not None:
                yield self._together(first, rest)
            first, rest = record, []
        if first is not None:
            yield self._together(first, rest)

    def _continues(self, first: Record, cells: Sequence[str]) -> bool:
        if self._title is None or first.cells is None or cells[self._title].strip() or not first.cells[self._title].strip():
            return False
        return cells[self._id].strip() == first.cells[self._id].strip() != ""

    def _together(self, first: Record, rest: Sequence[Sequence[str]]) -> Record:
        if first.cells is None or not rest:
            return first
        cells = list(first.cells)
        for at in self._gathered:
            values = dict.fromkeys(row[at].strip() for row in (cells, *rest))
            cells[at] = SEPARATOR.join(value for value in values if value)
        return replace(first, cells=cells)
