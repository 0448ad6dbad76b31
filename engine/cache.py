"""Remembering answers: keys, the in-process tier, the Redis tier, and the two behind one face.

Here belong the implementations of `engine.protocols.Cache`. What is cached, under which fields, and how a value becomes bytes
is decided by those who ask (`engine.search`).

A cache never raises and never makes a search wait longer than its timeout: whatever goes wrong is a miss, and counted.
"""

import hashlib
import logging
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import SecretStr
from theine import Cache as WTinyLfu

from engine.circuit import Circuit, Lanes
from engine.errors import ConfigurationError

logger = logging.getLogger(__name__)

Field: TypeAlias = "bytes | str | int | float | bool | Sequence[Field] | None"
Tier: TypeAlias = Literal["miss", "memory", "redis"]
T = TypeVar("T")

KEY_PREFIX = b"semblance:1:"
"""Begins every Redis key; the number changes when the form of the values does."""

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 30.0
"""How long a failing Redis is left alone: at first, and at most after doubling at every failed attempt."""

_LANES = 2
_SEAL = struct.Struct("<B8s")
_SEAL_VERSION = 1


def cache_key(*fields: Field) -> bytes:
    """Digest fields into 32 bytes; each is tagged with its type and its length, so different fields never meet in one key."""
    return hashlib.blake2b(b"".join(map(_tagged, fields)), digest_size=32, person=b"semblance-cache").digest()


def _tagged(field: Field) -> bytes:
    match field:
        case None:
            tag, body = b"n", b""
        case bool():
            tag, body = b"t", bytes([field])
        case int():
            tag, body = b"i", str(field).encode()
        case float():
            tag, body = b"f", struct.pack(">d", field)
        case str():
            tag, body = b"s", field.encode("utf-8", "surrogatepass")
        case bytes():
            tag, body = b"b", field
        case _:
            tag, body = b"l", b"".join(map(_tagged, field))
    return tag + struct.pack(">Q", len(body)) + body


class MemoryCache:
    """The in-process tier: W-TinyLFU (Einziger et al. 2017) over at most `entries` values, forgotten after `ttl_s` seconds.

    0 entries turn it off. Close it: a background thread expires its entries.
    """

    def __init__(self, entries: int, *, ttl_s: float) -> None:
        self.hits = self.misses = self.errors = 0
        self._ttl = timedelta(seconds=ttl_s)
        self._counting = threading.Lock()
        self._values: WTinyLfu[bytes, bytes] | None = WTinyLfu(entries) if entries > 0 else None

    def __len__(self) -> int:
        """Count the values held; a few more than `entries` between two evictions."""
        return 0 if self._values is None else len(self._values)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Look keys up, answers in input order, None for a miss."""
        values = self._values
        found: list[bytes | None] = [None if values is None else values.get(key)[0] for key in keys]
        with self._counting:
            hits = sum(value is not None for value in found)
            self.hits += hits
            self.misses += len(found) - hits
        return found

    def set_many(self, items: Mapping[bytes, bytes]) -> None:
        """Remember items; older or rarer ones may be forgotten for them."""
        if self._values is not None:
            for key, value in items.items():
                self._values.set(key, value, self._ttl)

    def close(self) -> None:
        """Forget everything and stop expiring; the cache is off from then on."""
        values, self._values = self._values, None
        if values is not None:
            values.clear()
            values.close()


class RedisCache:
    """The shared tier. A Redis that is down, slow, full or holds nonsense costs misses, never answers.

    Every call runs on one of two threads of this cache, so that `timeout_ms` bounds the whole of it: name lookup, connecting,
    a server that sends a byte now and then. After a failure Redis is left alone for a second, then one call tries it again;
    the pause doubles up to half a minute. Values carry a digest over key and value. Raises `ConfigurationError` for a
    URL of another kind. Close it.
    """

    def __init__(self, url: SecretStr, *, timeout_ms: int, ttl_s: float) -> None:
        self.hits = self.misses = self.errors = 0
        self._timeout = timeout_ms / 1000
        self._ttl_ms = max(1, int(ttl_s * 1000))
        self._counting = threading.Lock()
        self._client = _connect_lazily(url, self._timeout)
        self._circuit = Circuit(FIRST_RETRY_S, LAST_RETRY_S)
        self._lanes = Lanes("semblance-redis", _LANES)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Look keys up, answers in input order, None for a miss; waits at most for the timeout."""
        if not keys:
            return []
        replies = self._attempt(lambda client: _fetch(client, keys))
        if replies is None:
            self._count(misses=len(keys))
            return [None] * len(keys)
        found = [None if reply is None else _unsealed(key, reply) for key, reply in zip(keys, replies, strict=True)]
        hits, present = sum(v is not None for v in found), sum(r is not None for r in replies)
        self._count(hits=hits, misses=len(keys) - hits, errors=present - hits)
        return found

    def set_many(self, items: Mapping[bytes, bytes]) -> None:
        """Remember items until their time is up; waits at most for the timeout."""
        if items:
            refused = self._attempt(lambda client: _store(client, items, self._ttl_ms))
            self._count(errors=refused or 0)

    def close(self) -> None:
        """Close the connections and end the threads; every later lookup is a miss."""
        self._lanes.close()
        self._client.connection_pool.disconnect()

    def _attempt(self, call: Callable[[Any], T]) -> T | None:
        started = self._circuit.enter()
        if started is None:
            return None
        future = self._lanes.submit(lambda: call(self._client))
        try:
            result = future.result(self._timeout)
        except Exception as error:  # the client raises its own, the socket's and the parser's
            if not future.done():
                future.cancel()
                self._client.connection_pool.disconnect()  # wakes the thread that still waits for the server
            self._fail(started, error)
            return None
        if self._circuit.succeed():
            logger.info("Redis answers again")
        return result

    def _fail(self, started: float, error: BaseException) -> None:
        self._count(errors=1)
        pause = self._circuit.fail(started)
        if pause is not None:
            reason = str(error)[:200] or f"no answer within {self._timeout * 1000:g} ms"
            logger.warning(
                "Redis fails (%s: %r): searches go on without it, next attempt in %g s", type(error).__name__, reason, pause
            )

    def _count(self, *, hits: int = 0, misses: int = 0, errors: int = 0) -> None:
        with self._counting:
            self.hits += hits
            self.misses += misses
            self.errors += errors


class TieredCache:
    """Memory in front of an optional second tier; what the second tier knows is copied into memory. Close it."""

    def __init__(self, memory: MemoryCache, redis: RedisCache | None = None) -> None:
        self.memory = memory
        self.redis = redis
        self.refreshes = 0

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Look keys up, answers in input order, None for a miss."""
        return [value for value, _ in self.get_many_with_tier(keys)]

    def get_many_with_tier(self, keys: Sequence[bytes]) -> list[tuple[bytes | None, Tier]]:
        """Look keys up and say which tier knew each; the second tier is asked once, for what memory lacks."""
        near = self.memory.get_many(keys)
        missing = list(dict.fromkeys(key for key, value in zip(keys, near, strict=True) if value is None))
        values = self.redis.get_many(missing) if self.redis and missing else [None] * len(missing)
        far = {key: value for key, value in zip(missing, values, strict=True) if value is not None}
        self.memory.set_many(far)
        return [_with_tier(value, far.get(key)) for key, value in zip(keys, near, strict=True)]

    def set_many(self, items: Mapping[bytes, bytes]) -> None:
        """Remember items in both tiers."""
        self.memory.set_many(items)
        if self.redis:
            self.redis.set_many(items)

    def close(self) -> None:
        """Close both tiers."""
        self.memory.close()
        if self.redis:
            self.redis.close()


def _with_tier(near: bytes | None, far: bytes | None) -> tuple[bytes | None, Tier]:
    if near is not None:
        return near, "memory"
    return far, "miss" if far is None else "redis"


def _connect_lazily(url: SecretStr, timeout_s: float) -> Any:  # noqa: ANN401  redis is imported only when it is used
    """Make a client that connects at its first call, tries once and says nothing about itself."""
    from redis import Redis  # noqa: PLC0415  a sixth of a second that a shop without Redis need not wait for
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    try:
        return Redis.from_url(
            url.get_secret_value(),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
    except (ValueError, TypeError):
        raise ConfigurationError(
            "SEMBLANCE_REDIS_URL is not a Redis address: write redis://HOST:PORT/0, rediss://... or unix:///PATH"
        ) from None


def _fetch(client: Any, keys: Sequence[bytes]) -> list[bytes | None]:  # noqa: ANN401
    replies = client.mget([KEY_PREFIX + key for key in keys])
    if not isinstance(replies, list) or len(replies) != len(keys):
        raise ValueError(f"MGET of {len(keys)} keys answered with {type(replies).__name__}")
    return [reply if reply is None or isinstance(reply, bytes) else b"" for reply in replies]


def _store(client: Any, items: Mapping[bytes, bytes], ttl_ms: int) -> int:  # noqa: ANN401
    """Write all items in one round trip; returns how many the server refused, for example because it is full."""
    pipeline = client.pipeline(transaction=False)
    for key, value in items.items():
        pipeline.set(KEY_PREFIX + key, _sealed(key, value), px=ttl_ms)
    return sum(reply is not True for reply in pipeline.execute(raise_on_error=False))


def _sealed(key: bytes, value: bytes) -> bytes:
    return _SEAL.pack(_SEAL_VERSION, _seal_digest(key, value)) + value


def _unsealed(key: bytes, reply: bytes) -> bytes | None:
    """Take the seal off; None for bytes that this cache did not write under this key."""
    seal, value = reply[: _SEAL.size], reply[_SEAL.size :]
    return value if seal == _SEAL.pack(_SEAL_VERSION, _seal_digest(key, value)) else None


def _seal_digest(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=8, key=hashlib.blake2b(key, digest_size=32).digest()).digest()
