"""Traces: what is sent where an endpoint is set, and nothing where none is."""

import http.server
import threading

import pytest
from starlette.testclient import TestClient

from api import tracing
from api.app import create_app
from engine.errors import MissingExtra


@pytest.fixture
def collector():
    bodies = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()


def test_a_search_is_one_span_of_the_callers_trace(toy_engine, collector):
    endpoint, bodies = collector
    settings = toy_engine.settings.model_copy(update={"otlp_endpoint": endpoint})
    toy_engine.create("shop")
    app = create_app(settings, toy_engine)
    trace = "0af7651916cd43dd8448eb211c80319c"
    with TestClient(app, base_url="http://localhost") as client:
        parent = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        client.post("/v1/collections/shop/search/text", json={"query": "red"}, headers=parent).raise_for_status()
    (path, body), *more = bodies  # closing the application has sent what was left
    assert (path, more) == ("/v1/traces", [])
    for text in (b"/v1/collections/{collection}/search/text", b"semblance.decision", b"semblance.encode_ms", bytes.fromhex(trace)):
        assert text in body


def test_nothing_is_traced_without_an_endpoint(toy_engine):
    assert tracing.telemetry(toy_engine.settings)["tracing"] is False


def test_without_the_extra_the_setting_says_what_to_install(toy_engine, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtra, match="tracing"):
        tracing.telemetry(toy_engine.settings.model_copy(update={"otlp_endpoint": "http://x"}))
