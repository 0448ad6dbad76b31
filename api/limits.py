"""What a request may cost before anything has looked at it: how large its body, how slow, and by which name it came.

Pure ASGI. Queue lengths and deadlines of the work itself are in `api.batching` and `api.workers`.
"""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that answer to every name: what watches over servers calls them by their address, and they tell nothing of a catalogue."""


class BodyTooLarge(HTTPException):
    """More of a body arrived than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"The body is larger than the {limit / 1_000_000:g} MB this server accepts: send less at a time.")


class BodyTooSlow(HTTPException):
    """A body did not arrive in time."""

    def __init__(self, limit: float) -> None:
        super().__init__(408, f"The body did not arrive within {limit:g} s: send less at a time, or on a faster connection.")


class BodyLimit:
    """Counts a body while it is read, with or without `Content-Length`, and bounds how long and how many at once are read.

    `budget` bounds the bytes of all bodies in flight together, so that many large uploads cannot exhaust memory; one key may hold
    half of it, so that it cannot keep the others out.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit: int,
        budget: int,
        seconds: float,
        passes: Callable[[Scope], bool] = lambda scope: False,
        owner: Callable[[Scope], str] = lambda scope: "",
    ) -> None:
        """Bound every body but those that `passes` admits: their route counts them itself. `owner` names whose key it came with."""
        self._app = app
        self._owner = owner
        self._passes = passes
        self._limit = limit
        self._budget = budget
        self._seconds = seconds
        self._in_flight: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; other kinds than HTTP pass through."""
        if scope["type"] != "http" or self._passes(scope):
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._limit:
            refusal = BodyTooLarge(self._limit)
            await problem(scope, refusal.status_code, refusal.detail, headers={"Connection": "close"})(scope, receive, send)
            return
        body = _CountedBody(self, receive, self._owner(scope))
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._in_flight[body.owner] -= body.size
            self._in_flight += Counter()  # forgets those who have none

    def admit(self, owner: str, size: int, total: int) -> None:
        """Account for `size` more bytes of an owner's body of which `total` have come; raises when that is too much."""
        self._in_flight[owner] += size
        if total > self._limit:
            raise BodyTooLarge(self._limit)
        if self._in_flight.total() > self._budget:
            raise HTTPException(503)
        if owner and self._in_flight[owner] > self._budget / 2:
            held = self._in_flight[owner] / 1e6
            detail = f"The bodies that this key is sending hold {held:.0f} MB together: send fewer at a time."
            raise HTTPException(429, detail, {"Retry-After": "1"})

    @property
    def seconds(self) -> float:
        """The longest time a body may take to arrive."""
        return self._seconds


class _CountedBody:
    """One request's body: counts what arrives until it is complete, then only waits for the disconnect."""

    def __init__(self, limit: BodyLimit, receive: Receive, owner: str) -> None:
        self.owner = owner
        self._limit = limit
        self._receive = receive
        self._ends = asyncio.get_running_loop().time() + limit.seconds
        self._complete = False
        self.size = 0

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow(self._limit.seconds) from None
        if message["type"] == "http.request":
            self._complete = not message.get("more_body", False)
            self.size += len(message.get("body", b""))
            self._limit.admit(self.owner, len(message.get("body", b"")), self.size)
        return message


def no_more_than(receive: Receive, limit: int) -> Receive:
    """Read a body of at most `limit` bytes: less than other routes take. The rest is never read."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise BodyTooLarge(limit)
        return message

    return counted


class HostCheck:
    """Refuses requests that came by a foreign name, so that a web page cannot reach a local server by DNS rebinding.

    `allowed` are host names without port, `*.` in front admits subdomains; an empty sequence admits every name.
    """

    def __init__(self, app: ASGIApp, *, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = tuple(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; other kinds than HTTP pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) > 1 or (not hosts and scope.get("http_version") == "1.1"):  # RFC 9112, 3.2
            await problem(scope, 400, f"The request has {len(hosts)} headers `Host`: send one.")(scope, receive, send)
            return
        if self._allowed and scope["path"] not in PROBES:
            host = host_name(hosts[0] if hosts else "")
            if not any(_matches(host, pattern) for pattern in self._allowed):
                detail = (
                    f"This server does not answer to the host name {host[:100]!r}: use one of {', '.join(self._allowed)}, "
                    "or set SEMBLANCE_ALLOWED_HOSTS."
                )
                await problem(scope, 421, detail)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def host_name(header: str) -> str:
    """Take the name out of a `Host` header: without port, brackets and case."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].rstrip(".").lower()


def is_loopback(host: str) -> bool:
    """Tell whether an address to bind to is reachable from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _matches(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
