"""Open-loop load on an HTTP server, cheap enough to leave it the machine: bytes on kept connections, parsed as far as needed.

Requests are due on a schedule drawn beforehand (Poisson, seed 0), whatever the server does, and latency counts from when a
request was due: a stall counts against every request due meanwhile (no coordinated omission). A request waits for a connection when
all are taken, and that counts too. `saturation` is closed: a number of connections, each of which asks again once it is answered.
"""

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
import orjson

CONNECTIONS = 64
KEPT_ANSWERS = 2_000
PATIENCE_S = 60.0
IDLE_S = 20.0
"""A connection that rested longer is not used again: the server may be closing it at this moment."""


def request(url: str, path: str, body: bytes, kind: str = "application/json", method: str = "POST", key: str = "") -> bytes:
    """Write a request down."""
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: {kind}\r\n{authorization}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Tally:
    """What came of the requests: milliseconds from due to answered, milliseconds from sent to answered, failures, some bodies."""

    due_ms: list[float] = field(default_factory=list)
    sent_ms: list[float] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    answers: list[tuple[float, bytes]] = field(default_factory=list)

    def fail(self, why: str) -> None:
        """Count a failure by its reason."""
        self.failed[why] = self.failed.get(why, 0) + 1

    def answered(self, status: int, due: float, sent: float, body: bytes) -> None:
        """Count an answer."""
        now = time.perf_counter()
        self.due_ms.append(1000 * (now - due))
        self.sent_ms.append(1000 * (now - sent))
        if status != 200:
            self.fail(f"status {status}")
        elif len(self.answers) < KEPT_ANSWERS:
            self.answers.append((self.sent_ms[-1], body))

    def engine_ms(self) -> list[tuple[float, float]]:
        """Give, for the answers kept, what the client waited and what the engine took of that."""
        return [(sent, orjson.loads(body)["timings_ms"]["total"]) for sent, body in self.answers]


class _Connection(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def __init__(self, free: Callable[["_Connection"], None], tally: Tally) -> None:
        self._free = free
        self._tally = tally
        self._buffer = bytearray()
        self._whole = 0
        self._asked: tuple[float, float] | None = None
        self.open = True
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def ask(self, message: bytes, due: float) -> None:
        self._asked = (due, time.perf_counter())
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._whole:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            at = self._buffer.lower().find(b"content-length:", 0, end)
            self._whole = end + 4 + int(self._buffer[at + 15 : self._buffer.index(b"\r\n", at)])
        if len(self._buffer) < self._whole or self._asked is None:
            return
        status, body = int(self._buffer[9:12]), bytes(self._buffer[self._buffer.find(b"\r\n\r\n") + 4 : self._whole])
        (due, sent), self._asked = self._asked, None
        self._buffer.clear()
        self._whole = 0
        self._tally.answered(status, due, sent, body)
        self._free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._asked is not None:
            self._asked = None
            self._tally.fail("connection lost")
            self._free(self)

    def close(self) -> None:
        self._transport.close()


class Pool:
    """Kept connections to one server; what finds none free waits in order."""

    def __init__(self, url: str, connections: int, tally: Tally) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._limit = connections
        self._tally = tally
        self._idle: list[_Connection] = []
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._count = 0
        self.under_way = 0
        self.done = asyncio.Event()
        self.freed: Callable[[], None] = lambda: None

    def ask(self, message: bytes, due: float) -> None:
        """Send a request as soon as a connection is free."""
        self.under_way += 1
        while self._idle:
            connection = self._idle.pop()
            if connection.open and time.monotonic() - connection.idle_since < IDLE_S:
                connection.ask(message, due)
                return
            connection.close()
            self._count -= 1
        self._waiting.append((message, due))
        if self._count < self._limit:
            self._count += 1
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self._free, self._tally), *self._address)
        except OSError as error:
            self._count -= 1
            if self._waiting:
                self._waiting.popleft()
                self._tally.fail(type(error).__name__)
                self._ended()
            return
        self._next(connection)

    def _free(self, connection: _Connection) -> None:
        self._ended()
        if connection.open:
            self._next(connection)
        else:
            self._count -= 1

    def _next(self, connection: _Connection) -> None:
        if self._waiting:
            connection.ask(*self._waiting.popleft())
        else:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)

    def _ended(self) -> None:
        self.under_way -= 1
        self.freed()
        if not self.under_way:
            self.done.set()

    def close(self) -> None:
        """Close the connections."""
        for connection in self._idle:
            connection.close()


async def open_loop(url: str, messages: Sequence[bytes], rate: float, connections: int = CONNECTIONS) -> tuple[Tally, float]:
    """Send every message when it is due; returns what came of them and the seconds it took."""
    due = np.cumsum(np.random.default_rng(0).exponential(1 / rate, len(messages)))
    tally = Tally()
    pool = Pool(url, connections, tally)
    gc.disable()  # pauses of our own would be counted as the server's
    began = time.perf_counter()
    for message, at in zip(messages, due.tolist(), strict=True):
        wait = began + at - time.perf_counter()
        if wait > 0.0005:
            await asyncio.sleep(wait)
        pool.ask(message, began + at)
    pool.done.clear()
    if pool.under_way:
        try:
            await asyncio.wait_for(pool.done.wait(), PATIENCE_S)
        except TimeoutError:
            tally.fail("no answer")
    took = time.perf_counter() - began
    gc.enable()
    pool.close()
    return tally, took


async def saturation(url: str, messages: Sequence[bytes], seconds: float, connections: int) -> tuple[Tally, float]:
    """Keep `connections` requests under way for some seconds, taking the messages in turn; returns as `open_loop` does."""
    tally = Tally()
    pool = Pool(url, connections, tally)
    left = iter(messages)
    began = time.perf_counter()

    def more() -> None:
        message = next(left, None) if time.perf_counter() - began < seconds else None
        if message is not None:
            pool.ask(message, time.perf_counter())

    pool.freed = more
    for _ in range(connections):
        more()
    await asyncio.wait_for(pool.done.wait(), seconds + PATIENCE_S)
    took = time.perf_counter() - began
    pool.close()
    return tally, took


def run(made: object) -> tuple[Tally, float]:
    """Run a load to its end, on uvloop where that is installed."""
    try:
        from uvloop import run as loop_run  # noqa: PLC0415
    except ImportError:
        loop_run = asyncio.run
    result: tuple[Tally, float] = loop_run(made)  # type: ignore[arg-type]
    return result


def quantiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """Reduce latencies to quantiles."""
    return {f"p{q:g}_ms": round(float(np.percentile(milliseconds, q)), 3) for q in (50, 95, 99, 99.9)} if milliseconds else {}
