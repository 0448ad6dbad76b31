import asyncio

import orjson
import pytest

from api.limits import BodyLimit, HostCheck, host_name, is_loopback
from api.middleware import Rim


async def echo(scope, receive, send):
    """Read the whole body and answer with its length."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


async def explode(scope, receive, send):
    raise RuntimeError("the password is hunter2")


def limited(**options):
    from fastapi import FastAPI, Request

    from api import errors

    app = FastAPI()
    errors.install(app)

    @app.post("/")
    async def size(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(BodyLimit, **{"limit": 100, "budget": 1000, "seconds": 5, **options})
    app.add_middleware(Rim)
    return app


def call(app, chunks=(b"",), headers=(), method="POST", pause=0.0, path="/"):
    """Send one request by hand, in chunks; returns status, headers, body and the number of chunks that were read."""

    async def main():
        sent, read = [], 0

        async def receive():
            nonlocal read
            if read >= len(chunks):
                await asyncio.sleep(60)
            await asyncio.sleep(pause)
            read += 1
            return {"type": "http.request", "body": chunks[read - 1], "more_body": read < len(chunks)}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers],
            "http_version": "1.1",
            "scheme": "http",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "asgi": {"version": "3.0"},
            "extensions": {},
        }
        await app(scope, receive, send)
        answered = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, b"".join(m.get("body", b"") for m in sent[1:]), read

    return asyncio.run(main())


def test_a_body_within_the_limit_passes():
    assert call(limited(), [b"x" * 60, b"y" * 40])[2] == b"100"


def test_a_body_without_content_length_is_cut_off_while_it_is_read():
    status, headers, body, read = call(limited(), [b"x" * 60] * 50)
    assert status == 413
    assert headers["content-type"] == "application/problem+json"
    assert b"send less" in body
    assert read == 2


def test_an_announced_body_is_refused_before_any_of_it_is_read():
    status, _, body, read = call(limited(), [b"x"], [("content-length", "101")])
    assert (status, read) == (413, 0)
    assert orjson.loads(body)["status"] == 413


def test_a_lying_content_length_does_not_help():
    assert call(limited(), [b"x" * 60] * 3, [("content-length", "5")])[0] == 413


def test_a_body_that_trickles_in_is_given_up():
    status, _, body, _ = call(limited(seconds=0.1), [b"x"] * 50, pause=0.02)
    assert status == 408
    assert b"0.1 s" in body


def test_bodies_in_flight_share_a_budget_that_is_given_back():
    app = limited(budget=50)
    status, headers, _, _ = call(app, [b"x" * 60])
    assert (status, headers["retry-after"]) == (503, "1")
    assert call(app, [b"x" * 40])[2] == b"40"
    assert call(app, [b"x" * 40])[2] == b"40"


def test_one_key_cannot_hold_the_whole_budget():
    app = limited(budget=100, owner=lambda scope: "mine")
    status, headers, body, _ = call(app, [b"x" * 60])
    assert (status, headers["retry-after"]) == (429, "1")
    assert b"fewer at a time" in body
    assert call(app, [b"x" * 50])[2] == b"50"
    assert call(app, [b"x" * 50])[2] == b"50"  # what it held was given back


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:9", 200),
        ("[::1]:8000", 200),
        ("localhost.", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("[::2]", 421),
    ],
)
def test_only_the_allowed_names_reach_a_local_server(header, status):
    app = HostCheck(echo, allowed=("localhost", "127.0.0.1", "::1"))
    assert call(app, headers=[("host", header)])[0] == status


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/readyz", 200), ("/metrics", 421), ("/healthz/x", 421)])
def test_probes_may_call_by_address(path, status):
    app = HostCheck(echo, allowed=("localhost",))
    assert call(app, headers=[("host", "10.1.2.3:8000")], path=path)[0] == status


def test_a_wildcard_admits_subdomains_and_nothing_else():
    app = HostCheck(echo, allowed=("*.shop.example",))
    assert call(app, headers=[("host", "a.shop.example")])[0] == 200
    assert call(app, headers=[("host", "evilshop.example")])[0] == 421


def test_no_list_admits_every_name():
    assert call(HostCheck(echo, allowed=()), headers=[("host", "anything")])[0] == 200


def test_the_name_in_a_host_header():
    assert [host_name(h) for h in ("A.b:80", "[2001:DB8::1]:80", "c.", "")] == ["a.b", "2001:db8::1", "c", ""]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("shop.example", False),
    ],
)
def test_loopback_addresses(host, loopback):
    assert is_loopback(host) is loopback


def test_an_escaped_exception_becomes_a_500_that_tells_nothing(caplog):
    status, headers, body, _ = call(Rim(explode))
    assert status == 500
    assert b"hunter2" not in body
    assert orjson.loads(body)["request_id"] == headers["x-request-id"]
    assert headers["x-request-id"] in caplog.text
    assert "hunter2" in caplog.text


def test_every_answer_has_security_headers_and_an_id():
    _, headers, _, _ = call(Rim(echo))
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert len(headers["x-request-id"]) == 32


@pytest.mark.parametrize(("given", "kept"), [("abc-1.2_Z", True), ("a b", False), ("x" * 65, False), ("a\nb", False), ("", False)])
def test_a_clients_request_id_is_kept_only_if_it_is_harmless(given, kept):
    _, headers, _, _ = call(Rim(echo), headers=[("x-request-id", given)])
    assert (headers["x-request-id"] == given) is kept
