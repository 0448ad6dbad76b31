"""Keys over HTTP: who gets in, with what, to which collection."""

import asyncio
import base64
from urllib.parse import quote, unquote, urlsplit

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.auth import Need, keys_required, need_of
from api.keys import KeyRequest, KeyRing
from engine.config import Settings
from engine.testing import COLOURS

SHOP = "/v1/collections/shop"
PROBLEM = "urn:semblance:problem:"


@pytest.fixture
def guarded(toy_engine, colour_picture):
    """A client of a server that asks for keys, over a shop with the products `mug` and `a/image`, and an empty `cellar`."""
    from engine.datatypes import Document

    toy_engine.create("cellar")
    picture = base64.b64decode(colour_picture(COLOURS["red"]))
    documents = [
        Document("mug", "red mug", "", ("up",), {}),
        Document("a", "red a", "", ("up",), {}),
        Document("a/image", "x", "", (), {}),
    ]
    toy_engine.index("shop", documents, uploads={"up": picture})
    settings = toy_engine.settings.model_copy(update={"api_keys": "on", "rate_limit": 0})
    with TestClient(create_app(settings, toy_engine), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def key(toy_engine):
    """Make a key and give the header that carries it."""
    ring = KeyRing(toy_engine.settings.data)

    def make(scope="read", *collections, name="test"):
        return {"authorization": f"Bearer {ring.create(KeyRequest(name, scope, collections))[1]}"}

    return make


REQUESTS = [
    ("GET", "/v1/collections", "read"),
    ("GET", SHOP, "read"),
    ("GET", f"{SHOP}/documents/mug", "read"),
    ("GET", f"{SHOP}/documents/mug/image", "read"),
    ("POST", f"{SHOP}/search/text", "read"),
    ("POST", f"{SHOP}/search/image", "read"),
    ("POST", f"{SHOP}/search", "read"),
    ("POST", "/v1/embeddings", "read"),
    ("GET", "/v1/models", "read"),
    ("POST", f"{SHOP}/documents", "write"),
    ("PATCH", f"{SHOP}/documents/mug", "write"),
    ("DELETE", f"{SHOP}/documents/none", "write"),
    ("PUT", SHOP, "admin"),
    ("DELETE", "/v1/collections/none", "admin"),
    ("POST", f"{SHOP}/restore", "admin"),
    ("GET", f"{SHOP}/snapshots", "admin"),
    ("GET", f"{SHOP}/snapshots/20260101-000000.tar", "admin"),
    ("DELETE", f"{SHOP}/snapshots/20260101-000000.tar", "admin"),
    ("GET", "/v1/aliases", "read"),
    ("PUT", "/v1/aliases/live", "admin"),
    ("DELETE", "/v1/aliases/live", "admin"),
]


@pytest.mark.parametrize(("method", "path", "scope"), REQUESTS)
def test_each_request_needs_its_scope(guarded, key, method, path, scope):
    statuses = {name: guarded.request(method, path, headers=key(name)).status_code for name in ("read", "write", "admin")}
    for name, status in statuses.items():
        enough = ["read", "write", "admin"].index(name) >= ["read", "write", "admin"].index(scope)
        assert (status != 403) is enough, (name, status)
        assert status not in (401, 500)


@pytest.mark.parametrize(("method", "path", "scope"), REQUESTS)
def test_without_a_key_the_answer_is_401_with_the_remedy(guarded, method, path, scope):
    answer = guarded.request(method, path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"{PROBLEM}key-required"
    assert "semblance keys create" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/docs", "/static/page.js", "/favicon.ico", "/openapi.json", "/healthz", "/readyz"])
def test_the_page_and_the_probes_are_open(guarded, path):
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/admin/", "/v1", "/v1/", "/v2/x", "//v1/collections", "/static", "/v1/collections/"])
def test_everything_else_is_closed_even_where_nothing_is(guarded, path):
    assert guarded.get(path).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer smb_000000000000_" + "a" * 43},
        {"authorization": "Bearer nonsense"},
        {"authorization": "Bearer " + "x" * 5000},
        {"x-api-key": "é".encode("latin-1")},
        {"x-api-key": "smb_../../../x_" + "a" * 43},
    ],
)
def test_a_key_nobody_made_is_unknown(guarded, headers):
    answer = guarded.get(SHOP, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (401, f"{PROBLEM}key-unknown")


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer"}, {"authorization": "Bearer  "}, {"authorization": "Basic eDp5"}, {"x-api-key": " "}]
)
def test_a_header_without_a_key_is_no_key(guarded, headers):
    assert guarded.get(SHOP, headers=headers).json()["type"] == f"{PROBLEM}key-required"


def test_both_headers_carry_a_key_and_case_does_not_matter(guarded, key):
    text = key()["authorization"].removeprefix("Bearer ")
    for headers in ({"authorization": f"bearer {text}"}, {"X-API-KEY": text}, {"authorization": "Basic eDp5", "x-api-key": text}):
        assert guarded.get(SHOP, headers=headers).status_code == 200


def test_a_key_of_one_collection_reaches_no_other(guarded, key):
    headers = key("admin", "shop")
    assert guarded.get(SHOP, headers=headers).status_code == 200
    assert guarded.put(SHOP, headers=headers).status_code == 200
    for method, path in [("GET", "/v1/collections/cellar"), ("PUT", "/v1/collections/new"), ("DELETE", "/v1/collections/cellar")]:
        answer = guarded.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (403, f"{PROBLEM}key-not-allowed")
    assert [entry["name"] for entry in guarded.get("/v1/collections", headers=headers).json()["collections"]] == ["shop"]
    assert guarded.post("/v1/embeddings", headers=headers, json={"input": "red"}).status_code == 200
    assert guarded.get("/metrics", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/v1/collections/shop/../cellar",
        "/v1/collections/shop%2f..%2fcellar",
        "/v1/collections/cellar%2f",
        "/v1/collections//cellar",
        "/v1/collections/./cellar",
        "/v1/collections/cellar%00",
        "/v1/%63ollections/cellar",
        "/v1/collections/CELLAR",
    ],
)
def test_no_spelling_of_a_path_gets_around_the_collection(guarded, key, path):
    status, body = raw(guarded.app, path, key("admin", "shop"))
    assert status in (401, 403, 404, 422), body
    assert b'"documents"' not in body


def raw(app, path, headers, method="GET", body_may_be_read=True):
    """Send a path exactly as it is."""
    sent = []

    async def receive():
        assert body_may_be_read
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), *((name.encode(), value.encode()) for name, value in headers.items())],
        "http_version": "1.1",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "asgi": {"version": "3.0"},
        "extensions": {},
        "state": {},
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_the_check_and_the_routes_agree_on_the_collection():
    """For every route: whatever the router takes as `collection` is what the check takes."""
    from starlette.routing import Match

    app = create_app(Settings())
    for name in ("shop", "a b", "é", "..", "x%2Fy"):
        for path in app.openapi()["paths"]:
            address = path.replace("{collection}", name).replace("{id}", "1/2")
            for route in app.router.routes:
                match, child = route.matches({"type": "http", "method": "GET", "path": address, "root_path": "", "headers": []})
                if match is not Match.NONE and "collection" in child.get("path_params", {}):
                    need = need_of("GET", address)
                    assert need is not None
                    assert need.collection == child["path_params"]["collection"], address


def test_needs_are_documented(guarded):
    document = guarded.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            need = need_of(method.upper(), path)
            if need is None:
                assert "security" not in operation
            else:
                assert operation["security"] == [{"bearer": [need.scope]}, {"header": [need.scope]}]
                assert {"401", "403", "429"} <= set(operation["responses"])


def test_an_unknown_method_or_address_needs_writing():
    assert need_of("BREW", "/v1/anything") == Need("write")
    assert need_of("POST", "/v1/collections/shop/searching") == Need("write", "shop")


def test_pictures_show_in_a_browser_that_sends_no_key(guarded, key):
    hits = guarded.post(f"{SHOP}/search/text", json={"query": "red mug"}, headers=key()).json()["hits"]
    address = next(hit["image"] for hit in hits if hit["id"] == "mug")
    assert "?pass=" in address
    assert guarded.get(address).headers["content-type"] == "image/webp"
    assert guarded.get(f"{address}&size=100").status_code == 200
    product = guarded.get(f"{SHOP}/documents/mug", headers=key()).json()
    assert guarded.get(product["image"]).status_code == 200


def test_a_pass_opens_one_picture_and_nothing_else(guarded, key):
    shown = guarded.get(f"{SHOP}/documents/a", headers=key()).json()["image"]
    given = urlsplit(shown).query
    for path in (f"{SHOP}/documents/mug/image", f"{SHOP}/documents/a", SHOP, f"{SHOP}/documents/{quote('a/image', safe='')}"):
        assert guarded.get(f"{path}?{given}").status_code == 401, path
    assert guarded.delete(shown).status_code == 401
    assert guarded.get(shown.replace("pass=", "pass=1")).status_code == 401


def test_without_keys_addresses_of_pictures_are_bare(mugs):
    assert mugs.get(f"{SHOP}/documents/p1").json()["image"] == f"{SHOP}/documents/p1/image"


@pytest.mark.parametrize(
    ("settings", "required"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "10.0.0.1"}, True),
        ({"host": "shop.example"}, True),
        ({"allowed_hosts": ("localhost",)}, False),
        ({"allowed_hosts": ("localhost", "shop.example")}, True),
        ({"host": "0.0.0.0", "api_keys": "off"}, False),
        ({"api_keys": "on"}, True),
    ],
)
def test_keys_are_asked_for_as_soon_as_others_can_reach_the_server(settings, required):
    assert keys_required(Settings(**settings)) is required


def test_a_new_key_works_at_once_and_a_revoked_one_no_more(guarded, toy_engine):
    ring = KeyRing(toy_engine.settings.data)
    made, text = ring.create(KeyRequest("x"))
    headers = {"x-api-key": text}
    assert guarded.get(SHOP, headers=headers).status_code == 200
    ring.revoke(made.id)
    assert guarded.get(SHOP, headers=headers).json()["type"] == f"{PROBLEM}key-unknown"


def test_the_folder_of_the_keys_is_no_collection(guarded, key):
    assert guarded.get("/v1/collections/_keys", headers=key("admin")).status_code == 422
    assert "_keys" not in guarded.get("/v1/collections", headers=key("admin")).text


def test_a_body_is_not_read_before_the_key_is_checked(guarded):
    status, body = raw(guarded.app, f"{SHOP}/documents", {}, method="POST", body_may_be_read=False)
    assert status == 401, body
