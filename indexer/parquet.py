"""Rows of a Parquet file, a few hundred at a time whatever the size of its row groups.

Dates and times become text, columns of raw bytes are not read. A shard is a run of whole row groups. What rows mean is in
`indexer.rows`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import InvalidCatalogue
from indexer.columns import plan_columns
from indexer.rows import RowBuilder
from indexer.shard import CatalogueRow, RowError, ShardSpec
from indexer.staging import StagedFile

BATCH = 256
BUFFER = 2**20


class ParquetSource:
    """Rows of a Parquet file."""

    complete = True  # a Parquet file that was cut off has no footer and cannot be opened

    def __init__(self, staged: StagedFile, mapping: Mapping[str, str]) -> None:
        self._staged = staged
        try:
            self._file = pq.ParquetFile(staged.at(0), pre_buffer=False, buffer_size=BUFFER)
        except (pa.ArrowException, OSError) as error:
            raise InvalidCatalogue(f"{staged.path} is no readable Parquet file ({error}): export it again") from None
        if not self._file.metadata.num_rows:
            raise InvalidCatalogue(f"{staged.path} has columns but no rows: export the catalogue again")
        schema = self._file.schema_arrow
        names = [field.name for field in schema if not _is_bytes(field.type)]
        self._columns = names
        self._builder = RowBuilder(plan_columns(names, mapping, str(staged.path)), staged.path.parent)

    def shards(self, size: int) -> Iterator[ShardSpec]:
        """Group whole row groups into shards of at least `size` rows, the last excepted."""
        number, row, first, count = 0, 1, 0, 0
        for group in range(self._file.num_row_groups):
            count += self._file.metadata.row_group(group).num_rows
            if count >= size or group == self._file.num_row_groups - 1:
                if count:
                    yield ShardSpec(number, row, count, first)
                number, row, first, count = number + 1, row + count, group + 1, 0

    def read(self, shard: ShardSpec) -> Iterator[CatalogueRow | RowError]:
        """Read the rows of a shard."""
        row, end = shard.first_row, shard.first_row + shard.rows
        groups: list[int] = []
        rows = 0
        while rows < shard.rows:
            groups.append(shard.offset + len(groups))
            rows += self._file.metadata.row_group(groups[-1]).num_rows
        for batch in self._file.iter_batches(BATCH, row_groups=groups, columns=self._columns):
            for value in _values(batch):
                yield self._builder.build(row, value) if isinstance(value, dict) else RowError(row, None, str(value), "encoding")
                row += 1
        if row != end:
            raise InvalidCatalogue(f"{self._staged.path} ends at row {row - 1}, its footer promises {end - 1}: export it again")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._staged.close()


def _values(batch: Any) -> Iterator[dict[str, object] | ValueError]:  # noqa: ANN401  pyarrow has no types
    """Turn a batch into Python values; a row that cannot be turned becomes its error."""
    plain = pa.RecordBatch.from_arrays([_plain(column) for column in batch.columns], names=batch.schema.names)
    try:
        yield from plain.to_pylist()
    except ValueError:  # text that is not UTF-8: find the row
        for number in range(plain.num_rows):
            try:
                yield plain.slice(number, 1).to_pylist()[0]
            except ValueError as error:
                yield error


def _plain(column: Any) -> Any:  # noqa: ANN401
    """Turn times into text: pyarrow cannot convert every one of them to Python's."""
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.tz is None and kind.unit == "ns":
        return pc.cast(pc.cast(column, pa.timestamp("us"), safe=False), pa.string())
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind):
        return pc.cast(column, pa.string())
    return pc.cast(column, pa.int64()) if pa.types.is_duration(kind) else column


def _is_bytes(kind: Any) -> bool:  # noqa: ANN401
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))
