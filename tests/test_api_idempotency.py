import threading
import time

import pytest

from api.idempotency import FILE, KEPT_S, Answers
from engine.errors import StorageError

SHOP = "/v1/collections/shop"
DOCUMENTS = f"{SHOP}/documents"
PROBLEM = "urn:semblance:problem:"


class Clock:
    now = 1e9

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def answers(tmp_path, clock):
    return Answers(tmp_path, busy_s=5, patience_s=60, clock=clock)


def test_the_first_request_goes_on_and_the_second_gets_its_answer(answers, tmp_path, clock):
    assert answers.claim(b"n", b"r") is None
    assert answers.claim(b"n", b"r").answer is None
    answers.settle(b"n", b"done")
    again = Answers(tmp_path, busy_s=5, patience_s=60, clock=clock).claim(b"n", b"r")
    assert (again.same, again.answer) == (True, b"done")
    assert answers.claim(b"n", b"other").same is False
    assert answers.claim(b"m", b"r") is None


def test_a_failed_request_can_be_tried_again(answers):
    answers.claim(b"n", b"r")
    answers.settle(b"n", None)
    assert answers.claim(b"n", b"r") is None


def test_a_request_that_died_with_its_process_is_taken_over(answers, clock):
    answers.claim(b"n", b"r")
    clock.now += 59
    assert answers.claim(b"n", b"r") is not None
    clock.now += 2
    assert answers.claim(b"n", b"r") is None


def test_answers_are_forgotten_after_a_day(answers, clock):
    answers.claim(b"n", b"r")
    answers.settle(b"n", b"done")
    clock.now += KEPT_S + 1
    assert answers.claim(b"n", b"r") is None


def test_of_many_at_once_exactly_one_goes_on(answers, tmp_path):
    first = []
    barrier = threading.Barrier(8)

    def ask():
        mine = Answers(tmp_path, busy_s=20, patience_s=60)
        barrier.wait()
        first.append(mine.claim(b"n", b"r") is None)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(first) == [False] * 7 + [True]


def test_a_folder_that_refuses_is_an_error_of_storage(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(StorageError, match="check the folder"):
        Answers(tmp_path, busy_s=1, patience_s=1).claim(b"n", b"r")


def test_a_repeated_write_gets_the_same_answer_and_changes_nothing(mugs):
    body = {"documents": [{"id": "new", "title": "pot"}]}
    first = mugs.post(DOCUMENTS, json=body, headers={"idempotency-key": "k1"})
    version = mugs.get(SHOP).json()["version"]
    again = mugs.post(DOCUMENTS, json=body, headers={"idempotency-key": "k1"})
    assert first.json()["created"] == 1
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert mugs.get(SHOP).json()["version"] == version


def test_an_empty_answer_is_repeated_too(mugs):
    headers = {"idempotency-key": "k1"}
    assert mugs.delete(f"{DOCUMENTS}/p1", headers=headers).status_code == 204
    assert mugs.delete(f"{DOCUMENTS}/p1", headers=headers).status_code == 204
    assert mugs.delete(f"{DOCUMENTS}/p1").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", DOCUMENTS, b'{"documents": [{"id": "new", "title": "other"}]}'),
        ("POST", DOCUMENTS + "?x=1", b'{"documents": [{"id": "new", "title": "pot"}]}'),
        ("PATCH", f"{DOCUMENTS}/new", b'{"documents": [{"id": "new", "title": "pot"}]}'),
        ("DELETE", f"{DOCUMENTS}/p1", b""),
        ("PUT", "/v1/collections/another", b""),
    ],
)
def test_the_same_key_with_another_request_is_refused_and_changes_nothing(mugs, method, path, body):
    headers = {"idempotency-key": "k1", "content-type": "application/json"}
    assert mugs.post(DOCUMENTS, content=b'{"documents": [{"id": "new", "title": "pot"}]}', headers=headers).status_code == 200
    answer = mugs.request(method, path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (422, f"{PROBLEM}idempotency-key-reused")
    assert mugs.get(f"{DOCUMENTS}/new").json()["title"] == "pot"
    assert mugs.get(f"{DOCUMENTS}/p1").status_code == 200


def test_a_refused_write_may_be_corrected_under_its_key(mugs):
    headers = {"idempotency-key": "k1"}
    assert mugs.post(DOCUMENTS, json={"documents": []}, headers=headers).status_code == 422
    assert mugs.post(DOCUMENTS, json={"documents": [{"id": "n", "title": "x"}]}, headers=headers).status_code == 200


def test_a_write_that_failed_on_the_server_is_tried_again(mugs, toy_engine, monkeypatch):
    headers, body = {"idempotency-key": "k1"}, {"documents": [{"id": "n", "title": "x"}]}
    with monkeypatch.context() as broken:
        broken.setattr(type(toy_engine), "index", lambda *_, **__: 1 / 0)
        assert mugs.post(DOCUMENTS, json=body, headers=headers).status_code == 500
    assert mugs.post(DOCUMENTS, json=body, headers=headers).json()["created"] == 1


def test_while_the_first_is_under_way_the_second_is_asked_to_wait(mugs, toy_engine, monkeypatch):
    began, go_on = threading.Event(), threading.Event()
    index = type(toy_engine).index

    def slow(*arguments, **options):
        began.set()
        go_on.wait(10)
        return index(*arguments, **options)

    monkeypatch.setattr(type(toy_engine), "index", slow)
    body, headers, answers = {"documents": [{"id": "n", "title": "x"}]}, {"idempotency-key": "k1"}, []
    thread = threading.Thread(target=lambda: answers.append(mugs.post(DOCUMENTS, json=body, headers=headers)))
    thread.start()
    assert began.wait(10)
    answer = mugs.post(DOCUMENTS, json=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (409, f"{PROBLEM}request-under-way")
    assert answer.headers["retry-after"] == "1"
    go_on.set()
    thread.join()
    assert answers[0].status_code == 200
    assert mugs.post(DOCUMENTS, json=body, headers=headers).content == answers[0].content


@pytest.mark.parametrize("key", ["", " x", "x" * 256, "é".encode("latin-1"), "a\tb"])
def test_a_key_that_cannot_be_one_is_refused(mugs, key):
    assert mugs.put("/v1/collections/n", headers={"idempotency-key": key}).status_code == 400
    assert mugs.get("/v1/collections/n").status_code == 404


def test_searches_are_not_kept(mugs, toy_engine):
    for query in ("red", "blue"):
        answer = mugs.post(f"{SHOP}/search/text", json={"query": query}, headers={"idempotency-key": "k1"})
        assert answer.status_code == 200
    assert mugs.get(f"{SHOP}/snapshots", headers={"idempotency-key": "k2"}).status_code == 200  # a snapshot itself may be huge
    assert not (toy_engine.settings.data / FILE).exists()


def test_too_large_a_body_is_still_413_and_a_slow_one_does_not_hang(mugs):
    body = b"x" * 1_100_000
    answer = mugs.post(
        DOCUMENTS, content=(body[n : n + 50_000] for n in range(0, len(body), 50_000)), headers={"idempotency-key": "k"}
    )
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_where_answers_cannot_be_kept_the_write_is_not_made(mugs, toy_engine):
    (toy_engine.settings.data / FILE).mkdir()
    answer = mugs.put("/v1/collections/new", headers={"idempotency-key": "k1"})
    assert answer.status_code == 507
    assert str(toy_engine.settings.data) not in answer.text
    assert mugs.get("/v1/collections/new").status_code == 404


def test_a_form_may_be_written_anew(answers):
    from api.idempotency import _request_digest

    def scope(boundary):
        headers = [(b"content-type", f"multipart/form-data; boundary={boundary}".encode())]
        return {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}

    def body(boundary, word):
        return f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n{word}\r\n--{boundary}--'.encode()

    one, two = "1" * 32, "2" * 32
    assert _request_digest(scope(one), body(one, "x")) == _request_digest(scope(two), body(two, "x"))
    assert _request_digest(scope(one), body(one, "x")) != _request_digest(scope(two), body(two, "y"))


def test_each_api_key_has_its_own_names(toy_engine):
    from starlette.testclient import TestClient

    from api.app import create_app
    from api.keys import KeyRequest, KeyRing

    ring = KeyRing(toy_engine.settings.data)
    settings = toy_engine.settings.model_copy(update={"api_keys": "on"})
    with TestClient(create_app(settings, toy_engine), base_url="http://localhost") as client:
        for name, status in (("one", 201), ("two", 201)):
            text = ring.create(KeyRequest(name, "admin"))[1]
            assert client.put(f"/v1/collections/{name}", headers={"x-api-key": text, "idempotency-key": "k"}).status_code == status


def test_the_cost_of_a_key_is_small(answers):
    answers.claim(b"warm", b"r")
    began = time.perf_counter()
    for number in range(20):
        answers.claim(b"%d" % number, b"r")
        answers.settle(b"%d" % number, b"x" * 1000)
    assert (time.perf_counter() - began) / 20 < 0.2
