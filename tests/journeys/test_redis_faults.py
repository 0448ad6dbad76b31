"""Redis fails under load, in every way it can, and no search over HTTP fails with it."""

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SERVER = """
import sys
from pathlib import Path
from pydantic import SecretStr
from api.server import serve
from engine.cache import MemoryCache, RedisCache, TieredCache
from engine.config import Settings
from engine.search import SearchEngine
from engine.testing import FakeEncoder
settings = Settings(data=Path(sys.argv[1]), port=0, deadline_s=5)
cache = TieredCache(MemoryCache(0, ttl_s=60), RedisCache(SecretStr(sys.argv[2]), timeout_ms=100, ttl_s=60))
with SearchEngine(settings, FakeEncoder(), cache) as engine:
    serve(settings, engine, ready=lambda address: print(address, flush=True))
"""


def kill(redis):
    redis.stop()


def restart(redis):
    redis.stop()
    redis.start()


def pause(redis):
    redis.freeze()


def flush(redis):
    redis.command("FLUSHALL")


def fill(redis):
    redis.command("CONFIG", "SET", "maxmemory", "1")


SPOIL = """
for number, key in ipairs(redis.call('KEYS', 'semblance:2:*')) do
  redis.call('DEL', key)
  if number % 2 == 0 then redis.call('SET', key, 'garbage') else redis.call('LPUSH', key, 'another type') end
end
return 1
"""


def spoil(redis):
    """Replace every value by garbage or by another type."""
    assert redis.command("EVAL", SPOIL, "0") == b":1\r\n"


@pytest.fixture
def server(tmp_path, redis_server):
    command = [sys.executable, "-c", SERVER, str(tmp_path / "data"), redis_server.url]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with httpx.Client(base_url=process.stdout.readline().strip(), timeout=20) as client:
        client.put("/v1/collections/shop").raise_for_status()
        documents = [{"id": str(n), "title": f"red mug {n}"} for n in range(20)]
        client.post("/v1/collections/shop/documents", json={"documents": documents}).raise_for_status()
        yield client
    process.terminate()
    process.communicate()


def errors_of(client):
    page = client.get("/metrics").text
    return float(re.search(r'^semblance_cache_lookups_total{outcome="error",tier="redis"} (\S+)$', page, re.M)[1])


def enough(answers, count):
    deadline = time.monotonic() + 60
    while len(answers) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("fault", "counted"), [(kill, True), (pause, True), (restart, False), (flush, False), (fill, True), (spoil, True)]
)
def test_no_search_fails_when_redis_does(server, redis_server, fault, counted):
    answers, slowest, over = [], [0.0], threading.Event()

    def load(number):
        with httpx.Client(base_url=server.base_url, timeout=20) as client:
            turn = 0
            while not over.is_set():
                turn += 1
                began = time.monotonic()
                body = {"query": f"red mug {turn % 7 if number else turn}"}
                answers.append(client.post("/v1/collections/shop/search/text", json=body).status_code)
                slowest[0] = max(slowest[0], time.monotonic() - began)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    enough(answers, 12)
    fault(redis_server)
    enough(answers, len(answers) + 24)
    over.set()
    for thread in threads:
        thread.join()
    if fault is pause:
        redis_server.thaw()
    assert set(answers) == {200}
    assert slowest[0] < 5  # the deadline
    if counted:
        assert errors_of(server) > 0
