"""The indexing job: a catalogue goes in, a collection and a report come out.

Running it again resumes it: rows whose fields, pictures and encoder are unchanged cost no encoding, whether the last run ended or
was killed. The first row with an id counts, later ones with the same id are refused. `prune` deletes what the catalogue no longer
names; rows that were refused but whose id could be read keep their earlier version, and where an id could not be read, or the
catalogue's last row is damaged, nothing is pruned.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from engine.collection import Collection
from engine.datatypes import EncodedDocument
from engine.errors import ConfigurationError, SemblanceError
from engine.ingest import encode_documents
from engine.search import SearchEngine
from indexer.committing import BatchEncoder, BatchWriter
from indexer.fetch import Fetcher
from indexer.ledger import Ledger
from indexer.loading import LoadedRow, RowLoader
from indexer.pipeline import Pipeline, Stages, loaders_for
from indexer.report import CODES, JobFailed, JobLog, JobReport, Retry, job_folder
from indexer.runners import LocalRunner, Runner
from indexer.shard import CatalogueRow, RowError, ShardReport, ShardSpec
from indexer.sources import CatalogSource, Row, SourceOptions, open_source

logger = logging.getLogger(__name__)

Stage: TypeAlias = Literal["reading", "indexing", "pruning"]

SHARD_ROWS = 20_000
PROGRESS_EVERY_S = 0.2
RATE_WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class IndexRequest:
    """What to index, and how.

    `mapping` names columns (`{"title": "productDisplayName"}`), `limit` takes only the first rows, `retry_failed` (an earlier job's
    folder or errors.csv) only the rows refused there; neither goes with `prune`. `loaders` is the number of loading threads,
    0 chooses. `pictures` marks a catalogue of somebody who is not trusted with this machine: only picture files below that folder
    are read, and none is fetched from a private address.
    """

    catalogue: Path
    collection: str
    mapping: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    prune: bool = False
    limit: int | None = None
    retry_failed: Path | None = None
    job_folder: Path | None = None
    loaders: int = 0
    pictures: Path | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. `total` rows are expected (None while that is being found out); `rate` is rows a second of this run."""

    stage: Stage
    total: int | None
    read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    seconds: float = 0.0
    rate: float = 0.0

    @property
    def eta_s(self) -> float | None:
        """Estimate the seconds left."""
        return None if self.total is None or not self.rate else max(self.total - self.read, 0) / self.rate


def index_catalogue(
    engine: SearchEngine,
    request: IndexRequest,
    *,
    progress: Callable[[Progress], None] | None = None,
    runner: Runner | None = None,
) -> JobReport:
    """Index a catalogue into a collection, which is made if need be.

    Raises before anything is written: `InvalidCatalogue`, `EncoderMismatch`, `ConfigurationError`. Raises `JobFailed`, with the
    report so far, for anything that stops the job later, and passes `KeyboardInterrupt` on; committed work stays either way.
    """
    if request.prune and (request.limit is not None or request.retry_failed is not None):
        raise ConfigurationError(
            "prune goes neither with limit nor with retry_failed: products left out on purpose would be deleted"
        )
    if request.limit is not None and request.limit < 1:
        raise ConfigurationError(f"limit is {request.limit}: take at least one row")
    retry = None if request.retry_failed is None else Retry(request.retry_failed)
    meter = _Meter(progress)
    meter.report("reading", None, ShardReport())
    options = SourceOptions(request.mapping, request.encoding, engine.settings.data)
    with closing(open_source(request.catalogue, options)) as source:
        shards = list(source.shards(SHARD_ROWS))
        collection = engine.ensure(request.collection)
        return _Job(engine, collection, request, source, meter).run(shards, retry, runner or LocalRunner())


class _Job:
    def __init__(
        self, engine: SearchEngine, collection: Collection, request: IndexRequest, source: CatalogSource, meter: "_Meter"
    ) -> None:
        self._engine = engine
        self._collection = collection
        self._request = request
        self._source = source
        self._meter = meter
        self._counts = ShardReport()
        self._current = ShardReport()
        self._planned = 0

    def run(self, shards: list[ShardSpec], retry: Retry | None, runner: Runner) -> JobReport:
        folder = self._request.job_folder or job_folder(self._engine.settings.data, self._request.collection)
        folder.mkdir(parents=True, exist_ok=True)
        report = JobReport(self._request.collection, self._request.catalogue.absolute(), folder.absolute())
        with JobLog(folder) as log:
            try:
                with Ledger() as ledger:
                    self._index(shards, retry, runner, ledger, log)
                    if self._request.prune:
                        self._prune(ledger, report)
                self._judge(report)
                report.status = "done"
            except KeyboardInterrupt:
                report.status = "stopped"
                raise
            except Exception as error:
                report.status = "failed"
                raise JobFailed(self._failure(error), report) from error
            finally:
                self._conclude(report, log)
        return report

    def _index(self, shards: list[ShardSpec], retry: Retry | None, runner: Runner, ledger: Ledger, log: JobLog) -> None:
        self._planned = sum(shard.rows for shard in shards)
        total = None if retry else min(self._planned, self._request.limit or self._planned)
        with ExitStack() as stack:
            stages = self._stages(stack, total, log)
            loaders = self._request.loaders or loaders_for(remote=bool(self._engine.settings.fetch_hosts))

            def work(shard: ShardSpec) -> ShardReport:
                rows = _claimed(self._wanted(self._source.read(shard), retry), ledger)
                return Pipeline(stages, loaders=loaders).run(rows)

            for counts in runner.run(work, shards):
                self._counts.add(counts)
                self._current = ShardReport()
            self._meter.report("indexing", total, self._counts)

    def _stages(self, stack: ExitStack, total: int | None, log: JobLog) -> Stages:
        engine, collection = self._engine, self._collection
        fetcher = stack.enter_context(Fetcher(engine.settings, self._request.pictures))
        loader = RowLoader(collection, engine.settings, engine.encoder.image_size, fetcher)

        def tick(counts: ShardReport) -> None:
            self._current = counts
            self._meter.tick("indexing", total, self._counts, counts)

        return Stages(loader, BatchEncoder(engine.encoder, collection), BatchWriter(collection, self._reload), log.add, tick)

    def _reload(self, row: LoadedRow) -> EncodedDocument:
        """Load and encode one row anew, for when a vector it shared has been deleted."""
        if row.item is None:
            raise ValueError("an unchanged row is never committed")
        with Fetcher(self._engine.settings, self._request.pictures) as fetcher:
            loader = RowLoader(self._collection, self._engine.settings, self._engine.encoder.image_size, fetcher)
            again = loader.load(CatalogueRow(row.row, row.item.document))
        if isinstance(again, RowError) or again.item is None:
            raise ValueError(f"row {row.row} changed while it was being stored")
        return encode_documents(self._engine.encoder, self._collection, [again.item])[0]

    def _wanted(self, rows: Iterable[Row], retry: Retry | None) -> Iterator[Row]:
        """Leave out what was not asked for."""
        taken = self._counts.read
        for row in rows:
            if self._request.limit is not None and taken >= self._request.limit:
                return
            if retry is None or retry.wants(row.row, row.id if isinstance(row, RowError) else row.document.id):
                taken += 1
                yield row

    def _prune(self, ledger: Ledger, report: JobReport) -> None:
        why = self._no_pruning(ledger)
        if why is not None:
            report.notes.append(f"nothing was pruned: {why}; repair the catalogue and run again")
            return
        self._meter.report("pruning", None, self._counts)
        for ids in ledger.missing(self._collection.ids()):
            report.pruned += self._collection.delete(ids)

    def _judge(self, report: JobReport) -> None:
        if self._counts.read and self._counts.refused == self._counts.read:
            code = max(self._counts.codes, key=lambda name: self._counts.codes[name])
            report.notes.append(f"every row was refused, most often because: {CODES[code]}")

    def _no_pruning(self, ledger: Ledger) -> str | None:
        if not self._source.complete:
            return "the catalogue's last row is damaged, so it may have been cut off"
        if self._counts.read != self._planned:
            return f"{self._planned} rows were counted and {self._counts.read} read, so the catalogue changed meanwhile"
        if ledger.unidentified:
            rows = ", ".join(map(str, ledger.unidentified))
            return f"the ids of some rows cannot be read (row {rows}), so their products cannot be told from those to remove"
        return None

    def _conclude(self, report: JobReport, log: JobLog) -> None:
        self._counts.add(self._current)
        report.take(self._counts)
        report.seconds, report.errors = self._meter.seconds, log.path
        report.status = "stopped" if report.status == "running" else report.status
        try:
            log.finish(report)
        except OSError as error:  # a full disk has stopped the job already: let that error be seen, not this one
            logger.warning("report.json could not be written: %s", error)

    def _failure(self, error: Exception) -> str:
        what = str(error) if isinstance(error, SemblanceError) else f"{type(error).__name__}: {error}"
        read = self._counts.read + self._current.read
        return f"the job stopped after {read} rows: {what}. What was committed stays; run the same command again to go on"


class _Meter:
    """Tells the caller how far the job is, a few times a second."""

    def __init__(self, tell: Callable[[Progress], None] | None) -> None:
        self._tell = tell
        self._began = self._told = time.monotonic()
        self._anchors = [(self._began, 0), (self._began, 0)]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def tick(self, stage: Stage, total: int | None, done: ShardReport, current: ShardReport) -> None:
        if self._tell is not None and time.monotonic() - self._told >= PROGRESS_EVERY_S:
            both = ShardReport()
            both.add(done)
            both.add(current)
            self.report(stage, total, both)

    def report(self, stage: Stage, total: int | None, counts: ShardReport) -> None:
        if self._tell is None:
            return
        self._told = time.monotonic()
        parts = {name: count for name, count in counts.as_dict().items() if name != "remarks"}
        self._tell(Progress(stage, total, **parts, seconds=self.seconds, rate=self._rate(counts.read)))

    def _rate(self, read: int) -> float:
        """Rows a second over the last 10 to 20 seconds: unchanged rows at the start of a resumed job are much faster."""
        if self._told - self._anchors[1][0] >= RATE_WINDOW_S:
            self._anchors = [self._anchors[1], (self._told, read)]
        since, already = self._anchors[0]
        return (read - already) / (self._told - since) if self._told > since else 0.0


def _claimed(rows: Iterable[Row], ledger: Ledger) -> Iterator[Row]:
    """Refuse rows whose id an earlier row has."""
    for row in rows:
        if isinstance(row, RowError):
            ledger.mention(row.id, row.row)
            yield row
            continue
        first = ledger.claim(row.document.id, row.row)
        if first is None:
            yield row
        else:
            reason = f"row {first} has the same id {row.document.id!r}, and the first counts: give every product an id of its own"
            yield RowError(row.row, row.document.id, reason, "id_duplicate")
