"""Answers from the memory of the process: the same as those that were searched for, and never older than a write."""

import orjson
import pytest
from starlette.testclient import TestClient

from api import answers
from api.app import create_app
from api.keys import KeyRequest, KeyRing
from api.passes import DAY_S, PicturePasses
from engine.datatypes import Query, Term
from engine.querylog import read_log
from engine.results import unpack

TEXT = "/v1/collections/shop/search/text"
EVERYTHING = {"query": "red", "k": 3, "facets": ["brand"], "sort": ["price:desc"], "cursor": "*", "explain": True}


@pytest.fixture
def batches(mugs, monkeypatch):
    """Counts the searches that reach the batcher."""
    seen = []
    batcher = mugs.app.state.services.batcher
    submit = batcher.submit

    def counted(collection, query):
        seen.append(query)
        return submit(collection, query)

    monkeypatch.setattr(type(batcher), "submit", lambda self, collection, query: counted(collection, query))
    return seen


def lasting(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body.pop("timings_ms")) >= {"cache", "total"}
    return {name: value for name, value in body.items() if name != "cache"}, body["cache"]


@pytest.mark.parametrize("body", [{"query": "red"}, EVERYTHING], ids=["plain", "everything"])
def test_what_is_remembered_is_answered_the_same_and_without_a_batch(mugs, batches, body):
    fresh, again, third = (lasting(mugs.post(TEXT, json=body)) for _ in range(3))
    assert (fresh[1], again[1], third[1]) == ("miss", "memory", "memory")
    assert fresh[0] == again[0] == third[0]
    assert len(batches) == 1


def test_other_options_are_another_answer(mugs, batches):
    for body in ({"query": "red", "k": 1}, {"query": "red", "k": 2}, {"query": "red", "where": "price < 30"}, {"query": "Red"}):
        assert lasting(mugs.post(TEXT, json=body))[1] == "miss"
    assert len(batches) == 4


def test_a_write_is_seen_by_the_next_search(mugs):
    before, _ = [lasting(mugs.post(TEXT, json={"query": "red"})) for _ in range(2)][-1]
    mugs.delete("/v1/collections/shop/documents/p1").raise_for_status()
    after, cache = lasting(mugs.post(TEXT, json={"query": "red"}))
    assert cache == "miss"
    assert "p1" in [hit["id"] for hit in before["hits"]]
    assert "p1" not in [hit["id"] for hit in after["hits"]]


def test_a_dropped_collection_is_not_found(mugs):
    for _ in range(2):
        mugs.post(TEXT, json={"query": "red"}).raise_for_status()
    mugs.delete("/v1/collections/shop").raise_for_status()
    assert mugs.post(TEXT, json={"query": "red"}).status_code == 404


def test_remembered_searches_are_counted(mugs):
    def counted(line):
        page = mugs.get("/metrics").text
        return sum(
            float(text.rpartition(" ")[2]) for text in page.splitlines() if text.startswith(line) and 'cache="memory"' in text
        )

    before = counted("semblance_searches_total")
    for _ in range(4):
        mugs.post(TEXT, json={"query": "blue"}).raise_for_status()
    assert counted("semblance_searches_total") - before == 3
    assert mugs.app.state.services.engine.cache.memory.hits >= 3


def test_a_drawing_that_is_asked_for_is_begun_though_the_answer_is_remembered(mugs, batches):
    for _ in range(2):
        answer = mugs.post(TEXT, json={"query": "red", "fallback": "always"}).json()
        assert answer["generation"] is not None
    assert len(batches) == 2
    assert mugs.post(TEXT, json={"query": "red", "fallback": "never"}).json()["generation"] is None


def test_logged_queries_are_logged_each_time(toy_engine):
    toy_engine._log.enabled = True
    toy_engine.create("shop")
    with TestClient(create_app(toy_engine.settings, toy_engine), base_url="http://localhost") as client:
        for _ in range(3):
            client.post(TEXT, json={"query": "red"}).raise_for_status()
    assert len(list(read_log(toy_engine.collection("shop").path))) == 3


def test_addresses_of_pictures_carry_the_passes_of_the_day(mugs, monkeypatch):
    settings = mugs.app.state.services.settings.model_copy(update={"api_keys": "on"})
    _, text = KeyRing(settings.data).create(KeyRequest("reader", "read", ()))
    engine, now = mugs.app.state.services.engine, [100 * DAY_S]
    monkeypatch.setattr(PicturePasses.__init__, "__kwdefaults__", {"clock": lambda: now[0]})
    with TestClient(create_app(settings, engine), base_url="http://localhost", headers={"X-API-Key": text}) as client:

        def addresses():
            return [hit["image"] for hit in client.post(TEXT, json={"query": "red"}).json()["hits"]]

        fresh, again = addresses(), addresses()
        now[0] += DAY_S
        next_day = addresses()
        assert fresh == again
        assert set(fresh).isdisjoint(next_day)
        assert client.get(next_day[0], headers={"X-API-Key": ""}).status_code == 200


def test_what_is_recalled_is_what_a_search_gives(mugs):
    engine = mugs.app.state.services.engine
    query = Query((Term("red"),), 3)
    assert engine.recall("shop", query) is None
    fresh = engine.search_many("shop", [query])[0]
    recalled = unpack(engine.recall("shop", query), "memory")
    assert (recalled.hits, recalled.confidence, recalled.version) == (fresh.hits, fresh.confidence, fresh.version)
    assert engine.recall("nowhere", query) is None


def test_no_more_answers_are_kept_than_said():
    assert answers._written.cache_info().maxsize == answers.READY
    assert orjson.loads(answers.Ready(b'{"hits":[]', None, 0).completed(0.5))["timings_ms"] == {"cache": 0.5, "total": 0.5}
