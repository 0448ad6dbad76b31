"""Drawing over HTTP: jobs, previews, budgets, refusals, and what a search says when it begins one."""

import io
import threading
import time
from dataclasses import replace

import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.app import create_app
from api.keys import KeyRequest, KeyRing
from engine.generation.provenance import is_synthetic
from engine.testing import COLOURS, toy_studio


class Gate:
    """A studio that waits to be let through, and counts."""

    def __init__(self) -> None:
        self.studio, self.open, self.drawn, self.pause_s = toy_studio(), threading.Event(), 0, 0.0
        self.open.set()

    def draw(self, request, progress=None):
        assert self.open.wait(20)
        self.drawn += 1
        return self.studio.draw(request, progress and (lambda *seen: progress(*seen) and not time.sleep(self.pause_s)))


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


def client_of(engine, gate, **settings):
    engine.settings = engine.settings.model_copy(update=settings)
    return TestClient(create_app(engine.settings, engine, gate), base_url="http://localhost", raise_server_exceptions=False)


@pytest.fixture
def shop(toy_engine, gate, colour_picture):
    with client_of(toy_engine, gate, drawing_queue=2, drawing_candidates=2) as client:
        fill(client, colour_picture)
        yield client


def fill(client, colour_picture, **headers):
    client.put("/v1/collections/shop", **headers).raise_for_status()
    documents = [{"id": name, "title": f"{name} mug", "images": [colour_picture(colour)]} for name, colour in COLOURS.items()]
    client.post("/v1/collections/shop/documents", json={"documents": documents}, **headers).raise_for_status()


def finished(client, id, **headers):
    for _ in range(200):
        job = client.get(f"/v1/jobs/{id}", **headers).json()
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def ask(client, prompt="red [style:shiny]", **fields):
    return client.post("/v1/generate", json={"prompt": prompt, "collection": "shop", **fields})


def test_an_order_is_a_job_whose_result_is_labelled_and_comes_with_products(shop):
    answer = ask(shop, "red", k=3)
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    job = finished(shop, answer.json()["id"])
    assert (job["state"], job["kind"], job["collection"]) == ("done", "generate", "shop")
    result = job["result"]
    assert result["synthetic"] is result["drawing"]["synthetic"] is True
    assert result["closest"][0]["id"] == "red"
    assert len(result["closest"]) == 3
    assert result["closest"][0]["image"] == "/v1/collections/shop/documents/red/image"
    picture = shop.get(result["drawing"]["image"])
    assert picture.headers["content-type"] == "image/png"
    assert is_synthetic(picture.content)
    assert Image.open(io.BytesIO(picture.content)).size == (64, 64)


def test_a_drawing_uploaded_as_a_product_is_refused(shop):
    import base64

    job = finished(shop, ask(shop, "red").json()["id"])
    data = base64.b64encode(shop.get(job["result"]["drawing"]["image"]).content).decode()
    answer = shop.post("/v1/collections/shop/documents", json={"documents": [{"id": "x", "title": "mug", "images": [data]}]})
    assert "drawing made by a model" in answer.text
    assert answer.json()["created"] == 0
    found = shop.post("/v1/collections/shop/search/image", json={"image": data, "k": 20}).json()
    assert {hit["id"] for hit in found["hits"]} == set(COLOURS)


def test_events_show_candidates_and_end(shop, gate):
    gate.open.clear()
    gate.pause_s = 0.5
    id = ask(shop).json()["id"]
    threading.Timer(0.5, gate.open.set).start()
    with shop.stream("GET", f"/v1/jobs/{id}/events") as stream:
        text = "".join(stream.iter_text())
    assert text.count("event: preview") == 2
    assert "data:image/webp;base64," in text
    assert text.rstrip().rsplit("event: ", 1)[1].startswith("done")


def test_the_same_order_is_one_job_and_drawn_once(shop, gate):
    first = finished(shop, ask(shop).json()["id"])
    assert ask(shop).json()["id"] == first["id"]
    assert ask(shop, seed=1).json()["id"] != first["id"]
    other = finished(shop, ask(shop, k=2).json()["id"])
    assert other["result"]["drawing"] == first["result"]["drawing"]
    finished(shop, ask(shop, seed=1).json()["id"])
    assert gate.drawn == 2


def test_when_products_change_the_closest_are_looked_up_again(shop, gate):
    first = finished(shop, ask(shop, "red").json()["id"])
    shop.delete("/v1/collections/shop/documents/red").raise_for_status()
    again = finished(shop, ask(shop, "red").json()["id"])
    assert first["result"]["closest"][0]["id"] == "red"
    assert "red" not in [hit["id"] for hit in again["result"]["closest"]]
    assert gate.drawn == 1


def test_the_queue_is_bounded_and_waiting_jobs_can_be_cancelled(shop, gate):
    gate.open.clear()
    ids = []
    for seed in range(8):
        answer = ask(shop, seed=seed)
        if answer.status_code == 503:
            break
        ids.append(answer.json()["id"])
        time.sleep(0.1)
    assert (answer.status_code, len(ids)) == (503, 3)  # one under way, two waiting
    assert shop.delete(f"/v1/jobs/{ids[-1]}").status_code == 202
    gate.open.set()
    assert [finished(shop, id)["state"] for id in ids] == ["done", "done", "cancelled"]
    assert gate.drawn == 2


def test_a_running_job_is_cancelled_between_candidates(shop, gate):
    gate.open.clear()
    id = ask(shop, candidates=16).json()["id"]
    time.sleep(0.6)
    shop.delete(f"/v1/jobs/{id}")
    gate.open.set()
    job = finished(shop, id)
    assert (job["state"], job["result"]) == ("cancelled", None)


@pytest.mark.parametrize(("prompt", "rule"), [("a nude woman", "sexual"), ("杯子[风格:纳粹]", "hate")])
def test_blocked_words_are_refused_at_once_by_rule(shop, gate, prompt, rule):
    answer = ask(shop, prompt)
    assert (answer.status_code, answer.json()["rule"]) == (422, rule)
    assert answer.json()["type"] == "urn:semblance:problem:generation-refused"
    assert gate.drawn == 0


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"where": "price > 1"}, 422),
        ({"collection": "none"}, 404),
        ({"where": "price <"}, 422),
        ({"style": "baroque"}, 422),
        ({"size": 63}, 422),
        ({"candidates": 17}, 422),
        ({"prompt": ""}, 422),
        ({"prompt": "[avoid:red]"}, 422),
        ({"image": "bm90IGEgcGljdHVyZQ=="}, 422),
        ({"colour": "red"}, 422),
    ],
)
def test_orders_that_make_no_sense(shop, fields, status):
    answer = ask(shop, **fields)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_photo_can_be_restyled(shop, colour_picture):
    job = finished(shop, ask(shop, "red", image=colour_picture("green"), strength=0.3).json()["id"])
    assert job["state"] == "done", job
    assert b"compositeWithTrainedAlgorithmicMedia" in shop.get(job["result"]["drawing"]["image"]).content


def search(client, fallback=None, query="red mug", **fields):
    body = {"query": query, **fields} | ({"fallback": fallback} if fallback else {})
    return client.post("/v1/collections/shop/search/text", json=body).json()


def test_a_search_begins_a_drawing_only_when_told_or_when_there_is_no_answer(shop, gate):
    assert search(shop)["generation"] is None  # this encoder has no calibration: its decision is `answer`
    assert search(shop, "never")["generation"] is None
    begun = search(shop, "always")
    assert begun["hits"]
    assert begun["generation"] == {"job": begun["generation"]["job"], "reason": None, "rule": None}
    job = finished(shop, begun["generation"]["job"])
    assert job["result"]["closest"][0]["id"] == "red"
    assert search(shop, "always")["generation"] == begun["generation"]
    assert gate.drawn == 1


def test_the_decision_generate_begins_one_by_itself(shop, toy_engine, monkeypatch):
    answers = toy_engine.search_many
    monkeypatch.setattr(
        toy_engine, "search_many", lambda *a, **k: [replace(answer, decision="generate") for answer in answers(*a, **k)]
    )
    with client_of(toy_engine, Gate()) as client:
        assert search(client)["generation"]["job"]
        assert search(client, "never")["generation"] is None
    with client_of(toy_engine, Gate(), fallback="never") as client:
        assert search(client)["generation"] is None
        assert search(client, "auto", "blue mug")["generation"]["job"]  # nobody has asked for it, so it is not remembered


def test_a_search_that_safety_refuses_to_draw_still_answers(shop):
    answer = search(shop, "always", "nude woman mug")
    assert answer["hits"]
    assert (answer["generation"]["job"], answer["generation"]["rule"]) == (None, "sexual")


def test_a_search_that_abstains_for_safety_says_which_rule(shop, toy_engine, monkeypatch):
    answers = toy_engine.search_many
    monkeypatch.setattr(
        toy_engine, "search_many", lambda *a, **k: [replace(answer, decision="abstain") for answer in answers(*a, **k)]
    )
    with client_of(toy_engine, Gate()) as client:
        assert search(client, "auto", "nude woman")["generation"]["rule"] == "sexual"
        assert search(client, "auto", "qwrt")["generation"] is None
        assert search(client, "never", "naked man")["generation"] is None


def test_other_kinds_of_searches_fall_back_too(shop, colour_picture):
    by_image = shop.post("/v1/collections/shop/search/image", json={"image": colour_picture("blue"), "fallback": "always"}).json()
    assert finished(shop, by_image["generation"]["job"])["result"]["closest"][0]["id"] == "blue"
    terms = [{"text": "red"}, {"id": "green", "weight": 0.1}]
    by_terms = shop.post("/v1/collections/shop/search", json={"terms": terms, "fallback": "always"}).json()
    assert finished(shop, by_terms["generation"]["job"])["result"]["closest"][0]["id"] == "red"


def test_without_a_generator_nothing_is_drawn(toy_engine, colour_picture):
    with client_of(toy_engine, None, generator="none") as client:
        fill(client, colour_picture)
        assert ask(client).status_code == 501
        assert search(client)["generation"] is None
        told = search(client, "always")["generation"]
        assert told["job"] is None
        assert "nothing that draws" in told["reason"]
        assert client.get(f"/v1/drawings/{'0' * 32}/image").status_code == 404


def test_drawings_that_are_not_there(shop):
    assert shop.get(f"/v1/drawings/{'0' * 32}/image").status_code == 404
    assert shop.get("/v1/drawings/..%2f..%2fkeys/image").status_code in (404, 422)


def test_keys_have_budgets_reach_and_passes(toy_engine, gate, colour_picture):
    ring = KeyRing(toy_engine.settings.data)
    admin = ring.create(KeyRequest("admin", "admin"))[1]
    reader = ring.create(KeyRequest("page", "read", ("shop",)))[1]
    stranger = ring.create(KeyRequest("other", "read", ("elsewhere",)))[1]
    as_ = lambda key: {"headers": {"Authorization": f"Bearer {key}"}}  # noqa: E731
    with client_of(toy_engine, gate, api_keys="on", drawing_budget=2, drawing_candidates=1) as client:
        fill(client, colour_picture, **as_(admin))
        body = {"prompt": "red", "collection": "shop"}
        assert client.post("/v1/generate", json=body).status_code == 401
        assert client.post("/v1/generate", json=body, **as_(stranger)).status_code == 403
        id = client.post("/v1/generate", json=body, **as_(reader)).json()["id"]
        drawing = finished(client, id, **as_(reader))["result"]["drawing"]
        assert client.get(drawing["image"]).status_code == 200  # its address carries a pass
        assert client.get(drawing["image"].partition("?")[0]).status_code == 401
        assert client.post("/v1/generate", json=body, **as_(reader)).status_code == 202  # the same one costs nothing
        assert client.post("/v1/generate", json=body | {"seed": 1}, **as_(reader)).status_code == 202
        spent = client.post("/v1/generate", json=body | {"seed": 2}, **as_(reader))
        assert spent.status_code == 429
        assert int(spent.headers["Retry-After"]) > 60
        searched = client.post("/v1/collections/shop/search/text", json={"query": "mug", "fallback": "always"}, **as_(reader))
        assert searched.status_code == 200
        assert "used up" in searched.json()["generation"]["reason"]
