"""The one table of statuses, and that every error that reaches a client is a problem."""

import pytest

from api.errors import STATUSES, problem, status_of
from engine import errors


def every_error(kind=errors.SemblanceError):
    return [kind, *(error for child in kind.__subclasses__() for error in every_error(child))]


def own_errors():
    return [error for error in every_error() if error.__module__ == "engine.errors"]


def test_every_error_of_the_engine_has_a_line_in_the_table():
    assert set(STATUSES) == set(own_errors())


def test_an_error_nobody_thought_of_gets_its_parents_status():
    class Newcomer(errors.InvalidQuery):
        pass

    assert status_of(Newcomer("x")) == 422


def test_what_the_caller_did_is_4xx_and_what_the_server_did_is_5xx():
    for kind in own_errors():
        if issubclass(kind, errors.InvalidInput | errors.NotFound | errors.Conflict):
            assert 400 <= STATUSES[kind] < 500, kind
        if issubclass(kind, errors.StorageError | errors.Unavailable | errors.ConfigurationError | errors.BundleError):
            assert STATUSES[kind] >= 500, kind


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/healthz", 405),
        ("PUT", "/v1/models", 405),
        ("GET", "/static/../../api/app.py", 404),
        ("GET", "/static/%2e%2e/%2e%2e/app.py", 404),
        ("GET", "/static/", 404),
        ("GET", "/v1/collections/shop/search/text", 405),
        ("GET", "/v1/collections/", 404),
    ],
)
def test_the_frameworks_own_errors_are_problems(api, method, path, status):
    answer = api.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "instance", "request_id"}
    assert body["instance"].endswith(answer.headers["x-request-id"])
    assert ("allow" in answer.headers) is (status == 405)


def test_a_problem_has_a_stable_type_and_its_own_members():
    answer = problem({}, 422, "no", kind="InvalidFilter", column=3)
    assert b'"type":"urn:semblance:problem:invalid-filter"' in answer.body
    assert b'"column":3' in answer.body


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"query": "mug", "k": 1_001}, "body.k: Input should be less than or equal to 1000, not 1001"),
        ({"query": "mug", "target": "titel"}, "body.target: Input should be 'any', 'image' or 'title', not 'titel'"),
        ({"query": "x" * 20_000}, f"not '{'x' * 60}'... of 20000 characters"),
        ({"query": "mug", "where": 5}, "body.where: Input should be a valid string, not 5"),
    ],
)
def test_a_broken_rule_names_the_value_that_was_seen(mugs, body, said):
    answer = mugs.post("/v1/collections/shop/search/text", json=body)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("address", ["https://user:hunter2@host.example/a.png", "smb_0123456789ab_hunter2"])
def test_a_value_that_may_hold_a_secret_is_not_repeated(mugs, address):
    answer = mugs.post("/v1/collections/shop/search/text", json={"query": "mug", "k": address})
    assert answer.status_code == 422
    assert "body.k" in answer.json()["detail"]
    assert "hunter2" not in answer.text
