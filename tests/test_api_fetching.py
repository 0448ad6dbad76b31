"""`image_url` and addresses of pictures in requests: off unless allowed, public hosts only, bounded."""

import asyncio
import base64
import http.server
import socket
import threading

import httpcore
import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.fetching import MAX_URLS, Fetching
from engine.addresses import AllowList
from engine.config import Settings
from engine.errors import FetchError, InvalidInput
from engine.fetch import CheckedNetwork, FetchLimits, RemoteFetcher
from engine.testing import COLOURS

SHOP = "/v1/collections/shop"
PUBLIC = "93.184.216.34"
URL = "http://cdn.example/red.png"


@pytest.fixture
def shelf(colour_picture):
    """A web server on this machine that stands for the host at `PUBLIC`; it shows pictures by colour and redirects `/to/...`."""

    class Shelf(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.server.seen.append(self.path)
            if self.path.startswith("/to/"):
                return self.answer(302, b"", Location=self.path[4:])
            name = self.path.strip("/").removesuffix(".png")
            self.answer(200, base64.b64decode(colour_picture(COLOURS[name])) if name in COLOURS else self.server.other)

        def answer(self, status, body, **headers):
            self.send_response(status)
            for header, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    server.seen, server.other, server.daemon_threads = [], b"no picture", True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


class Detour(httpcore.SyncBackend):
    """The real network, except that `PUBLIC` is the shelf; anything else that is connected is remembered and refused."""

    def __init__(self, port):
        self.port, self.strayed = port, []

    def connect_tcp(self, host, port, *rest):
        if host != PUBLIC:
            self.strayed.append(host)
            raise httpcore.ConnectError("strayed")
        return super().connect_tcp("127.0.0.1", self.port, *rest)


def resolve(host, port):
    known = {"cdn.example": PUBLIC, "inside.example": "10.0.0.7"}
    if host not in known:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known[host], port))]


@pytest.fixture
def fetching(mugs, toy_engine, shelf):
    """A client of a server that fetches from every public host; `client.detour` knows what strayed."""
    settings = toy_engine.settings.model_copy(update={"image_url_hosts": ("*",), "fetch_timeout_s": 5})
    allowed = AllowList(["*"], public_only=True)
    detour = Detour(shelf.server_port)
    network = CheckedNetwork(allowed, resolve=resolve, plain=detour)
    fetcher = RemoteFetcher(allowed, FetchLimits(settings.max_image_bytes, 5, 3), network=network)
    app = create_app(settings, toy_engine)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        services = app.state.services
        object.__setattr__(services, "fetching", Fetching(settings, fetcher))
        client.detour = detour
        yield client
    assert detour.strayed == []


def first(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["hits"][0]["id"]


def test_a_picture_is_searched_by_its_address(fetching, shelf):
    assert first(fetching.post(f"{SHOP}/search/image", json={"image_url": URL, "k": 1})) == "p1"
    assert first(fetching.post(f"{SHOP}/search/image", json={"image": "http://cdn.example/blue.png", "k": 1})) == "p3"
    assert first(fetching.post(f"{SHOP}/search", json={"terms": [{"image_url": URL}], "k": 1})) == "p1"
    assert shelf.seen == ["/red.png", "/blue.png", "/red.png"]


def test_a_picture_is_embedded_by_its_address(fetching, colour_picture):
    given = [{"type": "image_url", "image_url": {"url": URL}}, {"image": colour_picture(COLOURS["red"])}, {"image_url": URL}]
    one, two, three = (item["embedding"] for item in fetching.post("/v1/embeddings", json={"input": given}).json()["data"])
    assert one == pytest.approx(two)
    assert one == three


def test_products_may_name_their_pictures_and_the_server_keeps_copies(fetching, shelf):
    documents = [
        {"id": "n1", "title": "x", "images": [URL, "http://cdn.example/blue.png"]},
        {"id": "n2", "title": "y", "images": [URL]},
        {"id": "bad", "title": "z", "images": ["http://inside.example/red.png"]},
        {"id": "text", "title": "z", "images": ["http://cdn.example/readme"]},
    ]
    items = fetching.post(f"{SHOP}/documents", json={"documents": documents}).json()["items"]
    assert [item["status"] for item in items] == ["created", "created", "refused", "refused"]
    assert "images[0]" in items[2]["error"]
    assert "no public address" in items[2]["error"]
    assert sorted(shelf.seen) == ["/blue.png", "/readme", "/red.png"]  # each once
    assert fetching.get(f"{SHOP}/documents/n1").json()["images"] == 2
    assert fetching.get(f"{SHOP}/documents/n1").json()["image"] == f"{SHOP}/documents/n1/image"
    assert fetching.get(f"{SHOP}/documents/n1/image").status_code == 200
    patched = fetching.patch(f"{SHOP}/documents/n2", json={"images": ["http://cdn.example/green.png"]})
    assert patched.status_code == 200, patched.text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/red.png",
        "http://inside.example/red.png",
        "http://[::1]/",
        "http://169.254.169.254/latest",
        "http://2130706433/",
        "http://cdn.example/to/http://127.0.0.1/red.png",
        "http://cdn.example/to/http://inside.example/red.png",
        "http://cdn.example/to/file:///etc/passwd",
        "http://cdn.example:22/",
        "http://cdn.example@127.0.0.1/",
        "ftp://cdn.example/red.png",
        "file:///etc/passwd",
        "gopher://cdn.example/",
    ],
)
def test_nothing_inside_is_reached_by_any_route(fetching, url):
    answers = [
        fetching.post(f"{SHOP}/search/image", json={"image_url": url}),
        fetching.post(f"{SHOP}/search/image", json={"image": url}),
        fetching.post(f"{SHOP}/search", json={"terms": [{"image_url": url}]}),
        fetching.post("/v1/embeddings", json={"input": [{"image_url": {"url": url}}]}),
        fetching.patch(f"{SHOP}/documents/p1", json={"images": [url]}),
    ]
    assert [answer.status_code for answer in answers] == [422] * 5
    items = fetching.post(f"{SHOP}/documents", json={"documents": [{"id": "n", "title": "x", "images": [url]}]}).json()["items"]
    assert items[0]["status"] == "refused"
    for answer in answers:
        assert "10.0.0.7" not in answer.text


def test_addresses_are_not_fetched_unless_it_is_allowed(mugs, shelf):
    answer = mugs.post(f"{SHOP}/search/image", json={"image_url": f"http://127.0.0.1:{shelf.server_port}/red.png"})
    assert (answer.status_code, answer.json()["reason"]) == (422, "unsupported")
    assert "SEMBLANCE_IMAGE_URL_HOSTS" in answer.json()["detail"]
    assert shelf.seen == []


def test_a_private_host_is_not_reached_even_when_it_is_listed(mugs, toy_engine, shelf):
    hosts = ("127.0.0.1", f"127.0.0.1:{shelf.server_port}", "localhost")
    settings = toy_engine.settings.model_copy(update={"image_url_hosts": hosts, "fetch_hosts": hosts})
    with TestClient(create_app(settings, toy_engine), base_url="http://localhost") as client:
        answer = client.post(f"{SHOP}/search/image", json={"image_url": f"http://127.0.0.1:{shelf.server_port}/red.png"})
    assert answer.status_code == 422
    assert "no public address" in answer.json()["detail"]
    assert shelf.seen == []


def test_a_remote_picture_has_the_limits_of_an_uploaded_one(fetching, shelf):
    shelf.other = b"x" * 300_000
    answer = fetching.post(f"{SHOP}/search/image", json={"image_url": "http://cdn.example/large"})
    assert (answer.status_code, "larger than" in answer.json()["detail"]) == (422, True)
    shelf.other = b"<html>"
    answer = fetching.post(f"{SHOP}/search/image", json={"image_url": "http://cdn.example/page"})
    assert (answer.status_code, answer.json()["reason"]) == (422, "not_an_image")


@pytest.mark.parametrize("body", [{}, {"image": "x", "image_url": "y"}, {"image_url": ""}, {"image_url": None}, {"image_url": 5}])
def test_exactly_one_picture_is_searched_for(mugs, body):
    assert mugs.post(f"{SHOP}/search/image", json=body).status_code == 422


class Slow:
    """A fetcher whose pictures have `size` bytes."""

    def __init__(self, size):
        self.size, self.fetched = size, []

    def fetch(self, url):
        self.fetched.append(url)
        return b"x" * self.size

    def close(self):
        pass


def gather(fetcher, urls, **options):
    async def main():
        fetching = Fetching(Settings(image_url_hosts=("*",), **options), fetcher)
        try:
            async with fetching.fetched(urls) as found:
                held = fetching._held
            return found, held, fetching._held
        finally:
            await fetching.close()

    return asyncio.run(main())


def test_what_one_request_fetches_is_bounded_and_given_back():
    fetcher = Slow(400_000)
    found, held, after = gather(fetcher, [f"http://a/{n}" for n in range(20)], max_body_mb=1)
    good = [data for data in found.values() if isinstance(data, bytes)]
    refused = [data for data in found.values() if isinstance(data, FetchError)]
    assert len(good) == 2
    assert len(refused) == 18
    assert "send it in parts" in str(refused[0])
    assert len(fetcher.fetched) < 12
    assert held > 0
    assert after == 0


def test_one_request_may_not_name_too_many():
    with pytest.raises(InvalidInput, match="in parts"):
        gather(Slow(1), [f"http://a/{n}" for n in range(MAX_URLS + 1)])
    found, _, _ = gather(Slow(1), ["http://a/1"] * 1000 + ["aGVsbG8="])
    assert list(found) == ["http://a/1"]
