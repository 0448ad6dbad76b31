"""Remembering answers: keys, the in-process tier, the Redis tier, and the two behind one face.

Here belong the implementations of `engine.protocols.Cache`. What is cached, under which fields, and how a value becomes bytes
is decided by those who ask (`engine.search`).

A cache never raises and never makes a search wait longer than its timeout: whatever goes wrong is a miss, and counted.
"""

import hashlib
import logging
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import SecretStr
from theine import Cache as WTinyLfu

from engine.circuit import Circuit, Lanes
from engine.rediscalls import CLAIM, claim, connect_lazily, fetch, store
from engine.seals import STAMP_BYTES, Stamped, sealed, unsealed

logger = logging.getLogger(__name__)

Field: TypeAlias = "bytes | str | int | float | bool | Sequence[Field] | None"
Tier: TypeAlias = Literal["miss", "memory", "redis"]
T = TypeVar("T")

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 30.0
"""How long a failing Redis is left alone: at first, and at most after doubling at every failed attempt."""

CLOCKS_S = 1.0
"""By how much the clocks of processes that share a second tier may differ."""

_LANES = 2


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
        self.ttl_s = ttl_s
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

    def peek(self, key: bytes) -> bytes | None:
        """Look one key up; a miss is not counted, as whoever peeks in vain looks again."""
        value = None if self._values is None else self._values.get(key)[0]
        if value is not None:
            with self._counting:
                self.hits += 1
        return value

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
    the pause doubles up to half a minute. Values carry a digest over key and value; with a `secret` nobody who has none can
    make one, whoever may write to the server. Raises `ConfigurationError` for a URL of another kind. Close it.
    """

    def __init__(self, url: SecretStr, *, timeout_ms: int, ttl_s: float, secret: SecretStr | None = None) -> None:
        self.hits = self.misses = self.errors = 0
        self._timeout = timeout_ms / 1000
        self._secret = b"" if secret is None else hashlib.blake2b(secret.get_secret_value().encode()).digest()
        self._ttl_ms = max(1, int(ttl_s * 1000))
        self._counting = threading.Lock()
        self._client = connect_lazily(url, self._timeout)
        self._circuit = Circuit(FIRST_RETRY_S, LAST_RETRY_S)
        self._lanes = Lanes("semblance-redis", _LANES)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Look keys up, answers in input order, None for a miss; waits at most for the timeout."""
        if not keys:
            return []
        replies = self._attempt(lambda client: fetch(client, keys))
        if replies is None:
            self._count(misses=len(keys))
            return [None] * len(keys)
        found = [None if reply is None else unsealed(key, reply, self._secret) for key, reply in zip(keys, replies, strict=True)]
        hits, present = sum(v is not None for v in found), sum(r is not None for r in replies)
        self._count(hits=hits, misses=len(keys) - hits, errors=present - hits)
        return found

    def set_many(self, items: Mapping[bytes, bytes]) -> None:
        """Remember items until their time is up; waits at most for the timeout."""
        if items:
            values = {key: sealed(key, value, self._secret) for key, value in items.items()}
            refused = self._attempt(lambda client: store(client, values, self._ttl_ms))
            self._count(errors=refused or 0)

    @property
    def available(self) -> bool:
        """Whether its last call succeeded."""
        return self._circuit.closed

    def claim_many(self, keys: Sequence[bytes], lease_s: float) -> set[bytes]:
        """Claim keys for `lease_s` seconds: those that nobody else has claimed; none when the server fails."""
        return self._attempt(lambda client: claim(client, keys, max(1, int(lease_s * 1000)))) or set()

    def claimed(self, keys: Sequence[bytes]) -> bool:
        """Say whether any of the keys is claimed."""
        return bool(self._attempt(lambda client: client.exists(*(CLAIM + key for key in keys))))

    def release_many(self, keys: Sequence[bytes]) -> None:
        """Give claims back."""
        self._attempt(lambda client: client.delete(*(CLAIM + key for key in keys)))

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
    """Memory in front of an optional second tier; what the second tier knows is copied into memory. Close it.

    An entry's time counts from when it was made, in whichever tier it lies; shortly before its end one of those who ask is told
    that it is missing, so that it is made anew while the others still have it. `refreshes` counts these.
    """

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
        far = {key: value for key, value in zip(missing, values, strict=True) if value is not None and len(value) >= STAMP_BYTES}
        self.memory.set_many(far)
        return [self._fresh(value, far.get(key)) for key, value in zip(keys, near, strict=True)]

    def recall(self, key: bytes) -> bytes | None:
        """Give a value that memory holds and that nobody need make anew yet; None for any other, in whichever tier it lies."""
        data = self.memory.peek(key)
        entry = None if data is None else Stamped.unpack(data)
        return None if entry is None or entry.may_be_due(self.memory.ttl_s) else entry.value

    def made_since(self, keys: Sequence[bytes], since: float, *, shared: bool = False) -> dict[bytes, bytes]:
        """Return the values made at `since` or later: in memory, or in the second tier when `shared`."""
        tier = self.redis if shared else self.memory
        held = [] if tier is None else zip(keys, tier.get_many(keys), strict=True)
        made = {key: Stamped.unpack(value) for key, value in held if value is not None and len(value) >= STAMP_BYTES}
        slack = CLOCKS_S if shared else 0.0
        recent = {key: entry for key, entry in made.items() if entry.made >= since - slack}
        if shared:
            self.memory.set_many({key: entry.pack() for key, entry in recent.items()})
        return {key: entry.value for key, entry in recent.items()}

    def set_many(self, items: Mapping[bytes, bytes], *, cost_s: float = 0.0) -> None:
        """Remember items in both tiers; making each of them took `cost_s` seconds."""
        now = time.time()
        stamped = {key: Stamped(value, now, cost_s).pack() for key, value in items.items()}
        self.memory.set_many(stamped)
        if self.redis:
            self.redis.set_many(stamped)

    def close(self) -> None:
        """Close both tiers."""
        self.memory.close()
        if self.redis:
            self.redis.close()

    def _fresh(self, near: bytes | None, far: bytes | None) -> tuple[bytes | None, Tier]:
        data = near if near is not None else far
        if data is None:
            return None, "miss"
        entry = Stamped.unpack(data)
        if entry.due(self.memory.ttl_s):
            self.refreshes += 1
            return None, "miss"
        return entry.value, "redis" if near is None else "memory"
