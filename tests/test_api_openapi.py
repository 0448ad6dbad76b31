"""The OpenAPI document is complete, and its examples are true."""

import difflib
import runpy
from pathlib import Path

import pytest
from fastapi.openapi.utils import REF_PREFIX

from api.app import create_app
from engine.config import Settings

SPECIFIED = {
    ("post", "/v1/collections/{collection}/search/text"),
    ("post", "/v1/collections/{collection}/search/image"),
    ("post", "/v1/collections/{collection}/search"),
    ("post", "/v1/collections/{collection}/search/recommend"),
    ("put", "/v1/collections/{collection}"),
    ("get", "/v1/collections/{collection}"),
    ("delete", "/v1/collections/{collection}"),
    ("get", "/v1/collections"),
    ("post", "/v1/collections/{collection}/documents"),
    ("get", "/v1/collections/{collection}/documents/{id}"),
    ("patch", "/v1/collections/{collection}/documents/{id}"),
    ("delete", "/v1/collections/{collection}/documents/{id}"),
    ("get", "/v1/collections/{collection}/documents/{id}/image"),
    ("post", "/v1/collections/{collection}/search/voice"),
    ("post", "/v1/generate"),
    ("get", "/v1/drawings/{id}/image"),
    ("post", "/v1/collections/{collection}/imports"),
    ("post", "/v1/collections/{collection}/imports/{id}/retry"),
    ("get", "/v1/collections/{collection}/imports/{id}/errors"),
    ("get", "/v1/collections/{collection}/imports/{id}/errors.csv"),
    ("delete", "/v1/collections/{collection}/documents"),
    ("post", "/v1/collections/{collection}/snapshots"),
    ("get", "/v1/collections/{collection}/snapshots"),
    ("get", "/v1/collections/{collection}/snapshots/{snapshot}"),
    ("delete", "/v1/collections/{collection}/snapshots/{snapshot}"),
    ("post", "/v1/collections/{collection}/restore"),
    ("get", "/v1/aliases"),
    ("put", "/v1/aliases/{alias}"),
    ("delete", "/v1/aliases/{alias}"),
    ("get", "/v1/jobs"),
    ("get", "/v1/jobs/{id}"),
    ("delete", "/v1/jobs/{id}"),
    ("get", "/v1/jobs/{id}/events"),
    ("post", "/v1/embeddings"),
    ("get", "/v1/models"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
}


@pytest.fixture(scope="module")
def document():
    return create_app(Settings()).openapi()


def operations(document):
    return {(method, path): operation for path, item in document["paths"].items() for method, operation in item.items()}


def resolve(document, schema):
    if "$ref" in schema:
        return document["components"]["schemas"][schema["$ref"].removeprefix(REF_PREFIX)]
    return schema


def test_every_route_of_the_specification_is_there_and_no_other(document):
    assert set(operations(document)) == SPECIFIED


def test_every_operation_has_a_summary_a_description_and_a_tag_that_is_described(document):
    described = {tag["name"] for tag in document["tags"]}
    for name, operation in operations(document).items():
        assert operation["summary"], name
        assert operation["description"], name
        assert set(operation["tags"]) <= described, name


def test_every_parameter_is_described(document):
    for name, operation in operations(document).items():
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (name, parameter["name"])


def test_every_body_has_an_example(document):
    for name, operation in operations(document).items():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        bodies += [response for status, response in operation["responses"].items() if status.startswith("2")]
        for body in bodies:
            for kind, content in body.get("content", {}).items():
                if not kind.startswith("image/"):
                    assert "example" in content or resolve(document, content["schema"]).get("examples"), (name, kind)


def test_every_error_is_documented_as_a_problem(document):
    for name, operation in operations(document).items():
        errors = {status: response for status, response in operation["responses"].items() if status[0] in "45"}
        if operation.get("parameters") or "requestBody" in operation:
            assert "422" in errors, name
        if name != ("get", "/healthz"):
            assert errors, name
        for status, response in errors.items():
            assert list(response["content"]) == ["application/problem+json"], (name, status)
            assert response["content"]["application/problem+json"]["example"]["status"] == int(status)


def test_every_reference_resolves(document):
    def walk(node):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                assert node["$ref"].removeprefix(REF_PREFIX) in document["components"]["schemas"], node
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)


def test_operation_ids_are_unique(document):
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)


def test_the_examples_of_requests_are_accepted(mugs):
    document = mugs.get("/openapi.json").json()
    for (method, path), operation in operations(document).items():
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            continue
        for example in resolve(document, content["schema"])["examples"]:
            answer = mugs.request(method, path.format(collection="shop", id="p1", alias="live"), json=example)
            # The examples' pictures are shortened; everything else about them must be right.
            if answer.status_code not in (200, 202, 207):
                assert answer.json()["type"] in (
                    "urn:semblance:problem:invalid-image",
                    "urn:semblance:problem:document-not-found",
                    "urn:semblance:problem:not-found",
                    "urn:semblance:problem:not-implemented",  # this server has nothing that draws
                    "urn:semblance:problem:invalid-input",  # this server has no import folder
                ), answer.text


@pytest.mark.parametrize("path", ["/v1/collections/shop/search/text"])
def test_answers_have_exactly_the_documented_fields(mugs, path):
    schema = mugs.get("/openapi.json").json()["components"]["schemas"]
    answer = mugs.post(path, json={"query": "red"}).json()
    assert set(answer) == set(schema["SearchResponse"]["properties"])
    assert set(answer["hits"][0]) == set(schema["SearchHit"]["properties"])
    document = mugs.get("/v1/collections/shop/documents/p1").json()
    assert set(document) == set(schema["DocumentOut"]["properties"])


def test_the_contract_with_clients_has_not_changed_by_accident():
    golden = Path(__file__).parent / "golden"
    written = (golden / "openapi.json").read_text(encoding="utf-8").splitlines()
    now = runpy.run_path(str(golden / "write_openapi.py"))["document"]().splitlines()
    difference = list(difflib.unified_diff(written, now, "openapi.json", "the application", lineterm="", n=2))
    remedy = "if that is meant, run `python tests/golden/write_openapi.py` and read the difference"
    assert difference == [], "\n".join([*difference[:60], remedy])
