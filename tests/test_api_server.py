"""The real server: a process of its own, real sockets, signals."""

import http.client
import json
import signal
import socket
import threading
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from api.keys import KeyRequest, KeyRing
from api.server import _config, serve
from engine.config import Settings
from engine.errors import ConfigurationError

POST = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def server(toy_server):
    toy_server.client.put("/v1/collections/shop").raise_for_status()
    return toy_server


def raw(address, request):
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(65536)


def test_percent_signs_in_an_id_survive_a_real_request(server):
    for id in ("a%2Fb", "100%", "%", "a/image", "%2Fimage", "..%2F..", "a/../b"):
        document = {"id": id, "title": "x"}
        assert server.client.post("/v1/collections/shop/documents", json={"documents": [document]}).status_code == 200
        connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=10)  # it leaves paths as they are
        connection.request("GET", f"/v1/collections/shop/documents/{quote(id, safe='')}")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["id"]) == (200, id)
        connection.close()


def test_head_is_answered_as_get_without_the_body(server):
    server.client.post("/v1/collections/shop/documents", json={"documents": [{"id": "h", "title": "x"}]}).raise_for_status()
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=10)
    for path, status in {
        "/": 200,
        "/healthz": 200,
        "/static/page.css": 200,
        "/v1/collections/shop/documents/h": 200,
        "/v1/collections/shop/documents/h/image": 404,
        "/v1/embeddings": 405,
    }.items():
        answers = []
        for method in ("GET", "HEAD", "GET"):  # on one connection: a body that is sent after all would be taken for the next answer
            connection.request(method, path)
            answer = connection.getresponse()
            answers.append((answer.status, answer.headers["content-type"], answer.headers["content-length"], answer.read()))
        assert answers[0][:3] == answers[1][:3] == answers[2][:3]
        assert (answers[1][0], answers[1][3]) == (status, b"")
        assert len(answers[2][3]) == int(answers[2][2]) > 0
    connection.close()
    assert 'method="HEAD"' in server.client.get("/metrics").text


def test_a_chunked_body_over_the_limit_is_cut_off(server):
    def endless():
        for _ in range(100):
            yield b"x" * 1_000_000

    try:
        answer = server.client.post("/v1/embeddings", content=endless(), headers={"content-type": "application/json"})
        status = answer.status_code
    except httpx.WriteError:
        status = 413  # the server hung up while we were still sending
    assert status == 413
    assert server.client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"GET /v1/collections/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/collections/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/collections/shop/documents/x/image?size=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        POST + b"Content-Type: application/json\r\nContent-Length: -5\r\n\r\n{}",
        POST + b"Content-Type: application/json\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        POST + b"Content-Type: \xff\xfe; charset=\xff\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Content-Type: application/json; charset=utf-16\r\nContent-Length: 2\r\n\r\n{}",
        b"NONSENSE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_hostile_requests_are_answered_4xx(server, request_bytes):
    answer = raw(server.address, request_bytes)
    assert answer.startswith(b"HTTP/1.1 4"), answer
    assert server.client.get("/healthz").status_code == 200


def test_a_client_that_hangs_up_frees_its_place(server):
    body = json.dumps({"query": "slow"}).encode()
    head = b"POST /v1/collections/shop/search/text HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    host, _, port = server.address.removeprefix("http://").partition(":")
    for _ in range(20):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(request)
        connection.close()
    began = time.perf_counter()
    assert server.client.post("/v1/collections/shop/search/text", json={"query": "quick"}).status_code == 200
    assert time.perf_counter() - began < 3


def test_ending_answers_what_is_in_flight_and_leaves_quietly(start_toy_server):
    server = start_toy_server()
    server.client.put("/v1/collections/shop").raise_for_status()
    answers = []

    def search():
        with httpx.Client(base_url=server.address, timeout=10) as client:
            answers.append(client.post("/v1/collections/shop/search/text", json={"query": "slow"}).status_code)

    thread = threading.Thread(target=search)
    thread.start()
    time.sleep(0.25)
    output, complaints = server.end()
    thread.join()
    assert answers == [200]
    assert (output, complaints, server.process.returncode) == ("closed\n", "", 0)


def test_ending_answers_connections_that_nobody_has_taken_yet(start_toy_server):
    """They wait in the system while the process has no time, and would be cut off with its socket."""
    server = start_toy_server()
    server.process.send_signal(signal.SIGSTOP)
    port = int(server.address.rpartition(":")[2])
    connections = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(20)]
    for connection in connections:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGCONT)
    assert [connection.recv(12) for connection in connections] == [b"HTTP/1.1 200"] * 20
    for connection in connections:
        connection.close()
    assert server.end()[1] == ""


def test_interrupting_is_an_ordinary_end_too(start_toy_server):
    server = start_toy_server()
    output, complaints = server.end(signal.SIGINT)
    assert (output, complaints, server.process.returncode) == ("closed\n", "", 0)


def test_a_taken_port_is_said_so(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}.*--port"):
            serve(Settings(data=tmp_path, port=port))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/sys/none"])
def test_a_folder_in_which_nothing_can_be_kept_is_said_so(tmp_path, monkeypatch, folder, workers):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=f"nothing can be kept in {folder} .*--data"):
        serve(Settings(data=Path(folder), port=0, workers=workers))


def test_a_server_that_everybody_or_nobody_may_use_is_warned_about(toy_engine, caplog, monkeypatch):
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)

    def warned(**options):
        caplog.clear()
        serve(toy_engine.settings.model_copy(update={"port": 0, **options}), toy_engine)
        return caplog.text

    assert "semblance keys create" in warned(host="0.0.0.0")
    KeyRing(toy_engine.settings.data).create(KeyRequest("shop"))
    assert warned(host="0.0.0.0") == ""
    assert "whoever reaches it can write" in warned(host="0.0.0.0", api_keys="off")
    assert warned() == ""


def test_clients_and_proxies_close_a_resting_connection_before_the_server_does(toy_engine):
    assert _config(Settings(), toy_engine).timeout_keep_alive > 60
