"""Search by voice over HTTP, with a listener that counts loud stretches."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from api.routes import voice
from engine.errors import MissingExtra
from engine.testing import FakeTranscriber

_spec = importlib.util.spec_from_file_location("voices", Path(__file__).with_name("test_engine_voice.py"))
assert _spec is not None
assert _spec.loader is not None
voices = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(voices)

ADDRESS = "/v1/collections/shop/search/voice"


@pytest.fixture
def shop(mugs, monkeypatch):
    monkeypatch.setattr(voice, "build_transcriber", lambda settings: FakeTranscriber())
    return mugs


def red() -> bytes:
    return voices.wav(np.concatenate([voices.tone(0.2), np.zeros(8_000)]))


def test_a_recording_is_a_search_by_the_words_heard(shop):
    by_form = shop.post(ADDRESS, files={"audio": ("q.wav", red(), "audio/wav")}, data={"k": "2", "where": "price < 100"}).json()
    assert (by_form["transcript"], by_form["language"]) == ("red", "en")
    assert by_form["hits"][0]["id"] == "p1"
    assert len(by_form["hits"]) == 2
    by_words = shop.post("/v1/collections/shop/search/text", json={"query": "red", "k": 2, "where": "price < 100"}).json()
    assert [hit["id"] for hit in by_form["hits"]] == [hit["id"] for hit in by_words["hits"]]
    assert set(by_form) == {*by_words, "transcript", "language"}
    by_body = shop.post(f"{ADDRESS}?k=2&language=de", content=red(), headers={"Content-Type": "audio/webm;codecs=opus"}).json()
    assert (by_body["hits"][0]["id"], by_body["language"]) == ("p1", "de")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not a recording", "not_audio"),
        (voices.wav(np.zeros(32_000)), "silence"),
        (voices.wav(voices.noise(2, 0.01)), "silence"),
    ],
)
def test_what_cannot_be_heard_has_its_reason(shop, data, reason):
    answer = shop.post(ADDRESS, content=data, headers={"Content-Type": "audio/wav"})
    assert (answer.status_code, answer.json()["reason"]) == (422, reason)
    assert answer.json()["type"] == "urn:semblance:problem:invalid-audio"


def test_an_hour_is_refused(shop):
    hour = voices.encoded(np.tile(voices.tone(60), 60), "ogg", "libopus", 8_000)
    answer = shop.post(ADDRESS, content=hour[:900_000], headers={"Content-Type": "audio/ogg"})
    assert (answer.status_code, answer.json()["reason"]) == (422, "too_long")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"json": {"audio": "x"}}, 415),
        ({"data": {"k": "2"}, "files": {"picture": ("q.wav", b"x")}}, 422),
        ({"files": {"audio": ("q.wav", b"x")}, "data": {"k": "many"}}, 422),
        ({"files": {"audio": ("q.wav", b"x")}, "data": {"language": "Klingon!"}}, 422),
        ({"content": b"\0" * 1_100_000, "headers": {"Content-Type": "audio/wav"}}, 413),
    ],
)
def test_requests_of_another_form(shop, request_, status):
    assert shop.post(ADDRESS, **request_).status_code == status


def test_an_unknown_collection(shop):
    assert shop.post(ADDRESS.replace("shop", "none"), content=red(), headers={"Content-Type": "audio/wav"}).status_code == 404


def test_without_the_extra_the_remedy_is_named(mugs, monkeypatch):
    def missing(settings):
        raise MissingExtra("hearing voice queries", "voice")

    monkeypatch.setattr(voice, "build_transcriber", missing)
    answer = mugs.post(ADDRESS, content=red(), headers={"Content-Type": "audio/wav"})
    assert answer.status_code == 501
    assert "semblance[voice]" in answer.json()["detail"]
