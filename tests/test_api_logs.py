"""Log lines as text and as JSON, with the request they belong to."""

import io
import json
import logging

import pytest

from api.logs import REQUEST, configure


@pytest.fixture
def lines():
    stream, root = io.StringIO(), logging.getLogger()
    kept, level = list(root.handlers), root.level
    yield lambda form, level="info": (configure(level, form, stream), stream)[1]
    root.handlers[:] = kept
    root.setLevel(level)


def test_json_lines_carry_the_request_and_what_was_added(lines):
    stream = lines("json")
    REQUEST.set("abc")
    logging.getLogger("x").info("took %d ms", 5, extra={"ms": 5})
    REQUEST.set("")
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert {name: first[name] for name in ("level", "logger", "message", "request_id", "ms")} == {
        "level": "info",
        "logger": "x",
        "message": "took 5 ms",
        "request_id": "abc",
        "ms": 5,
    }
    assert "request_id" not in second
    assert second["error"].endswith("ValueError: bad")


def test_text_lines_are_text_and_noise_is_left_out(lines):
    stream = lines("text")
    logging.getLogger("uvicorn.error").info("noise")
    logging.getLogger("y").info("sound")
    assert stream.getvalue().endswith("INFO y: sound\n")
    assert "noise" not in stream.getvalue()
    logging.getLogger("uvicorn.error").error("Traceback (most recent call last):\n  what stopped the start")
    assert stream.getvalue().endswith("\n  what stopped the start\n")


def test_a_name_cannot_make_up_a_line_nor_lose_one(lines):
    hostile = "a\n2026-01-01 INFO api: all is well\x1b[2J\u2028\udcff"
    text = lines("text")
    logging.getLogger("y").warning("bad name %s", hostile)
    assert text.getvalue().count("\n") == 1
    assert "a\\n2026-01-01 INFO api: all is well\\x1b[2J\\u2028" in text.getvalue()
    before = len(text.getvalue())
    lines("json")
    logging.getLogger("y").warning("bad name %s", hostile, extra={"path": hostile})
    line = json.loads(text.getvalue()[before:])
    assert line["message"].endswith("all is well\x1b[2J\u2028\\udcff")


def test_a_request_is_logged_with_its_id(lines, api):
    stream = lines("json")
    api.get("/healthz", headers={"x-request-id": "mine-1"})
    line = next(line for line in map(json.loads, stream.getvalue().splitlines()) if line["logger"] == "api.middleware")
    assert (line["request_id"], line["method"], line["path"], line["status"]) == ("mine-1", "GET", "/healthz", 200)
