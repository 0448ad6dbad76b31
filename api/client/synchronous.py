"""The client for ordinary code. What it can do stands in `api.client.operations`; here is how it sends."""

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import httpx

from api.client.call import Call, ManyPlan, OnePlan, Result, Series, Stream
from api.client.connection import Connection, fail, result_of, sent, written
from api.client.events import Reader
from api.client.operations import Operations
from api.client.retrying import CUT_OFF, Outcome, Retries


class Semblance(Operations):
    """A connection to a server; close it, or use it in a `with` block. Thread-safe.

    Every method raises `Problem` for an error answer and `Unreachable` when none came, after the stated `retries`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = Connection(url, key, timeout_s, retries or Retries())
        self._http = httpx.Client(transport=transport, **self._connection.arguments())
        self._sleep = sleep

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def one(self, plan: OnePlan[Result]) -> Result:
        """Carry out what has one result."""
        if isinstance(plan, Call):
            return self._send(plan)
        *_, last = self._each(plan)
        return last

    def many(self, plan: ManyPlan[Result]) -> Iterator[Result]:
        """Carry out what has several results, one at a time."""
        return self._each(plan) if isinstance(plan, Series) else self._events(plan)

    def _each(self, series: Series[Result]) -> Iterator[Result]:
        call: Call[Result] | None = series.first
        while call is not None:
            result = self._send(call)
            yield result
            call = series.then(result)
            if call is not None and series.pause_s:
                self._sleep(series.pause_s)

    def _send(self, call: Call[Result]) -> Result:
        attempt = 1
        while (wait := self._connection.retries.wait_s(attempt, outcome := self._attempt(call))) is not None:
            self._sleep(wait)
            attempt += 1
        return result_of(call, outcome, self._connection.url)

    def _attempt(self, call: Call[Result]) -> Outcome:
        try:
            with sent(call) as request, self._http.stream(**request) as response:
                if call.into is None or not response.is_success:
                    response.read()
                    return response
                with written(call.into) as path, path.open("wb") as file:
                    for piece in response.iter_bytes():
                        file.write(piece)
                return response
        except httpx.TransportError as error:
            return error

    def _events(self, stream: Stream[Result]) -> Iterator[Result]:
        attempt, url = 1, self._connection.url
        while True:
            outcome: Outcome = httpx.ReadError(CUT_OFF)
            try:
                with self._http.stream(**self._connection.subscription(stream)) as response:
                    if not response.is_success:
                        response.read()
                        outcome = response
                    for result in self._results(stream, response):
                        attempt = 1
                        yield result
                        if stream.last(result):
                            return
            except httpx.TransportError as error:
                outcome = error
            if (wait := self._connection.retries.wait_s(attempt, outcome)) is None:
                fail("GET", f"{url}{stream.path}", outcome)
            self._sleep(wait)
            attempt += 1

    def _results(self, stream: Stream[Result], response: httpx.Response) -> Iterator[Result]:
        reader = Reader(stream)
        for line in response.iter_lines() if response.is_success else ():
            if (result := reader.feed(line)) is not None:
                yield result
