"""Every `Cache` against a dict: what it remembers is right, what it forgets is None, and it never raises."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from engine.cache import MemoryCache, RedisCache, TieredCache
from engine.protocols import Cache

KEYS = st.binary(min_size=1, max_size=40)
ITEMS = st.dictionaries(KEYS, st.binary(max_size=300), max_size=12)


def memory(_) -> MemoryCache:
    return MemoryCache(10_000, ttl_s=600)


def redis(server) -> RedisCache:
    return RedisCache(SecretStr(server.url), timeout_ms=10_000, ttl_s=600)


def tiered(server) -> TieredCache:
    return TieredCache(memory(server), redis(server))


def memory_only(server) -> TieredCache:
    return TieredCache(memory(server))


@pytest.fixture(params=[memory, redis, tiered, memory_only])
def build(request: pytest.FixtureRequest) -> Iterator[Callable[[], Cache]]:
    """Make empty caches of one kind."""
    server = request.getfixturevalue("redis_server") if request.param in {redis, tiered} else None
    built = []

    def make():
        if server is not None:
            server.command("FLUSHALL")
        built.append(request.param(server))
        return built[-1]

    yield make
    for cache in built:
        cache.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(ITEMS, max_size=5), lookups=st.lists(KEYS, max_size=8))
def test_answers_like_a_dict(build, writes: list[dict[bytes, bytes]], lookups: list[bytes]) -> None:
    cache, truth = build(), {}
    for items in writes:
        cache.set_many(items)
        truth.update(items)
    keys = [*lookups, *truth, *truth, *lookups]
    assert cache.get_many(keys) == [truth.get(key) for key in keys]
    cache.close()


def test_the_last_value_counts(build) -> None:
    cache = build()
    cache.set_many({b"k": b"old"})
    cache.set_many({b"k": b"new", b"empty": b""})
    assert cache.get_many([b"k", b"empty", b"other"]) == [b"new", b"", None]


def test_nothing_asked_nothing_given(build) -> None:
    cache = build()
    cache.set_many({})
    assert cache.get_many([]) == []


def test_a_large_value(build) -> None:
    cache, value = build(), bytes(range(256)) * 8000
    cache.set_many({b"k": value})
    assert cache.get_many([b"k"]) == [value]


def test_a_closed_cache_only_misses(build) -> None:
    cache = build()
    cache.set_many({b"k": b"v"})
    cache.close()
    cache.set_many({b"k": b"v"})
    assert cache.get_many([b"k"]) == [None]
