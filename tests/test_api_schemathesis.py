"""Whatever the OpenAPI document allows or forbids: no request makes the real server fail, and every answer is documented."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

EXAMPLES = 6
LONG_EXAMPLES = 400


@pytest.fixture(scope="module")
def server(toy_server, request):
    toy_server.client.put("/v1/collections/shop").raise_for_status()
    documents = [{"id": f"p{number}", "title": f"red mug {number}", "attributes": {"price": number}} for number in range(5)]
    toy_server.client.post("/v1/collections/shop/documents", json={"documents": documents}).raise_for_status()
    return toy_server


def operations(server):
    schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
    return [result.ok() for result in schema.get_all_operations()]


def hold(server, operation, examples):
    takes_input = operation.definition.raw.get("parameters") or operation.definition.raw.get("requestBody")
    modes = schemathesis.GenerationMode if takes_input else [schemathesis.GenerationMode.POSITIVE]
    for strategy in [operation.as_strategy(generation_mode=mode) for mode in modes]:

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def answers_are_documented(case):
            if "collection" in (case.path_parameters or {}) and operation.method.upper() != "DELETE":
                case.path_parameters["collection"] = "shop"  # most made-up names end at 404
            answer = case.call(timeout=20)
            said = f"{case.as_curl_command()}\n{answer.status_code} {answer.text[:500]}"
            assert answer.status_code < 500, said
            documented = operation.definition.raw["responses"]
            assert str(answer.status_code) in {*documented, "400", "405", "421"}, said  # these three answer what is hardly HTTP
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == ["application/problem+json"], said

        answers_are_documented()


def test_no_request_the_document_allows_or_forbids_makes_the_server_fail(server):
    for operation in operations(server):
        hold(server, operation, EXAMPLES)
    assert server.client.get("/readyz").status_code == 200


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_no_request_of_many_makes_the_server_fail(server):
    for operation in operations(server):
        hold(server, operation, LONG_EXAMPLES)
    assert server.client.get("/readyz").status_code == 200
