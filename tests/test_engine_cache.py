"""Keys never collide by accident; a Redis that is down, slow, full or wrong costs misses and nothing else."""

import logging
import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from redis import Redis

import engine.cache
from api.answers import recalled
from engine.cache import MemoryCache, RedisCache, TieredCache, cache_key
from engine.config import Settings
from engine.datatypes import Document, Query, Term
from engine.errors import ConfigurationError
from engine.rediscalls import KEY_PREFIX
from engine.seals import Stamped
from engine.search import SearchEngine
from engine.testing import FakeEncoder

FIELD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)
SLACK_S = 1.0
"""What two shared cores may add to a timeout."""


def redis_cache(url: str, *, timeout_ms: int = 10_000, ttl_s: float = 60, secret: str | None = None) -> RedisCache:
    return RedisCache(SecretStr(url), timeout_ms=timeout_ms, ttl_s=ttl_s, secret=None if secret is None else SecretStr(secret))


@pytest.fixture
def cache(redis_server) -> Iterator[RedisCache]:
    cache = redis_cache(redis_server.url)
    yield cache
    cache.close()


@pytest.fixture
def retries_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.cache, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(engine.cache, "LAST_RETRY_S", 0.1)


@contextmanager
def tcp_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server on a free port that treats every connection with `serve`; yields its Redis URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=treat, args=(connection,), daemon=True).start()

    def treat(connection: socket.socket) -> None:
        with connection:
            try:
                while not over.is_set():
                    serve(connection)
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"
    over.set()
    listening.close()


def eventually(check: Callable[[], bool], within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class TestKeys:
    @given(st.lists(FIELD, max_size=5), st.lists(FIELD, max_size=5))
    def test_equal_only_for_equal_fields(self, one: list, other: list) -> None:
        assert (cache_key(*one) == cache_key(*other)) == (repr(one) == repr(other))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (("ab", "c"), ("a", "bc")),
            (("a", ""), ("a",)),
            (("1",), (1,)),
            ((1,), (True,)),
            ((1,), (1.0,)),
            ((0,), (False,)),
            ((None,), ("",)),
            (("a",), (b"a",)),
            ((("a", "b"),), ("a", "b")),
            ((("a",), "b"), (("a", "b"),)),
            ((0.0,), (-0.0,)),
        ],
    )
    def test_near_misses(self, one: tuple, other: tuple) -> None:
        assert cache_key(*one) != cache_key(*other)

    def test_is_the_same_in_every_process(self) -> None:
        assert cache_key("text", "fp", b"\x00", 3, 0.5, None, True, ("a", 1)).hex() == (
            "13fa1c111c729cd8a639dcb6c0722f2cead9397f4e00777ad402cb76c084adde"
        )

    def test_any_text_and_number_has_a_key(self) -> None:
        assert len({cache_key("\ud800"), cache_key(math.nan), cache_key(10**40), cache_key()}) == 4
        assert len(cache_key("a" * 10**6)) == 32


class TestMemory:
    def test_zero_entries_turn_it_off(self) -> None:
        off = MemoryCache(0, ttl_s=60)
        off.set_many({b"k": b"v"})
        assert off.get_many([b"k"]) == [None]
        assert (len(off), off.hits, off.misses) == (0, 0, 1)

    def test_forgets_after_its_time(self) -> None:
        cache = MemoryCache(10, ttl_s=0.2)
        cache.set_many({b"k": b"v"})
        assert cache.get_many([b"k"]) == [b"v"]
        time.sleep(0.25)
        assert cache.get_many([b"k"]) == [None]
        cache.close()

    def test_holds_no_more_than_it_may(self) -> None:
        cache = MemoryCache(100, ttl_s=60)
        for n in range(5000):
            cache.set_many({b"%d" % n: b"v"})
        assert 50 <= len(cache) <= 100 + 128  # the policy looks at writes 128 at a time
        cache.close()

    def test_a_scan_does_not_drive_out_what_is_asked_for_often(self) -> None:
        cache, hot = MemoryCache(500, ttl_s=60), [b"hot%d" % n for n in range(100)]
        cache.set_many(dict.fromkeys(hot, b"v"))
        for n in range(5000):
            cache.set_many({b"scan%d" % n: b"v"})
            if n % 10 == 0:
                cache.get_many(hot)
        assert sum(value is not None for value in cache.get_many(hot)) >= 90
        cache.close()

    def test_counts(self) -> None:
        cache = MemoryCache(10, ttl_s=60)
        cache.set_many({b"a": b"1"})
        cache.get_many([b"a", b"b", b"a"])
        assert (cache.hits, cache.misses, cache.errors) == (2, 1, 0)
        cache.close()

    def test_closing_ends_its_housekeeping(self) -> None:
        cache = MemoryCache(10, ttl_s=60)
        task = cache._values._maintainer
        cache.close()
        assert eventually(task.done)


class TestRedis:
    def test_two_processes_share_it(self, redis_server, cache: RedisCache) -> None:
        other = redis_cache(redis_server.url)
        other.set_many({b"k": b"v"})
        assert cache.get_many([b"k", b"l"]) == [b"v", None]
        assert (cache.hits, cache.misses, cache.errors) == (1, 1, 0)
        other.close()

    def test_keys_have_a_prefix_and_an_end(self, redis_server, cache: RedisCache) -> None:
        cache.set_many({b"k": b"v"})
        assert KEY_PREFIX == b"semblance:2:"
        assert 50_000 < int(redis_server.command("PTTL", "semblance:2:k")[1:-2]) <= 60_000

    @pytest.mark.parametrize("planted", ["", "nonsense", "\x01", "\x01" + "0" * 8 + "value"])
    def test_foreign_bytes_are_a_miss(self, redis_server, cache: RedisCache, planted: str) -> None:
        redis_server.command("SET", "semblance:2:k", planted)
        assert cache.get_many([b"k", b"l"]) == [None, None]
        assert (cache.hits, cache.misses, cache.errors) == (0, 2, 1)
        cache.set_many({b"k": b"v"})
        assert cache.get_many([b"k"]) == [b"v"]

    def test_a_value_under_another_key_is_a_miss(self, redis_server, cache: RedisCache) -> None:
        cache.set_many({b"k": b"v"})
        redis_server.command("RENAME", "semblance:2:k", "semblance:2:other")
        assert cache.get_many([b"other"]) == [None]
        assert cache.errors == 1

    def test_a_key_of_another_type_is_a_miss_and_is_replaced(self, redis_server, cache: RedisCache) -> None:
        redis_server.command("LPUSH", "semblance:2:k", "x")
        assert cache.get_many([b"k"]) == [None]
        cache.set_many({b"k": b"v"})
        assert cache.get_many([b"k"]) == [b"v"]

    def test_a_full_server_still_answers(self, redis_server, cache: RedisCache) -> None:
        cache.set_many({b"early": b"v"})
        redis_server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        redis_server.command("CONFIG", "SET", "maxmemory", "1mb")
        cache.set_many({b"%d" % n: bytes(100_000) for n in range(30)})
        assert cache.errors >= 1
        assert cache.get_many([b"early", b"29"]) == [b"v", None]

    def test_stopped_and_started_again(self, redis_server, retries_soon, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        cache = redis_cache(redis_server.url)
        cache.set_many({b"k": b"v"})
        assert cache.get_many([b"k"]) == [b"v"]
        redis_server.stop()
        for _ in range(100):
            assert cache.get_many([b"k"]) == [None]
            cache.set_many({b"k": b"v"})
        assert 1 <= cache.errors < 100
        redis_server.start()
        assert eventually(lambda: cache.set_many({b"k": b"w"}) or cache.get_many([b"k"]) == [b"w"])
        assert "searches go on without it" in caplog.text
        assert "Redis answers again" in caplog.text
        cache.close()

    def test_never_there(self) -> None:
        cache = redis_cache("redis://127.0.0.1:1/0")
        started = time.monotonic()
        assert [cache.get_many([b"k"]) for _ in range(200)] == [[None]] * 200
        assert time.monotonic() - started < SLACK_S
        assert (cache.errors, cache.misses) == (1, 200)
        cache.close()

    def test_a_frozen_server_costs_one_timeout(self, redis_server) -> None:
        cache = redis_cache(redis_server.url, timeout_ms=100)
        redis_server.freeze()
        started = time.monotonic()
        assert [cache.get_many([b"k"]) for _ in range(200)] == [[None]] * 200
        cache.set_many({b"k": b"v"})
        assert 0.09 < time.monotonic() - started < 0.1 + SLACK_S
        assert cache.errors == 1
        redis_server.thaw()
        cache.close()

    def test_a_server_that_drips_costs_one_timeout_and_is_hung_up_on(self) -> None:
        hung_up = threading.Event()

        def serve(connection: socket.socket) -> None:
            assert connection.recv(4096)
            try:
                for piece in (b"*1\r\n$900\r\n", *[b"x"] * 900):
                    connection.sendall(piece)
                    time.sleep(0.02)
            except OSError:
                hung_up.set()
                raise

        with tcp_server(serve) as url:
            cache = redis_cache(url, timeout_ms=150)
            started = time.monotonic()
            assert cache.get_many([b"k"]) == [None]
            cache.set_many({b"k": b"v"})
            assert time.monotonic() - started < 0.15 + SLACK_S
            assert hung_up.wait(5)
            cache.close()

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"+OK\r\n",
            b":1\r\n",
            b"*0\r\n",
            b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
            b"*1\r\n:7\r\n",
            b"*1\r\n$3\r\nabc\r\n",
            b"*1\r\n*1\r\n*1\r\n$1\r\na\r\n",
            b"*-1\r\n",
            b"-ERR no such thing\r\n",
            b"-LOADING wait\r\n",
            b"-NOAUTH log in\r\n",
            b"-OOM full\r\n",
            b"\x00\xff\xfe" * 100,
            b"$99999999999\r\n",
            b"*1000000000\r\n",
            b"$-7\r\n",
        ],
    )
    def test_whatever_it_says_is_a_miss(self, answer: bytes) -> None:
        def serve(connection: socket.socket) -> None:
            if not connection.recv(4096):
                raise OSError
            connection.sendall(answer)

        with tcp_server(serve) as url:
            cache = redis_cache(url, timeout_ms=300)
            started = time.monotonic()
            assert cache.get_many([b"k"]) == [None]
            cache.set_many({b"k": b"v"})
            assert time.monotonic() - started < 0.6 + SLACK_S
            assert cache.errors >= 1
            cache.close()

    def test_one_that_hangs_up(self) -> None:
        with tcp_server(lambda connection: connection.close()) as url:
            cache = redis_cache(url)
            assert cache.get_many([b"k"]) == [None]
            assert cache.errors == 1
            cache.close()

    def test_a_wrong_password_is_a_miss_and_never_shown(self, redis_server, caplog: pytest.LogCaptureFixture) -> None:
        redis_server.command("CONFIG", "SET", "requirepass", "right")
        cache = redis_cache(redis_server.url.replace("unix://", "unix://:hunter2@"))
        assert cache.get_many([b"k"]) == [None]
        assert cache.errors == 1
        assert "searches go on without it" in caplog.text
        assert "hunter2" not in caplog.text + repr(cache) + repr(vars(cache))
        cache.close()

    @pytest.mark.parametrize("url", ["http://:hunter2@x", "hunter2", "", "redis://x:hunter2/0"])
    def test_another_url_is_refused_without_showing_it(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="SEMBLANCE_REDIS_URL") as caught:
            redis_cache(url)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__suppress_context__

    def test_closing_ends_its_threads(self, redis_server) -> None:
        before = threading.active_count()
        cache = redis_cache(redis_server.url)
        cache.get_many([b"k"])
        assert threading.active_count() > before
        cache.close()
        assert eventually(lambda: threading.active_count() <= before)

    def test_many_threads(self, cache: RedisCache) -> None:
        wrong: list[bytes] = []

        def work(name: int) -> None:
            for n in range(30):
                key, value = struct.pack("<II", name, n), bytes([name, n])
                cache.set_many({key: value})
                if cache.get_many([key]) != [value]:
                    wrong.append(key)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert cache.hits == 240


class TestTiers:
    def test_says_which_tier_knew(self, redis_server) -> None:
        first, second = (TieredCache(MemoryCache(100, ttl_s=60), redis_cache(redis_server.url)) for _ in range(2))
        first.set_many({b"k": b"v"})
        assert first.get_many_with_tier([b"k", b"l"]) == [(b"v", "memory"), (None, "miss")]
        assert second.get_many_with_tier([b"k", b"l", b"k"]) == [(b"v", "redis"), (None, "miss"), (b"v", "redis")]
        assert second.get_many_with_tier([b"k"]) == [(b"v", "memory")]
        assert (second.memory.hits, second.redis.hits, second.redis.misses) == (1, 1, 1)
        first.close()
        second.close()

    def test_redis_is_not_asked_for_what_memory_knows(self, redis_server) -> None:
        cache = TieredCache(MemoryCache(100, ttl_s=60), redis_cache(redis_server.url))
        cache.set_many({b"k": b"v"})
        cache.get_many([b"k"] * 5)
        assert cache.redis.hits + cache.redis.misses == 0
        cache.close()

    def test_memory_serves_when_redis_stops(self, redis_server) -> None:
        cache = TieredCache(MemoryCache(100, ttl_s=60), redis_cache(redis_server.url))
        redis_server.stop()
        cache.set_many({b"k": b"v"})
        assert cache.get_many_with_tier([b"k", b"l"]) == [(b"v", "memory"), (None, "miss")]
        cache.close()

    def test_memory_alone_is_recalled_and_a_miss_is_counted_by_whoever_asks_in_full(self, redis_server) -> None:
        far = redis_cache(redis_server.url)
        first, second = TieredCache(MemoryCache(10, ttl_s=60), far), TieredCache(MemoryCache(10, ttl_s=60), far)
        first.set_many({b"k": b"v"})
        assert (first.recall(b"k"), second.recall(b"k")) == (b"v", None)
        assert (first.memory.hits, second.memory.hits, second.memory.misses, far.hits, far.misses) == (1, 0, 0, 0, 0)
        assert second.get_many([b"k"]) == [b"v"]
        assert second.recall(b"k") == b"v"
        far.close()

    def test_what_may_have_to_be_made_anew_is_not_recalled(self) -> None:
        cache = TieredCache(MemoryCache(10, ttl_s=60))
        cache.set_many({b"dear": b"v"}, cost_s=30)
        cache.set_many({b"cheap": b"v"}, cost_s=0.01)
        assert (cache.recall(b"dear"), cache.recall(b"cheap")) == (None, b"v")

    def test_an_empty_value_is_not_a_miss(self) -> None:
        cache = TieredCache(MemoryCache(100, ttl_s=60))
        cache.set_many({b"k": b""})
        assert cache.get_many_with_tier([b"k"]) == [(b"", "memory")]
        cache.close()


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"hits": []}', b"\x80\x04.", b"\xff" * 1_024, bytes(10)], ids=repr)
@pytest.mark.parametrize("age_s", [-0.5, 30], ids=["new", "old"])
def test_what_others_put_under_our_keys_with_our_seal_is_a_miss(redis_server, tmp_path, value, age_s):
    """Another release, whose results have another form, or another tenant of the same Redis."""

    def engine() -> SearchEngine:
        cache = TieredCache(MemoryCache(100, ttl_s=60), redis_cache(redis_server.url))
        return SearchEngine(Settings(data=tmp_path), FakeEncoder(), cache)

    query = Query((Term("red mug"),))
    with engine() as first:
        first.index("shop", [Document("1", "red mug"), Document("2", "blue mug")])
        expected = first.search_many("shop", [query])
    with Redis.from_url(redis_server.url) as redis, engine() as second:
        keys = [name.removeprefix(KEY_PREFIX) for name in redis.keys()]
        assert len(keys) == 2, "the vector of the words, and the result"
        foreign = Stamped(value, time.time() - age_s).pack()
        for stored in (foreign, foreign[:5]):
            second.cache.redis.set_many(dict.fromkeys(keys, stored))  # type: ignore[union-attr]
            found = second.search_many("shop", [query])
            assert [hit.id for hit in found[0].hits] == [hit.id for hit in expected[0].hits]  # type: ignore[union-attr]
            assert recalled(second, "shop", query) is not None, "what was found has taken the place"
            second.cache.memory.set_many(dict.fromkeys(keys, foreign))
            assert recalled(second, "shop", query) is None


def test_who_writes_to_redis_without_the_secret_forges_nothing(redis_server) -> None:
    forger, ours, theirs = (redis_cache(redis_server.url, secret=secret) for secret in (None, "a" * 16, "b" * 16))
    try:
        forger.set_many({b"k": b"forged"})
        assert forger.get_many([b"k"]) == [b"forged"]
        assert ours.get_many([b"k"]) == [None]
        assert ours.errors == 1
        ours.set_many({b"k": b"true"})
        assert ours.get_many([b"k"]) == [b"true"]
        assert theirs.get_many([b"k"]) == forger.get_many([b"k"]) == [None]
    finally:
        for cache in (forger, ours, theirs):
            cache.close()
