"""Searches that arrive together become one engine call.

Per collection one batch is under way at a time, and what arrives meanwhile forms the next: a lone search starts at once, and the
busier the server, the larger the batches. Every future is resolved on every path: answer, failure, deadline, disconnect, shutdown.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from api.metrics import BatchSeen
from api.tracing import note_search
from engine.datatypes import Query, SearchResult
from engine.errors import (
    CollectionNotFound,
    DeadlineExceeded,
    EncoderMismatch,
    Overloaded,
    SemblanceError,
    StorageError,
    Unavailable,
)

logger = logging.getLogger(__name__)

THREADS = 4

SearchMany = Callable[[str, Sequence[Query]], Sequence[SearchResult | SemblanceError]]
Answer = SearchResult | Exception

# These say something about the collection: asking again with half the queries cannot help.
_ABOUT_THE_COLLECTION = (CollectionNotFound, EncoderMismatch, StorageError)


@dataclass(eq=False, slots=True)
class _Waiting:
    query: Query
    future: asyncio.Future[SearchResult]
    since: float = field(default_factory=time.monotonic)


@dataclass(eq=False, slots=True)
class _Lane:
    """One collection's queue and the task that empties it."""

    queue: deque[_Waiting] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    batch_began: float | None = None


class MicroBatcher:
    """Gathers concurrent searches into calls of `search`; use it from one event loop and `close` it there.

    `search` gets a collection's name and 1 to `max_batch` queries, in a worker thread. At most `max_queue` searches wait.
    """

    def __init__(
        self,
        search: SearchMany,
        *,
        max_batch: int = 64,
        max_queue: int = 512,
        deadline_s: float = 30.0,
        seen: Callable[[BatchSeen], None] = lambda batch: None,
    ) -> None:
        """Give `seen` a look at every batch that has ended."""
        self._search = search
        self._seen = seen
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._deadline_s = deadline_s
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="semblance-search")
        self._lanes: dict[str, _Lane] = {}
        self._closing = False

    @property
    def queued(self) -> int:
        """Count the searches that wait for their batch to begin."""
        return sum(len(lane.queue) for lane in self._lanes.values())

    @property
    def longest_running_s(self) -> float:
        """Seconds since the oldest batch under way began; 0 when none is."""
        began = [lane.batch_began for lane in self._lanes.values() if lane.batch_began is not None]
        return time.monotonic() - min(began) if began else 0.0

    async def submit(self, collection: str, query: Query) -> SearchResult:
        """Answer one query, together with those that arrive with it; raises what is wrong with this one.

        Raises `Overloaded` when the queue is full, `DeadlineExceeded`, and `Unavailable` during shutdown. Cancelling the caller
        frees its place.
        """
        if self._closing:
            raise Unavailable("the server is shutting down")
        if self.queued >= self._max_queue:
            raise Overloaded(f"{self._max_queue} searches are waiting")
        waiting = _Waiting(query, asyncio.get_running_loop().create_future())
        lane = self._lane(collection)
        lane.queue.append(waiting)
        try:
            await asyncio.wait({waiting.future}, timeout=self._deadline_s)
            if not waiting.future.done():
                raise DeadlineExceeded(f"the search took longer than {self._deadline_s:g} s")
            result = waiting.future.result()
            note_search(collection, result, hits=len(result.hits), timings_ms=result.timings_ms)
            return result
        finally:
            if not waiting.future.cancel():
                waiting.future.exception()  # retrieved even if the caller is gone, so that asyncio does not complain
            if waiting in lane.queue:
                lane.queue.remove(waiting)

    async def close(self, grace_s: float = 10.0) -> None:
        """Take no more searches, answer those under way for up to `grace_s` seconds, fail the rest with `Unavailable`."""
        self._closing = True
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _lane(self, collection: str) -> _Lane:
        lane = self._lanes.get(collection)
        if lane is None:
            lane = self._lanes[collection] = _Lane()
            lane.task = asyncio.create_task(self._drain(collection, lane))
        return lane

    async def _drain(self, collection: str, lane: _Lane) -> None:
        """Run batches until the queue is empty; then the lane is gone and the next search opens a new one."""
        batch: list[_Waiting] = []
        failure: BaseException = Unavailable("the server is shutting down")
        try:
            while batch := [lane.queue.popleft() for _ in range(min(self._max_batch, len(lane.queue)))]:
                lane.batch_began = time.monotonic()
                queries = [waiting.query for waiting in batch]
                answers = await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, collection, queries)
                for waiting, answer in zip(batch, answers, strict=True):
                    _resolve(waiting, answer)
                self._seen(BatchSeen([lane.batch_began - waiting.since for waiting in batch], self.queued, answers))
        except Exception as error:
            logger.exception("a batch of searches in %r failed", collection)
            failure = error
        finally:
            del self._lanes[collection]
            for waiting in [*batch, *lane.queue]:
                _resolve(waiting, failure)
            lane.queue.clear()

    def _answer(self, collection: str, queries: Sequence[Query]) -> list[Answer]:
        """Search in this thread; when the call as a whole fails, halve the batch until the culprit fails alone."""
        try:
            answers = list(self._search(collection, queries))
            if len(answers) != len(queries):
                raise RuntimeError(f"{len(queries)} queries got {len(answers)} answers")
        except Exception as error:
            if len(queries) == 1 or isinstance(error, _ABOUT_THE_COLLECTION):
                return [error] * len(queries)
            middle = len(queries) // 2
            return self._answer(collection, queries[:middle]) + self._answer(collection, queries[middle:])
        return list(answers)


def _resolve(waiting: _Waiting, answer: SearchResult | BaseException) -> None:
    if waiting.future.done():
        return
    if isinstance(answer, StopIteration):  # the one exception a future refuses to carry
        answer = RuntimeError("the search stopped iterating")
    if isinstance(answer, BaseException):
        waiting.future.set_exception(answer)
    else:
        waiting.future.set_result(answer)
