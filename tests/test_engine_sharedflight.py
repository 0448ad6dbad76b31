"""One encode for a thousand who want the same, also in two processes; early refresh; failures that cost work and no answer."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from engine.cache import MemoryCache, RedisCache, TieredCache
from engine.queries import QueryEncoder
from engine.seals import Stamped
from engine.sharedflight import SharedFlight
from engine.testing import FakeEncoder

ROOT = Path(__file__).resolve().parent.parent


def tiers(url=None, *, ttl_s=60.0):
    redis = None if url is None else RedisCache(SecretStr(url), timeout_ms=10_000, ttl_s=ttl_s)
    return TieredCache(MemoryCache(1000, ttl_s=ttl_s), redis)


WORKER = """
import sys, threading, time
from pydantic import SecretStr
from engine.cache import MemoryCache, RedisCache, TieredCache
from engine.queries import QueryEncoder
from engine.testing import FakeEncoder

calls = []
class Slow(FakeEncoder):
    def encode_texts(self, texts):
        calls.extend(texts)
        time.sleep(0.3)
        return super().encode_texts(texts)

cache = TieredCache(MemoryCache(1000, ttl_s=60), RedisCache(SecretStr(sys.argv[1]), timeout_ms=10_000, ttl_s=60))
encoder = QueryEncoder(Slow(), cache)
answers, start = [], threading.Barrier(501)
def ask():
    start.wait()
    answers.append(encoder.encode_texts(["red mug"]).tobytes())
threads = [threading.Thread(target=ask) for _ in range(500)]
for thread in threads: thread.start()
print("ready", flush=True)
sys.stdin.readline()
start.wait()
for thread in threads: thread.join()
print(len(calls), len(answers), len(set(answers)), flush=True)
"""


def test_a_thousand_identical_misses_in_two_processes_are_one_encode(redis_server):
    command = [sys.executable, "-c", WORKER, redis_server.url]
    workers = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    told = [[int(word) for word in worker.communicate(timeout=60)[0].split()] for worker in workers]
    assert [answers for _, answers, _ in told] == [500, 500]
    assert [different for *_, different in told] == [1, 1]
    assert sum(calls for calls, *_ in told) == 1


def test_who_loses_a_claim_waits_for_the_value_of_who_won(redis_server):
    ours, theirs = tiers(redis_server.url), tiers(redis_server.url)
    begun, go = threading.Event(), threading.Event()

    def slow(keys):
        begun.set()
        assert go.wait(10)
        return [b"theirs"]

    with ThreadPoolExecutor(2) as pool:
        since = time.time()
        first = pool.submit(SharedFlight(theirs).run_many, [b"k"], slow, since=since)
        assert begun.wait(10)
        second = pool.submit(SharedFlight(ours).run_many, [b"k"], lambda keys: [b"ours"] * len(keys), since=since)
        time.sleep(0.05)
        go.set()
        assert (first.result(), second.result()) == ([b"theirs"], [b"theirs"])
    for cache in (ours, theirs):
        assert cache.redis is not None
        assert not cache.redis.claimed([b"k"])
        cache.close()


def test_a_claim_whose_process_died_is_waited_for_only_so_long(redis_server):
    cache = tiers(redis_server.url)
    assert cache.redis is not None
    assert cache.redis.claim_many([b"k"], 60) == {b"k"}
    began = time.monotonic()
    assert SharedFlight(cache, lease_s=0.2).run_many([b"k"], lambda keys: [b"v"], since=time.time()) == [b"v"]
    assert 0.2 <= time.monotonic() - began < 5
    cache.close()


def test_a_failing_computation_raises_and_gives_its_claim_back(redis_server):
    cache = tiers(redis_server.url)

    def fail(keys):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        SharedFlight(cache).run_many([b"k"], fail, since=time.time())
    assert cache.redis is not None
    assert not cache.redis.claimed([b"k"])
    assert SharedFlight(cache).run_many([b"k"], lambda keys: [b"v"], since=time.time()) == [b"v"]
    cache.close()


@pytest.mark.parametrize("how", ["gone", "frozen", "full", "absent"])
def test_without_a_working_redis_everybody_computes(redis_server, how):
    url = None if how == "absent" else redis_server.url
    cache = TieredCache(MemoryCache(10, ttl_s=60), url and RedisCache(SecretStr(url), timeout_ms=100, ttl_s=60))
    if how == "gone":
        redis_server.stop()
    elif how == "frozen":
        redis_server.freeze()
    elif how == "full":
        redis_server.command("CONFIG", "SET", "maxmemory", "1")
    began = time.monotonic()
    assert SharedFlight(cache).run_many([b"k"], lambda keys: [b"v"], since=time.time()) == [b"v"]
    assert time.monotonic() - began < 2
    assert cache.get_many([b"k"]) == [b"v"]
    if how == "frozen":
        redis_server.thaw()
    cache.close()


def test_one_of_many_makes_a_value_anew_before_its_end_and_the_others_have_the_old_one():
    cache, encoder = tiers(ttl_s=10.0), FakeEncoder()
    calls = []
    encode = encoder.encode_texts
    encoder.encode_texts = lambda texts: (calls.append(texts), encode(texts))[1]
    queries = QueryEncoder(encoder, cache)
    vector = queries.encode_texts(["red"])
    key = queries._text_key("red")
    # The value is old and dear: 9 of its 10 s are over and it took 2 s to make.
    cache.memory.set_many({key: Stamped(vector[0].tobytes(), time.time() - 9, 2.0).pack()})
    for _ in range(50):
        assert (queries.encode_texts(["red"]) == vector).all()
    assert cache.refreshes == 1
    assert calls == [["red"], ["red"]]


def test_an_entry_ends_in_every_tier_when_its_time_is_over(redis_server):
    cache = tiers(redis_server.url, ttl_s=50.0)
    old = Stamped(b"v", time.time() - 51, 0.0).pack()
    assert cache.redis is not None
    cache.redis.set_many({b"k": old})
    assert cache.get_many_with_tier([b"k"]) == [(None, "miss")]
    cache.close()
