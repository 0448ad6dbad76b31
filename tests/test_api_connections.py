"""Clients that only hold connections: slow headers, silence, thousands at once."""

import socket
import time

import pytest

PRELUDE = """
import api.connections as connections
connections.HEADERS_S = 1.0
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


def test_too_many_connections_are_turned_away_and_the_others_are_served(server):
    held = []
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
