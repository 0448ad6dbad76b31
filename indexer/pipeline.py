"""The line from rows to commits: rows are loaded by many threads, encoded in this one, committed by another, all at once.

    rows -> window of rows being loaded -> batch -> encode -> at most two batches waiting to be committed

Every stage is bounded by pictures, so memory does not grow with the catalogue. Results are taken in row order. Whatever goes
wrong in any thread is raised here, after the threads have ended; what was committed stays.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from engine.encoders.runtime import cores
from indexer.committing import BatchEncoder, BatchWriter, Committed
from indexer.loading import LoadedRow, RowLoader
from indexer.shard import CatalogueRow, RowError, ShardReport

BATCH_PICTURES = 64
BATCH_ROWS = 256
WINDOW = 128
"""Pictures being loaded or waiting to be encoded: two batches, so that a slow one holds nothing up; each takes 256 KB."""
WRITES_WAITING = 2
MAX_LOADERS = 16


@dataclass(frozen=True, slots=True)
class Stages:
    """Who does the work, and who is told: `refuse` gets every line for errors.csv, `tick` is called after every row."""

    loader: RowLoader
    encoder: BatchEncoder
    writer: BatchWriter
    refuse: Callable[[RowError], None]
    tick: Callable[[ShardReport], None]


class Pipeline:
    """Takes the rows of one shard through all stages."""

    def __init__(self, stages: Stages, *, loaders: int) -> None:
        self._stages = stages
        self._loaders = loaders
        self._counts = ShardReport()
        self._batch: list[LoadedRow] = []
        self._pictures = 0
        self._writes: deque[Future[Committed]] = deque()

    def run(self, rows: Iterable[CatalogueRow | RowError]) -> ShardReport:
        """Work through the rows and return what became of them."""
        loaders = ThreadPoolExecutor(self._loaders, thread_name_prefix="semblance-load")
        writer = ThreadPoolExecutor(1, thread_name_prefix="semblance-write")
        try:
            for result in self._loaded(rows, loaders):
                self._take(result, writer)
                self._stages.tick(self._counts)
            self._flush(writer)
            while self._writes:
                self._settle()
        finally:
            loaders.shutdown(wait=True, cancel_futures=True)
            writer.shutdown(wait=True)  # a commit under way is finished, and counted
            while self._writes and self._writes[0].exception() is None:
                self._settle()
        return self._counts

    def _loaded(self, rows: Iterable[CatalogueRow | RowError], loaders: ThreadPoolExecutor) -> Iterator[LoadedRow | RowError]:
        """Load rows ahead of where they are needed and hand them out in order."""
        window: deque[tuple[int, Future[LoadedRow | RowError] | RowError]] = deque()
        weight = 0
        for row in rows:
            if isinstance(row, RowError):
                window.append((1, row))
            else:
                window.append((1 + len(row.document.images), loaders.submit(self._stages.loader.load, row)))
            weight += window[-1][0]
            while weight >= 2 * WINDOW:
                weight -= window[0][0]
                yield _result(window.popleft()[1])
        while window:
            yield _result(window.popleft()[1])

    def _take(self, result: LoadedRow | RowError, writer: ThreadPoolExecutor) -> None:
        self._counts.read += 1
        if isinstance(result, RowError):
            self._refuse(result)
            return
        if result.remarks:
            self._counts.remarks += 1
            for remark in result.remarks:
                self._note(remark)
        if result.item is None:
            self._counts.unchanged += 1
            return
        self._batch.append(result)
        self._pictures += sum(picture.image is not None for picture in result.item.pictures)
        if self._pictures >= BATCH_PICTURES or len(self._batch) >= BATCH_ROWS:
            self._flush(writer)

    def _flush(self, writer: ThreadPoolExecutor) -> None:
        batch, self._batch, self._pictures = self._batch, [], 0
        if not batch:
            return
        encoded, failed = self._stages.encoder.encode(batch)
        for error in failed:
            self._refuse(error)
        while len(self._writes) >= WRITES_WAITING or (self._writes and self._writes[0].done()):
            self._settle()
        if encoded:
            self._writes.append(writer.submit(self._stages.writer.write, encoded))

    def _settle(self) -> None:
        committed = self._writes.popleft().result()
        self._counts.created += committed.created
        self._counts.updated += committed.updated
        for error in committed.refused:
            self._refuse(error)

    def _refuse(self, error: RowError) -> None:
        self._counts.refused += 1
        self._note(error)

    def _note(self, error: RowError) -> None:
        self._counts.codes[error.code] = self._counts.codes.get(error.code, 0) + 1
        self._stages.refuse(error)


def loaders_for(*, remote: bool) -> int:
    """Choose how many threads load rows: the cores and one more, and more when they mostly wait for the network."""
    return MAX_LOADERS if remote else min(cores() + 1, MAX_LOADERS)


def _result(loaded: "Future[LoadedRow | RowError] | RowError") -> LoadedRow | RowError:
    return loaded if isinstance(loaded, RowError) else loaded.result()
