import asyncio
import time

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from api.app import create_app
from api.keys import KeyRequest, KeyRing
from api.rates import Limit, LocalBuckets, RedisBuckets

SLOW = Limit(rate=0.5, burst=3)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_bucket_holds_its_burst_and_then_gains_its_rate():
    async def main():
        clock = Clock()
        buckets = LocalBuckets(clock=clock)
        assert [await buckets.take("a", SLOW) for _ in range(4)] == [0, 0, 0, 2]
        assert await buckets.take("b", SLOW) == 0
        clock.now = 1
        assert await buckets.take("a", SLOW) == 1
        clock.now = 2
        assert [await buckets.take("a", SLOW) for _ in range(2)] == [0, 2]
        clock.now = 1000
        assert [await buckets.take("a", SLOW) for _ in range(4)] == [0, 0, 0, 2]

    asyncio.run(main())


@pytest.fixture
def shared(redis_server):
    """Two servers' buckets over one Redis, run in one loop and closed there."""

    def run(story):
        async def main():
            both = [RedisBuckets(SecretStr(redis_server.url), timeout_ms=500, local=LocalBuckets()) for _ in range(2)]
            try:
                await story(*both)
            finally:
                for buckets in both:
                    await buckets.close()

        asyncio.run(main())

    return run


def test_a_bucket_that_somebody_emptied_in_redis_fills_at_its_rate(shared, redis_server):
    async def story(first, second):
        redis_server.command("HSET", "semblance:rate:a", "tokens", "-1e18", "at", "1e18")
        assert 0 < await first.take("a", SLOW) <= 2

    shared(story)


def test_servers_over_one_redis_count_together(shared):
    async def story(first, second):
        waits = [await buckets.take("a", SLOW) for buckets in (first, second, first, second)]
        assert waits[:3] == [0, 0, 0]
        assert 1.5 < waits[3] <= 2
        assert await second.take("b", SLOW) == 0

    shared(story)


def test_a_bucket_in_redis_fills_again(shared):
    async def story(first, second):
        quick = Limit(rate=20, burst=1)
        assert await first.take("a", quick) == 0
        assert 0 < await second.take("a", quick) <= 0.05
        await asyncio.sleep(0.06)
        assert await first.take("a", quick) == 0

    shared(story)


def test_buckets_are_forgotten_when_they_are_full_again(shared, redis_server):
    async def story(first, _):
        await first.take("a", Limit(rate=100, burst=1))

    shared(story)
    assert redis_server.command("PTTL", "semblance:rate:a").startswith(b":")
    assert 0 < int(redis_server.command("PTTL", "semblance:rate:a")[1:]) <= 1010


def test_without_redis_each_process_counts_for_itself(shared, redis_server, caplog):
    async def story(first, second):
        assert await first.take("a", SLOW) == 0
        redis_server.stop()
        assert [await first.take("a", SLOW) for _ in range(4)][:3] == [0, 0, 0]
        assert await first.take("a", SLOW) > 0
        assert await second.take("a", SLOW) == 0

    shared(story)
    assert caplog.text.count("counted per process") == 2  # once for each server, not for each request


def test_a_redis_that_does_not_answer_costs_one_timeout(shared, redis_server):
    async def story(first, _):
        assert await first.take("a", SLOW) == 0
        redis_server.freeze()
        began = time.monotonic()
        assert [await first.take("a", SLOW) for _ in range(3)] == [0, 0, 0]
        assert time.monotonic() - began < 1.0
        redis_server.thaw()

    shared(story)


def test_a_redis_that_holds_something_else_is_no_reason_to_refuse(shared, redis_server):
    redis_server.command("SET", "semblance:rate:a", "nonsense")

    async def story(first, _):
        assert await first.take("a", SLOW) == 0

    shared(story)


@pytest.fixture
def served(toy_engine):
    toy_engine.create("shop")
    ring = KeyRing(toy_engine.settings.data)

    def start(**options):
        settings = toy_engine.settings.model_copy(update={"api_keys": "on", **options})
        return TestClient(create_app(settings, toy_engine), base_url="http://localhost"), ring

    return start


def header(ring, **options):
    return {"x-api-key": ring.create(KeyRequest("eager", **options))[1]}


def test_a_key_that_asks_too_often_is_told_when_to_come_back(served):
    client, ring = served(rate_limit=0.1, rate_burst=3)
    with client:
        eager, patient = header(ring), header(ring)
        assert [client.get("/v1/models", headers=eager).status_code for _ in range(4)] == [200, 200, 200, 429]
        answer = client.get("/v1/models", headers=eager)
        assert answer.json()["type"] == "urn:semblance:problem:rate-limited"
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert client.get("/v1/models", headers=patient).status_code == 200
        assert client.get("/healthz", headers=eager).status_code == 200


def test_a_key_may_have_a_rate_of_its_own(served):
    client, ring = served(rate_limit=1000, rate_burst=1000)
    with client:
        slow = header(ring, rate=0.01)
        assert [client.get("/v1/models", headers=slow).status_code for _ in range(2)] == [200, 429]


def test_a_rate_too_low_to_wait_for_is_still_answered(served):
    client, ring = served(rate_limit=1e-320, rate_burst=1)
    with client:
        headers = header(ring)
        assert client.get("/v1/models", headers=headers).status_code == 200
        answer = client.get("/v1/models", headers=headers)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "86400")


def test_a_rate_of_0_counts_nothing(served):
    client, ring = served(rate_limit=0, rate_burst=1)
    with client:
        headers = header(ring)
        assert {client.get("/v1/models", headers=headers).status_code for _ in range(20)} == {200}


def test_the_limit_holds_over_redis_too(served, redis_server):
    url = SecretStr(redis_server.url)
    client, ring = served(rate_limit=0.1, rate_burst=2, redis_url=url, redis_timeout_ms=1000)
    with client:
        headers = header(ring)
        assert [client.get("/v1/models", headers=headers).status_code for _ in range(3)] == [200, 200, 429]
