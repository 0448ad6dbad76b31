import pytest
from starlette.testclient import TestClient

from api.app import create_app

SHOP = "/v1/collections/shop"
ELSEWHERE = "https://evil.example"


@pytest.fixture
def served(toy_engine):
    clients = []

    def start(**options):
        settings = toy_engine.settings.model_copy(update=options)
        clients.append(TestClient(create_app(settings, toy_engine), base_url="http://localhost"))
        return clients[-1].__enter__()

    yield start
    for client in clients:
        client.__exit__(None, None, None)


def preflight(client, origin, method="POST", headers="content-type,authorization"):
    asked = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": headers}
    return client.options(f"{SHOP}/search/text", headers=asked)


def test_no_foreign_page_may_read_by_default(served):
    client = served()
    assert "access-control-allow-origin" not in client.get("/healthz", headers={"origin": ELSEWHERE}).headers
    assert "access-control-allow-origin" not in preflight(client, ELSEWHERE).headers


def test_named_origins_may_and_others_may_not(served):
    client = served(cors_origins=("https://shop.example",))
    answer = preflight(client, "https://shop.example")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://shop.example")
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]
    answer = client.get("/healthz", headers={"origin": "https://shop.example"})
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()
    for other in (ELSEWHERE, "https://shop.example.evil.example", "http://shop.example", "null"):
        assert preflight(client, other).status_code == 400
        assert "access-control-allow-origin" not in client.get("/healthz", headers={"origin": other}).headers


def test_a_star_admits_all(served):
    client = served(cors_origins=("*",))
    assert preflight(client, ELSEWHERE).headers["access-control-allow-origin"] == "*"
    assert client.put(SHOP, headers={"origin": ELSEWHERE, "sec-fetch-site": "cross-site"}).status_code == 201


def test_a_preflight_needs_no_key_and_a_refusal_can_be_read(served):
    client = served(cors_origins=("https://shop.example",), api_keys="on")
    assert preflight(client, "https://shop.example").status_code == 200
    answer = client.get(SHOP, headers={"origin": "https://shop.example"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "https://shop.example")


@pytest.mark.parametrize(
    ("headers", "welcome"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin", "origin": "http://localhost"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://behind.a.proxy"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "http://localhost"}, True),
        ({"sec-fetch-site": "cross-site", "origin": ELSEWHERE}, False),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost:3000"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"origin": ELSEWHERE}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://localhost.evil.example"}, False),
        ({"origin": ELSEWHERE, "x-api-key": "x"}, True),
        ({"origin": ELSEWHERE, "authorization": "Bearer x"}, True),
        ({"origin": ELSEWHERE, "authorization": "Basic eDp5"}, False),  # of http://x:y@localhost, sent unasked
    ],
)
def test_pages_elsewhere_cannot_write_to_a_server_without_keys(served, headers, welcome):
    client = served()
    answer = client.put(SHOP, headers=headers)
    assert answer.status_code == (201 if welcome else 403), answer.text
    if not welcome:
        assert answer.json()["type"] == "urn:semblance:problem:cross-site"
        assert client.get(SHOP).status_code == 404
        assert client.get("/healthz", headers=headers).status_code == 200


def test_pages_and_answers_have_strict_headers_and_name_no_third_party(served):
    client = served(cors_origins=("https://shop.example",))
    for path in ("/", "/docs", "/static/page.js", "/healthz", "/nowhere", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "no-referrer", path
        policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'", path
        assert policy["frame-ancestors"] == "'none'", path
        sources = " ".join(policy.values())
        assert "unsafe" not in sources, path
        assert "http" not in sources, path
        assert "*" not in sources, path
