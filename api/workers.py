"""Where slow work runs and in which order writes happen.

A bounded pool of threads keeps the event loop free; no queue here grows without end.
"""

import asyncio
import fcntl
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from starlette.exceptions import HTTPException

from api.keys import ApiKey
from engine.errors import DeadlineExceeded, Overloaded, StorageError, Unavailable

T = TypeVar("T")

LOOK_S = 0.005


class Workers:
    """Runs engine calls in threads, each within `deadline_s`; at most `max_queue` are under way or waiting."""

    def __init__(self, *, threads: int, max_queue: int, deadline_s: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="semblance-work")
        self._places = threading.BoundedSemaphore(max_queue)
        self._deadline_s = deadline_s
        self._begun: dict[object, float] = {}

    @property
    def longest_running_s(self) -> float:
        """Seconds since the oldest work under way began; 0 when none is."""
        return time.monotonic() - min(list(self._begun.values()), default=time.monotonic())

    async def run(self, work: Callable[[], T]) -> T:
        """Call `work` in a thread and return what it returns, or raise what it raises.

        Raises `Overloaded` when every place is taken and `DeadlineExceeded` when it takes too long; work that has not begun
        by then, or whose caller has gone, never begins.
        """
        job = self._submit(work)
        waiting = asyncio.wrap_future(job)
        try:
            done, _ = await asyncio.wait({waiting}, timeout=self._deadline_s)
        finally:
            if not waiting.done():
                waiting.cancel()
        if not done:
            raise DeadlineExceeded(f"the work took longer than {self._deadline_s:g} s")
        return waiting.result()

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        if not self._places.acquire(blocking=False):
            raise Overloaded("every worker is busy and the queue is full")
        try:
            job = self._pool.submit(self._timed, work)
        except RuntimeError:
            self._places.release()
            raise Unavailable("the server is shutting down") from None
        job.add_done_callback(lambda _: self._places.release())
        return job

    def _timed(self, work: Callable[[], T]) -> T:
        token = object()
        self._begun[token] = time.monotonic()
        try:
            return work()
        finally:
            del self._begun[token]

    def close(self) -> None:
        """Take no more work and drop what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class WriteOrder:
    """Lets one write of a collection happen at a time, so that a patch never builds on what another is replacing."""

    def __init__(self, *, max_waiting: int, deadline_s: float, folder: Path | None = None) -> None:
        """Order the writes of this process; with `folder`, those of all processes that name the same."""
        self._folder = folder
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._max_waiting = max_waiting
        self._deadline_s = deadline_s
        self._waiting = 0

    @asynccontextmanager
    async def turn(self, collection: str) -> AsyncIterator[None]:
        """Wait for this write's turn; raises `Overloaded` when too many wait and `DeadlineExceeded` when it takes too long."""
        lock = self._locks.setdefault(collection, asyncio.Lock())
        if self._waiting >= self._max_waiting:
            raise Overloaded(f"{self._max_waiting} writes are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._deadline_s):
                await lock.acquire()
                held = await self._among_processes(collection, lock)
        except TimeoutError:
            raise DeadlineExceeded(f"other writes took longer than {self._deadline_s:g} s") from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            if held is not None:
                os.close(held)
            lock.release()

    async def _among_processes(self, collection: str, lock: asyncio.Lock) -> int | None:
        """Take a collection's lock file; it is free again when it is closed, or with the process."""
        if self._folder is None:
            return None
        file = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = os.open(self._folder / f"{collection}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            while not _locked(file):
                await asyncio.sleep(LOOK_S)
            return file
        except BaseException as error:
            lock.release()
            if file is not None:
                os.close(file)
            if isinstance(error, OSError):
                raise StorageError(f"{self._folder} cannot be written ({error}): check its permissions and its disk") from error
            raise


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Followers:
    """Counts what goes on for as long as a client likes, such as answers it listens to; asks all to end when the server stops.

    At most `most` go on at once, and of these `share` for one key, so that nobody can take every place.
    """

    def __init__(self, what: str, *, most: int, share: int) -> None:
        self._what, self._most, self._share = what, most, share
        self._shares: Counter[str] = Counter()
        self.leaving = False

    @property
    def count(self) -> int:
        """How many go on."""
        return self._shares.total()

    def check(self, key: ApiKey | None) -> None:
        """Raise `Overloaded` when every place is taken, and answer 429 when those of this key are."""
        if self.count >= self._most:
            raise Overloaded(f"{self.count} {self._what} are under way")
        if key is not None and self._shares[key.id] >= self._share:
            detail = f"The key {key.name!r} has {self._share} {self._what} under way, as many as one may: wait until one ends."
            raise HTTPException(429, detail, {"Retry-After": "1"})

    @contextmanager
    def one_more(self, key: ApiKey | None) -> Iterator[None]:
        """Count one while it goes on."""
        owner = "" if key is None else key.id
        self._shares[owner] += 1
        try:
            yield
        finally:
            self._shares[owner] -= 1
            self._shares += Counter()  # forgets those who have none

    def leave(self) -> None:
        """Ask all to end."""
        self.leaving = True
