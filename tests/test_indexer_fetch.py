"""Picture locations: files as the catalogue says them, URLs only as the operator allows."""

import http.server
import socket
import threading
import time

import pytest

from engine.config import Settings
from engine.errors import FetchError, InvalidImage
from indexer.fetch import Fetcher, locate

ANSWERS = {
    "/loop": (302, b"", {"Location": "/loop"}),
    "/gone": (404, b"nothing here"),
    "/empty": (200, b""),
    "/says-large": (200, b"", {"Content-Length": str(10**9)}),
}


class Shelf(http.server.BaseHTTPRequestHandler):
    """Answers by path; `/to/URL` redirects."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("Host"), self.headers.get("Cookie")))
        if self.path.startswith("/to/"):
            self._answer(302, b"", {"Location": self.path[4:], "Set-Cookie": "a=b"})
        elif self.path in ANSWERS:
            self._answer(*ANSWERS[self.path])
        elif self.path == "/endless":
            self._endless()
        elif self.path.startswith("/drip"):
            self._drip(headers=self.path == "/drip-headers")
        else:
            self._answer(200, b"picture of " + self.path.encode())

    def _answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _endless(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        except OSError:
            self.close_connection = True

    def _drip(self, *, headers):
        try:
            if not headers:
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
            else:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.server.closing.wait(0.05):
                self.wfile.write(b"x")
                self.wfile.flush()
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    server.seen, server.closing, server.daemon_threads = [], threading.Event(), True
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def fetcher():
    with Fetcher(settings(("127.0.0.1",))) as fetcher:
        yield fetcher


def settings(hosts, **options):
    return Settings(fetch_hosts=hosts, fetch_timeout_s=1.0, max_image_mb=1.0, **options)


def test_a_picture_of_an_allowed_host_is_fetched(server, fetcher):
    url = f"{server.url}/a b/é.jpg?x=1"
    assert fetcher.read(url) == (b"picture of /a%20b/%C3%A9.jpg?x=1", url)
    assert server.seen[0][1] == f"127.0.0.1:{server.server_port}"


def test_localhost_is_reached_only_when_listed(server):
    url = f"http://localhost:{server.server_port}/x"
    with Fetcher(settings(("localhost",))) as fetcher:
        assert fetcher.read(url)[0] == b"picture of /x"
    with Fetcher(settings(("127.0.0.1",))) as fetcher, pytest.raises(FetchError, match="not allowed"):
        fetcher.read(url)


def test_a_public_name_with_a_private_address_is_refused(server, monkeypatch):
    def resolve(host, port, *args, **options):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = f"http://cdn.shop.example:{server.server_port}/x"
    with Fetcher(settings(("cdn.shop.example",))) as fetcher, pytest.raises(FetchError, match="private network"):
        fetcher.read(url)
    assert server.seen == []
    with Fetcher(settings(("cdn.shop.example", "127.0.0.1"))) as fetcher:
        assert fetcher.read(url)[0] == b"picture of /x"


def test_redirects_are_followed_and_checked(server, fetcher):
    assert fetcher.read(f"{server.url}/to//there")[0] == b"picture of /there"
    assert server.seen[-1][2] is None
    with pytest.raises(FetchError, match="not allowed"):
        fetcher.read(f"{server.url}/to/http://169.254.169.254/latest/meta-data")
    with pytest.raises(FetchError, match="only http"):
        fetcher.read(f"{server.url}/to/file:///etc/passwd")
    with pytest.raises(FetchError, match="more than 3 times"):
        fetcher.read(f"{server.url}/loop")
    assert [path for path, *_ in server.seen].count("/loop") == 4


def test_no_redirects_when_none_are_allowed(server):
    with Fetcher(settings(("127.0.0.1",), fetch_redirects=0)) as fetcher:
        assert fetcher.read(f"{server.url}/x")[0] == b"picture of /x"
        with pytest.raises(FetchError, match="more than 0 times"):
            fetcher.read(f"{server.url}/to//x")


@pytest.mark.parametrize("path", ["/endless", "/says-large"])
def test_a_body_beyond_the_limit_is_given_up(server, fetcher, path):
    with pytest.raises(FetchError, match="larger than 1 MB"):
        fetcher.read(server.url + path)


@pytest.mark.parametrize("path", ["/drip", "/drip-headers"])
def test_one_deadline_covers_everything(server, fetcher, path):
    began = time.monotonic()
    with pytest.raises(FetchError, match="within 1 s"):
        fetcher.read(server.url + path)
    assert time.monotonic() - began < 2.5


def test_errors_are_named(server, fetcher):
    with pytest.raises(FetchError, match="answered 404"):
        fetcher.read(f"{server.url}/gone")
    with pytest.raises(InvalidImage, match="empty"):
        fetcher.read(f"{server.url}/empty")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(FetchError, match="could not be reached"):
        fetcher.read(f"http://127.0.0.1:{port}/x")
    assert fetcher.read(f"{server.url}/still")[0] == b"picture of /still"


def test_passwords_are_not_shown(server, fetcher):
    with pytest.raises(FetchError) as error:
        fetcher.read(f"http://me:secret@127.0.0.1:{server.server_port}/gone")
    assert "404" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http:///x", "https://exa mple/", "http://\x00/"])
def test_urls_that_are_none(fetcher, url):
    with pytest.raises(FetchError):
        fetcher.read(url)


@pytest.mark.parametrize(
    ("cell", "location"),
    [
        ("a.jpg", "{base}/a.jpg"),
        ("sub/../a.jpg", "{base}/a.jpg"),
        ("/pics/a.jpg", "/pics/a.jpg"),
        ("sub\\a.jpg", "{base}/sub/a.jpg"),
        ("file:///pics/a%20b.jpg", "/pics/a b.jpg"),
        ("file://localhost/pics/a.jpg", "/pics/a.jpg"),
        ("https://x/a.jpg", "https://x/a.jpg"),
        ("HTTP://x/a.jpg", "HTTP://x/a.jpg"),
        ("//x/a.jpg", "https://x/a.jpg"),
        ("s3://bucket/a.jpg", "s3://bucket/a.jpg"),
        ("photo:1.jpg", "{base}/photo:1.jpg"),
    ],
)
def test_locations(tmp_path, cell, location):
    assert locate(cell, tmp_path) == location.format(base=tmp_path)


@pytest.mark.parametrize("location", ["s3://bucket/a.jpg", "data:image/png;base64,AAAA", "file://server/share/a.jpg", "ftp://x/a"])
def test_other_kinds_are_refused(fetcher, tmp_path, location):
    with pytest.raises(FetchError, match="not fetched"):
        fetcher.read(locate(location, tmp_path))


def test_files_are_read_and_their_faults_named(fetcher, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert fetcher.read(str(tmp_path / "a.jpg")) == (b"x", str(tmp_path / "a.jpg"))
    for name, reason in (("none.jpg", "missing"), ("", "missing"), ("x" * 5000, "missing"), ("../../dev/zero", "missing")):
        with pytest.raises(InvalidImage) as error:
            fetcher.read(locate(name, tmp_path))
        assert error.value.reason == reason
