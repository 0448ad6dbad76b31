"""Searching by voice in the page: a real recording of Chromium's beeping microphone; what is heard in it is played."""

from functools import partial

import pytest
from playwright.sync_api import expect

from tests.browsing.visitor import first, let_server_do

pytestmark = pytest.mark.browser


@pytest.fixture
def visit(visits, shop):
    return partial(visits, shop.address, permissions=["microphone"])


def open_listening(visitor):
    let_server_do(visitor.page, listens=True)
    return visitor.open("/?c=shop")


def record(page):
    page.get_by_role("button", name="Search by voice").click()
    expect(page.get_by_placeholder("Listening…")).to_be_visible()
    page.wait_for_timeout(400)
    page.get_by_role("button", name="Stop listening").click()


def test_what_was_said_is_searched_for(visit, shop):
    page = open_listening(visit())
    recordings = []

    def hear(route):
        recordings.append(route.request)
        found = shop.client.post("/v1/collections/shop/search/text", json={"query": "blue", "k": 1}).json()
        route.fulfill(json=found | {"transcript": "blue mug", "language": "en"})

    page.route("**/search/voice", hear)
    record(page)
    expect(first(page)).to_contain_text("blue mug")
    expect(page.get_by_role("searchbox")).to_have_value("blue mug")
    assert recordings[0].headers["content-type"].startswith("multipart/form-data")
    assert len(recordings[0].post_data_buffer) > 500


def test_a_recording_without_words_says_so(visit):
    visitor = visit()
    visitor.tolerated = "422"
    page = open_listening(visitor)

    refusal = {"status": 422, "title": "Invalid audio", "detail": "there are no words in the recording"}
    answer = {"status": 422, "json": refusal, "content_type": "application/problem+json"}
    page.route("**/search/voice", lambda route: route.fulfill(**answer))
    record(page)
    expect(page.get_by_role("alert")).to_have_text("there are no words in the recording")


def test_a_server_that_cannot_listen_offers_no_microphone(visit):
    visitor = visit()
    let_server_do(visitor.page, listens=False)
    page = visitor.open("/?c=shop")
    expect(first(page)).to_be_visible()
    expect(page.get_by_role("button", name="Search by voice")).to_have_count(0)


def test_the_server_says_what_it_can_do(shop):
    from importlib.util import find_spec

    abilities = shop.client.get("/static/abilities.json").json()
    assert abilities["fetches"] is False
    assert abilities["listens"] is (find_spec("faster_whisper") is not None)
    assert isinstance(abilities["draws"], bool)


def test_the_page_alone_may_use_the_microphone(shop):
    assert "microphone=(self)" in shop.client.get("/").headers["permissions-policy"]
    assert "microphone=()" in shop.client.get("/admin").headers["permissions-policy"]
