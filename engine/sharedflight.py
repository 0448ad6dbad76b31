"""Equal work wanted by several processes at the same time is done once, where they share a Redis.

In one process `engine.singleflight` does it; here its winners meet those of the other processes. What is claimed is a key of the
cache; who loses waits for the value to appear there. A claim that is never fulfilled ends by itself, and without Redis every
claim is won: what this saves is work, it never decides whether there is an answer.
"""

import time
from collections.abc import Callable, Sequence

from engine.cache import TieredCache

LEASE_S = 2.0
"""For how long others leave the work to the one who claimed it."""

FIRST_LOOK_S, LAST_LOOK_S = 0.002, 0.05

Compute = Callable[[list[bytes]], Sequence[bytes]]


class SharedFlight:
    """Computes values that are in no tier of `cache`, each by one of the processes that want it, and leaves them there."""

    def __init__(self, cache: TieredCache, *, lease_s: float = LEASE_S) -> None:
        self._cache = cache
        self._lease_s = lease_s

    def run_many(self, keys: Sequence[bytes], compute: Compute, *, since: float) -> list[bytes]:
        """Return one value per distinct key. `compute` gets those that fall to this process; what it raises is raised.

        A value made before `since` (seconds since 1970, when the caller looked) is one the caller has chosen to replace.
        """
        values = self._cache.made_since(keys, since)
        todo = [key for key in keys if key not in values]
        mine, found = self._claim(todo, since)
        values |= found
        values |= self._computed([key for key in todo if key in mine], compute)
        values |= self._awaited([key for key in todo if key not in values], since)
        left = [key for key in todo if key not in values]  # whoever claimed them has failed, or is too slow
        values |= self._computed(left, compute)
        return [values[key] for key in keys]

    def _claim(self, keys: Sequence[bytes], since: float) -> tuple[set[bytes], dict[bytes, bytes]]:
        """Claim keys; those whose value has come meanwhile are found instead."""
        redis = self._cache.redis
        if redis is None or not keys:
            return set(keys), {}
        mine = redis.claim_many(keys, self._lease_s)
        if not redis.available:
            return set(keys), {}
        found = self._cache.made_since(keys, since, shared=True)
        done = [key for key in mine if key in found]
        if done:
            redis.release_many(done)
        return {key for key in mine if key not in found}, found

    def _computed(self, keys: list[bytes], compute: Compute) -> dict[bytes, bytes]:
        if not keys:
            return {}
        began = time.perf_counter()
        try:
            values = dict(zip(keys, compute(keys), strict=True))
            self._cache.set_many(values, cost_s=(time.perf_counter() - began) / len(keys))
            return values
        finally:
            if self._cache.redis is not None:
                self._cache.redis.release_many(keys)

    def _awaited(self, keys: list[bytes], since: float) -> dict[bytes, bytes]:
        """Wait for the values that other processes have claimed."""
        values: dict[bytes, bytes] = {}
        pause, ends = FIRST_LOOK_S, time.monotonic() + self._lease_s
        while keys and time.monotonic() < ends:
            time.sleep(pause)
            pause = min(2 * pause, LAST_LOOK_S)
            values |= self._cache.made_since(keys, since, shared=True)
            keys = [key for key in keys if key not in values]
            redis = self._cache.redis
            if keys and (redis is None or not redis.available or not redis.claimed(keys)):
                break
        return values
