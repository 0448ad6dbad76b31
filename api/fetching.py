"""Pictures that requests name by address: fetched before the work begins, a few at a time, and only where the operator allows it.

Off unless `SEMBLANCE_IMAGE_URL_HOSTS` names hosts. No address inside the operator's network is ever reached (`engine.addresses`).
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

from api.workers import Workers
from engine.addresses import AllowList
from engine.config import Settings
from engine.errors import DeadlineExceeded, FetchError, InvalidInput, Overloaded, SemblanceError
from engine.fetch import FetchLimits, RemoteFetcher, is_remote

SETTING = "SEMBLANCE_IMAGE_URL_HOSTS"
THREADS = 4
MAX_URLS = 64
BODIES_HELD = 8

Fetched: TypeAlias = Mapping[str, bytes | SemblanceError]


class Fetching:
    """Fetches pictures for requests, in threads of its own, so that slow hosts hold up no other work. Close it.

    What one request fetches may be as large as a body, and what all hold together as large as a few.
    """

    def __init__(self, settings: Settings, fetcher: RemoteFetcher | None = None) -> None:
        self._settings = settings
        limits = FetchLimits(settings.max_image_bytes, settings.fetch_timeout_s, settings.fetch_redirects)
        allowed = AllowList(settings.image_url_hosts, setting=SETTING, public_only=True)
        self._fetcher = fetcher or RemoteFetcher(allowed, limits)
        self._workers = Workers(threads=THREADS, max_queue=4 * MAX_URLS, deadline_s=settings.deadline_s)
        self._held = 0

    @asynccontextmanager
    async def fetched(self, pictures: Iterable[str]) -> AsyncIterator[Fetched]:
        """Lend those of a request's pictures that are addresses: bytes, or what went wrong, for each.

        Raises `InvalidInput` when there are too many and `Overloaded` when too much is held already.
        """
        urls = list(dict.fromkeys(filter(is_remote, pictures))) if self._settings.image_url_hosts else []
        if len(urls) > MAX_URLS:
            raise InvalidInput(f"the request names {len(urls)} pictures by address, more than {MAX_URLS}: send it in parts")
        if urls and self._held > BODIES_HELD * self._settings.max_body_bytes:
            raise Overloaded("too many fetched pictures are held")
        budget = _Budget(self._settings.max_body_bytes)
        lent: list[int] = []
        try:
            yield dict(zip(urls, await asyncio.gather(*(self._fetch(url, budget, lent) for url in urls)), strict=True))
        finally:
            self._held -= sum(lent)

    async def close(self) -> None:
        """End the threads and close the connections."""
        self._workers.close()
        await asyncio.to_thread(self._fetcher.close)

    async def _fetch(self, url: str, budget: "_Budget", lent: list[int]) -> bytes | SemblanceError:
        try:
            data = await self._workers.run(lambda: budget.spend(lambda: self._fetcher.fetch(url)))
        except DeadlineExceeded:
            return FetchError(f"{url[:120]!r} did not arrive within {self._settings.deadline_s:g} s: try again later")
        except SemblanceError as error:
            return error
        lent.append(len(data))
        self._held += len(data)
        return data


class _Budget:
    """The bytes one request may fetch, shared by the threads that fetch for it."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._lock = threading.Lock()

    def spend(self, fetch: Callable[[], bytes]) -> bytes:
        """Fetch unless all is spent already; raises `FetchError` for what goes beyond."""
        self._check()
        data = fetch()
        with self._lock:
            self._left -= len(data)
            self._check()
        return data

    def _check(self) -> None:
        if self._left < 0:
            raise FetchError(f"the request's pictures are larger than {self._limit / 1e6:g} MB together: send it in parts")
