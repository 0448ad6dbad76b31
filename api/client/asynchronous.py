"""The client for `async` code. What it can do stands in `api.client.operations`; here is how it sends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

import httpx

from api.client.call import Call, ManyPlan, OnePlan, Result, Series, Stream
from api.client.connection import Connection, fail, result_of, sent, written
from api.client.events import Reader
from api.client.operations import Operations
from api.client.retrying import CUT_OFF, Outcome, Retries


class AsyncSemblance(Operations):
    """A connection to a server; close it, or use it in an `async with` block.

    Every method raises `Problem` for an error answer and `Unreachable` when none came, after the stated `retries`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connection = Connection(url, key, timeout_s, retries or Retries())
        self._http = httpx.AsyncClient(transport=transport, **self._connection.arguments())
        self._sleep = sleep

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def one(self, plan: OnePlan[Result]) -> Result:
        """Carry out what has one result."""
        if isinstance(plan, Call):
            return await self._send(plan)
        results = [result async for result in self._each(plan)]
        return results[-1]

    def many(self, plan: ManyPlan[Result]) -> AsyncIterator[Result]:
        """Carry out what has several results, one at a time."""
        return self._each(plan) if isinstance(plan, Series) else self._events(plan)

    async def _each(self, series: Series[Result]) -> AsyncIterator[Result]:
        call: Call[Result] | None = series.first
        while call is not None:
            result = await self._send(call)
            yield result
            call = series.then(result)
            if call is not None and series.pause_s:
                await self._sleep(series.pause_s)

    async def _send(self, call: Call[Result]) -> Result:
        attempt = 1
        while (wait := self._connection.retries.wait_s(attempt, outcome := await self._attempt(call))) is not None:
            await self._sleep(wait)
            attempt += 1
        return result_of(call, outcome, self._connection.url)

    async def _attempt(self, call: Call[Result]) -> Outcome:
        try:
            with sent(call) as request:
                async with self._http.stream(**request) as response:
                    if call.into is None or not response.is_success:
                        await response.aread()
                        return response
                    with written(call.into) as path, path.open("wb") as file:
                        async for piece in response.aiter_bytes():
                            await asyncio.to_thread(file.write, piece)
                    return response
        except httpx.TransportError as error:
            return error

    async def _events(self, stream: Stream[Result]) -> AsyncIterator[Result]:
        attempt, url = 1, self._connection.url
        while True:
            outcome: Outcome = httpx.ReadError(CUT_OFF)
            try:
                async with self._http.stream(**self._connection.subscription(stream)) as response:
                    if not response.is_success:
                        await response.aread()
                        outcome = response
                    async for result in self._results(stream, response):
                        attempt = 1
                        yield result
                        if stream.last(result):
                            return
            except httpx.TransportError as error:
                outcome = error
            if (wait := self._connection.retries.wait_s(attempt, outcome)) is None:
                fail("GET", f"{url}{stream.path}", outcome)
            await self._sleep(wait)
            attempt += 1

    async def _results(self, stream: Stream[Result], response: httpx.Response) -> AsyncIterator[Result]:
        reader = Reader(stream)
        if not response.is_success:
            return
        async for line in response.aiter_lines():
            if (result := reader.feed(line)) is not None:
                yield result
