"""Clients that only hold connections: slow headers, silence, thousands at once."""

import contextlib
import http.client
import json
import socket
import time

import pytest

PRELUDE = """
import api.connections as connections
connections.HEADERS_S = 1.0
connections.UNREAD_S = 1.0
connections.most_connections = lambda: 40
"""


@pytest.fixture(scope="module")
def server(_toy_server_factory):
    server = _toy_server_factory(PRELUDE)
    yield server
    server.end()


def connect(server):
    host, _, port = server.address.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=15)


def closed_after(connection, send=b"", every=0.2):
    began = time.monotonic()
    connection.settimeout(every)
    while time.monotonic() - began < 12:
        try:
            if send:
                connection.sendall(send)
            if connection.recv(1000) == b"":
                return time.monotonic() - began
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - began
    return None


@pytest.mark.parametrize("first", [b"", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"GET / HTTP/1.1\r\nX-A: "])
def test_headers_that_do_not_come_to_an_end_close_the_connection(server, first):
    with connect(server) as connection:
        connection.sendall(first)
        assert closed_after(connection, send=b"a" if first else b"") is not None
    assert server.client.get("/healthz").status_code == 200


@pytest.mark.parametrize("endless", [b"a" * 50_000, b"a: b\r\n" * 8_000], ids=["one", "many"])
@pytest.mark.parametrize("first", [b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", b"GET /"], ids=["header", "address"])
def test_headers_of_any_size_are_not_kept(server, first, endless):
    with connect(server) as connection:
        connection.sendall(first)
        assert closed_after(connection, send=endless, every=0.01) < 0.9  # before its time is up
    assert server.client.get("/healthz").status_code == 200


def test_trailers_without_end_close_the_connection(server):
    head = b"POST /v1/collections/shop/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with connect(server) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        assert closed_after(connection, send=b"a: b\r\n" * 8_000, every=0.01) is not None


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("offer", [b"h2c", b"websocket"])
def test_a_client_that_offers_another_protocol_is_answered_in_this_one(server, offer, chunked):
    """curl and Java offer HTTP/2 with their first request, also beside a body; the next request goes on as usual."""
    server.client.put("/v1/collections/shop")
    body = b'{"query": "red"}'
    head = b"POST /v1/collections/shop/search/text HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n" % offer
    if chunked:
        message = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        message = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with connect(server) as connection:
        for _ in range(2):
            connection.sendall(message[:120])
            time.sleep(0.05)
            connection.sendall(message[120:])
            assert status_of(connection) == 200
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status_of(connection) == 200


def status_of(connection):
    """Read one answer whole."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


@pytest.mark.parametrize(
    "sent", [b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/9\r\n\r\n"]
)
def test_what_is_no_request_is_refused(server, sent):
    with connect(server) as connection:
        connection.sendall(sent)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")


def test_requests_sent_ahead_are_answered_in_order(server):
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while received.count(b"HTTP/1.1 ") < 2:
            received += connection.recv(4000)
        assert received.index(b"HTTP/1.1 200") < received.index(b"HTTP/1.1 404")


def test_a_second_request_on_a_connection_has_the_same_patience(server):
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert closed_after(connection, send=b"a") is not None


def test_a_request_under_way_is_not_closed(server):
    """Its body comes later than the patience for headers lasts: the clock must have stopped."""
    server.client.put("/v1/collections/shop")
    body = b'{"terms": [{"text": "slow"}]}'
    with connect(server) as connection:
        head = b"POST /v1/collections/shop/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
        time.sleep(1.5)  # the headers are complete, the body is not
        connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


ANSWERS = 6


def ask_for_much(server):
    """Ask for answers of some megabytes together, more than the buffers of both sides hold; returns how long they are, too."""
    body = json.dumps({"input": [f"mug {n}" for n in range(2_000)]}).encode()
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection = connect(server)
    connection.sendall((head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)) * ANSWERS)
    first = connection.recv(1_000)
    length = int(first.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) + first.index(b"\r\n\r\n") + 4
    return connection, len(first), ANSWERS * length


def test_an_answer_that_nobody_reads_is_not_kept_for_ever(server):
    connection, received, expected = ask_for_much(server)
    with connection, contextlib.suppress(ConnectionResetError):
        time.sleep(4)
        while chunk := connection.recv(1_000_000):
            received += len(chunk)
    assert received < expected


def test_a_client_that_reads_slowly_gets_its_answer(server):
    connection, received, expected = ask_for_much(server)
    with connection:
        while received < expected and (chunk := connection.recv(50_000)):
            received += len(chunk)
            time.sleep(0.01)
    assert received == expected


def test_too_many_connections_are_turned_away_and_the_others_are_served(server):
    held = []
    server.client.get("/healthz").raise_for_status()  # by a connection that is kept
    try:
        for _ in range(80):
            held.append(connect(server))
        time.sleep(0.5)
        open_ones = [connection for connection in held if still_open(connection)]
        assert len(open_ones) <= 40
        assert server.client.get("/healthz").status_code == 200
    finally:
        for connection in held:
            connection.close()


def still_open(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
