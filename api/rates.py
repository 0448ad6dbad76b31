"""How often a key may ask: a token bucket per key, in Redis when there is one, so that all servers count together.

A bucket holds `burst` tokens and gains `rate` a second; a request takes one. When Redis fails, each process counts for itself until
it answers again: a limit is no reason to refuse service.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth import key_of
from api.errors import problem
from engine.circuit import Circuit
from engine.rediscalls import connection_options

logger = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 30.0
LONGEST_WAIT_S = 86_400
"""The longest wait that is named: a rate may be so low that its wait is no number any more."""

# KEYS: the bucket. ARGV: tokens a second, tokens it holds. Returns the seconds to wait as text, "0" when a token was taken.
# Redis's own clock counts, so that servers with different clocks agree.
_TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(burst, math.max(0, tonumber(bucket[1]) or burst) + math.max(0, now - (tonumber(bucket[2]) or now)) * rate)
local wait = 0
if tokens < 1 then wait = (1 - tokens) / rate else tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return string.format('%.6f', wait)
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """`rate` tokens a second, at most `burst` at once."""

    rate: float
    burst: float


class Buckets(Protocol):
    """Where tokens are counted."""

    async def take(self, name: str, limit: Limit) -> float:
        """Take a token from the bucket `name`: 0, or the seconds until there is one."""

    async def close(self) -> None:
        """Close connections, if there are any."""


class LocalBuckets:
    """Buckets of this process. Names are ids of keys, so there are no more buckets than keys."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    async def take(self, name: str, limit: Limit) -> float:
        """Take a token from the bucket `name`: 0, or the seconds until there is one."""
        now = self._clock()
        tokens, at = self._buckets.get(name, (limit.burst, now))
        tokens = min(limit.burst, tokens + (now - at) * limit.rate)
        enough = tokens >= 1
        self._buckets[name] = (tokens - 1 if enough else tokens, now)
        return 0.0 if enough else (1 - tokens) / limit.rate

    async def close(self) -> None:
        """Do nothing: there is no connection."""


class RedisBuckets:
    """Buckets in Redis, shared by all servers; local ones while Redis does not answer within `timeout_ms`."""

    def __init__(self, url: SecretStr, *, timeout_ms: int, local: Buckets) -> None:
        self._timeout = timeout_ms / 1000
        self._url = url
        self._local = local
        self._circuit = Circuit(FIRST_RETRY_S, LAST_RETRY_S)
        self._client: Any = None
        self._script: Callable[..., Awaitable[bytes]] | None = None

    async def take(self, name: str, limit: Limit) -> float:
        """Take a token from the bucket `name`: 0, or the seconds until there is one."""
        entered = self._circuit.enter()
        if entered is None:
            return await self._local.take(name, limit)
        try:
            async with asyncio.timeout(self._timeout):
                wait = float(await self._run(f"semblance:rate:{name}", limit))
            if not math.isfinite(wait):
                raise ValueError(f"the script answered {wait}")
        except Exception as error:  # the client raises its own, the socket's and the parser's
            pause = self._circuit.fail(entered)
            if pause is not None:
                logger.warning("Redis fails (%s): keys are counted per process, next attempt in %g s", type(error).__name__, pause)
            return await self._local.take(name, limit)
        if self._circuit.succeed():
            logger.info("Redis answers again: keys are counted together")
        return wait

    async def _run(self, bucket: str, limit: Limit) -> bytes:
        if self._script is None:
            self._client = _connect(self._url, self._timeout)
            self._script = self._client.register_script(_TAKE)
        return await self._script(keys=[bucket], args=[limit.rate, limit.burst])

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()


class RateLimit:
    """Answers 429 with `Retry-After` when a key asks too often. Requests without a key are not counted."""

    def __init__(self, app: ASGIApp, *, buckets: Buckets, limit: Limit) -> None:
        self._app = app
        self._buckets = buckets
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; other kinds than HTTP pass through."""
        key = key_of(scope) if scope["type"] == "http" else None
        if key is not None and (rate := key.rate or self._limit.rate):
            burst = self._limit.burst if key.rate is None else max(1.0, 2 * key.rate)
            wait = await self._buckets.take(key.id, Limit(rate, burst))
            if wait > 0:
                seconds = math.ceil(min(wait, LONGEST_WAIT_S))
                detail = f"The key {key.name!r} may ask {rate:g} times a second: slow down, and try again in {seconds} s."
                headers = {"Retry-After": str(seconds)}
                await problem(scope, 429, detail, kind="RateLimited", headers=headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _connect(url: SecretStr, timeout_s: float) -> Any:  # noqa: ANN401  redis is imported only when it is used
    from redis.asyncio import Redis  # noqa: PLC0415  a sixth of a second that a shop without Redis need not wait for
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    return Redis.from_url(url.get_secret_value(), retry=Retry(NoBackoff(), 0), **connection_options(timeout_s))
