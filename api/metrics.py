"""Counters of the running service, in the form that Prometheus reads: what is counted, under which names, and the page of it all.

With several workers each process counts into files of one folder (`engine.config.share_metrics`), and any of them shows the sum.
What one call took is in `engine.metrics`.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from engine.config import metrics_folder
from engine.datatypes import SearchResult
from engine.errors import SemblanceError

if TYPE_CHECKING:
    from engine.search import SearchEngine

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_TENTHS = tuple(number / 10 for number in range(1, 11))
_LOOKUPS = (("hits", "hit"), ("misses", "miss"), ("errors", "error"))


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """A batch of searches that has ended: how long each of them waited for it, how many wait behind it, what came out."""

    waited_s: Sequence[float]
    queued: int
    answers: Sequence[SearchResult | BaseException]


class Metrics:
    """Everything that is counted; thread-safe. One per application, so that two of them in one process do not mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._known: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._describe_searches()
        self._describe_the_rest()

    def _describe_searches(self) -> None:
        own = self._registry
        self.stages = Histogram(
            "semblance_search_stage_seconds", "Time of one stage of a search.", ["stage"], buckets=_SECONDS, registry=own
        )
        self.batches = Histogram("semblance_search_batch_size", "Searches answered by one call.", buckets=_SIZES, registry=own)
        self.queued = Gauge("semblance_search_queue_depth", "Searches that wait.", multiprocess_mode="livesum", registry=own)
        self.searches = Counter(
            "semblance_searches", "Searches answered, by decision and by what knew them.", ["decision", "cache"], registry=own
        )
        self.failures = Counter("semblance_search_failures", "Searches that failed, by kind of error.", ["error"], registry=own)
        self.confidence = Histogram(
            "semblance_search_confidence", "Probability that an answer holds a relevant product.", buckets=_TENTHS, registry=own
        )

    def _describe_the_rest(self) -> None:
        own = self._registry
        self.requests = Counter("semblance_http_requests", "Requests answered.", ["method", "route", "status"], registry=own)
        self.latency = Histogram("semblance_http_request_seconds", "Time of a request.", ["route"], buckets=_SECONDS, registry=own)
        self.lookups = Counter("semblance_cache_lookups", "Lookups of a cache tier, by outcome.", ["tier", "outcome"], registry=own)
        self.refreshes = Counter("semblance_cache_early_refreshes", "Entries made anew shortly before their end.", registry=own)
        newest = {"multiprocess_mode": "mostrecent", "registry": own}
        self.version = Gauge("semblance_collection_version", "Version of a collection's index.", ["collection"], **newest)  # type: ignore[arg-type]
        self.documents = Gauge("semblance_collection_documents", "Documents of a collection.", ["collection"], **newest)  # type: ignore[arg-type]
        self.jobs = Gauge("semblance_jobs", "Jobs kept, by kind and state.", ["kind", "state"], **newest)  # type: ignore[arg-type]
        self.stuck = Gauge(
            "semblance_longest_running_seconds", "Age of the oldest call under way.", multiprocess_mode="livemax", registry=own
        )

    def see_batch(self, batch: BatchSeen) -> None:
        """Count a batch of searches."""
        self.batches.observe(len(batch.answers))
        self.queued.set(batch.queued)
        for waited in batch.waited_s:
            self.stages.labels("queue").observe(waited)
        results = [answer for answer in batch.answers if isinstance(answer, SearchResult)]
        for result in results:
            self.searches.labels(result.decision, result.cache).inc()
            if result.confidence is not None:
                self.confidence.observe(result.confidence)
        for stage, milliseconds in results[0].timings_ms.items() if results else ():  # the batch's, the same for all
            self.stages.labels(stage).observe(milliseconds / 1000)
        for answer in batch.answers:
            if isinstance(answer, BaseException):
                self.failures.labels(type(answer).__name__ if isinstance(answer, SemblanceError) else "unforeseen").inc()

    def see_recalled(self, result: SearchResult, seconds: float) -> None:
        """Count a search that was answered from memory, outside of any batch."""
        self.searches.labels(result.decision, result.cache).inc()
        if result.confidence is not None:
            self.confidence.observe(result.confidence)
        for stage in ("cache", "total"):
            self.stages.labels(stage).observe(seconds)

    def see_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` is the pattern of its address, never the address."""
        self.requests.labels(method, route, str(status)).inc()
        self.latency.labels(route).observe(seconds)

    def see_engine(self, engine: "SearchEngine") -> None:
        """Take over what the engine counts itself, and the state of its collections."""
        cache = engine.cache
        for tier, counted in (("memory", cache.memory), ("redis", cache.redis)):
            for name, outcome in _LOOKUPS if counted is not None else ():
                self.lookups.labels(tier, outcome).inc(self._more((tier, outcome), getattr(counted, name)))
        self.refreshes.inc(self._more(("refreshes", ""), cache.refreshes))
        for name in engine.collections():
            try:
                collection = engine.collection(name)
                version, documents = collection.version, len(collection)
            except SemblanceError:
                continue  # dropped since it was listed, or of another encoder
            self.version.labels(name).set(version)
            self.documents.labels(name).set(documents)

    def see_jobs(self, counts: Mapping[tuple[str, str], int], states: Iterable[str]) -> None:
        """Take over how many jobs there are; a state that none is in any more counts 0."""
        for kind in {kind for kind, _ in counts}:
            for state in states:
                self.jobs.labels(kind, state).set(counts.get((kind, state), 0))

    def page(self) -> bytes:
        """Write everything in Prometheus's text form."""
        folder = metrics_folder()
        if folder is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _more(self, what: tuple[str, str], now: int) -> int:
        """Return by how much a count has grown since it was last asked for."""
        with self._lock:
            grown = max(0, now - self._known.get(what, 0))
            self._known[what] = now
            return grown
