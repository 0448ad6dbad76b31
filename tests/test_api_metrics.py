"""What is counted, and that the dashboard and its page speak of nothing else."""

import json
import re
import threading
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import BatchSeen, Metrics
from engine.errors import DeadlineExceeded

ROOT = Path(__file__).resolve().parent.parent
SEARCH = "/v1/collections/shop/search/text"


def counted(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples.get((name, tuple(sorted(labels.items()))), 0)


@pytest.fixture
def samples(mugs):
    for query in ("red", "red", "blue"):
        mugs.post(SEARCH, json={"query": query}).raise_for_status()
    mugs.post(SEARCH, json={"query": "red", "where": "price < 20"}).raise_for_status()
    mugs.post("/v1/collections/none/search/text", json={"query": "red"})
    mugs.app.state.services.jobs.submit("toy", {})
    answer = mugs.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return counted(answer.text)


def test_requests_are_counted_by_route_and_not_by_address(samples):
    route = "/v1/collections/{collection}/search/text"
    assert value(samples, "semblance_http_requests_total", method="POST", route=route, status="200") == 4
    assert value(samples, "semblance_http_requests_total", method="POST", route=route, status="404") == 1
    assert value(samples, "semblance_http_request_seconds_count", route=route) == 5


def test_searches_are_counted_by_decision_cache_and_stage(samples):
    searches = {labels: n for (name, labels), n in samples.items() if name == "semblance_searches_total"}
    assert sum(searches.values()) == 4
    assert sum(n for labels, n in searches.items() if ("cache", "memory") in labels) == 1
    for stage, times in (("encode", 3), ("search", 3), ("cache", 4), ("total", 4)):  # what is remembered is not searched for
        assert value(samples, "semblance_search_stage_seconds_count", stage=stage) == times
    queued = 4  # the remembered one never queues; the one about a collection that is not there does
    assert value(samples, "semblance_search_stage_seconds_count", stage="queue") == queued
    assert value(samples, "semblance_search_batch_size_sum") == queued
    assert value(samples, "semblance_search_failures_total", error="CollectionNotFound") == 1


def test_cache_collections_and_jobs_are_counted(samples):
    assert value(samples, "semblance_cache_lookups_total", tier="memory", outcome="hit") >= 1
    assert value(samples, "semblance_cache_lookups_total", tier="memory", outcome="miss") >= 2
    assert value(samples, "semblance_collection_documents", collection="shop") == 6
    assert value(samples, "semblance_collection_version", collection="shop") >= 1
    assert value(samples, "semblance_jobs", kind="toy", state="queued") == 1
    assert ("semblance_jobs", (("kind", "toy"), ("state", "done"))) in samples


def test_counts_of_the_engine_are_taken_over_once(mugs):
    mugs.post(SEARCH, json={"query": "red"})
    first, second = (counted(mugs.get("/metrics").text) for _ in range(2))
    labels = {"tier": "memory", "outcome": "miss"}
    assert value(first, "semblance_cache_lookups_total", **labels) == value(second, "semblance_cache_lookups_total", **labels) > 0


def test_failures_and_confidence_are_counted():
    metrics = Metrics()
    metrics.see_batch(BatchSeen([0.1, 0.2], 7, [DeadlineExceeded("late"), RuntimeError("oops")]))
    samples = counted(metrics.page().decode())
    assert value(samples, "semblance_search_queue_depth") == 7
    assert value(samples, "semblance_search_failures_total", error="DeadlineExceeded") == 1
    assert value(samples, "semblance_search_failures_total", error="unforeseen") == 1


def names():
    page = Metrics().page().decode()
    return set(re.findall(r"^# TYPE (\S+) ", page, re.M)), set(re.findall(r"^# TYPE (\S+) histogram", page, re.M))


def test_the_dashboard_uses_only_metrics_that_exist():
    plain, histograms = names()
    known = plain | {f"{name}_{end}" for name in histograms for end in ("bucket", "sum", "count")}
    dashboard = json.loads((ROOT / "docs/grafana/semblance.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {name for expression in expressions for name in re.findall(r"semblance_\w+", expression)}
    assert used <= known
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} == {name for name in plain if not name.endswith("_created")}


def test_the_page_on_observability_lists_every_metric():
    page = (ROOT / "docs/observability.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(semblance_\w+)`", page, re.M)) == {n for n in names()[0] if not n.endswith("_created")}


def test_health_turns_red_while_the_encoder_is_stuck_and_green_again(mugs, monkeypatch):
    services = mugs.app.state.services
    gate, search = threading.Event(), services.engine.search_many
    monkeypatch.setattr(services.batcher, "_search", lambda *a: (gate.wait(20), search(*a))[1])
    services.settings.__dict__["deadline_s"] = 0.2
    asking = threading.Thread(target=mugs.post, args=(SEARCH,), kwargs={"json": {"query": "red"}})
    assert mugs.get("/healthz").status_code == 200
    asking.start()
    time.sleep(0.6)
    stuck = mugs.get("/healthz")
    assert (stuck.status_code, stuck.headers["retry-after"]) == (503, "1")
    assert value(counted(mugs.get("/metrics").text), "semblance_longest_running_seconds") > 0.4
    gate.set()
    asking.join()
    assert mugs.get("/healthz").status_code == 200
