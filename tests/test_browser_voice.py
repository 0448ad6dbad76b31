"""Searching by voice in the page: a real recording of Chromium's beeping microphone; what is heard in it is played."""

from functools import partial

import pytest
from playwright.sync_api import expect

from tests.browser import fill_shop, first

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def shop(toy_server):
    return fill_shop(toy_server)


@pytest.fixture
def visit(visits, shop):
    return partial(visits, shop.address, permissions=["microphone"])


def record(page):
    page.get_by_role("button", name="Search by voice").click()
    expect(page.get_by_placeholder("Listening…")).to_be_visible()
    page.wait_for_timeout(400)
    page.get_by_role("button", name="Stop listening").click()


def test_what_was_said_is_searched_for(visit, shop):
    page = visit().open("/?c=shop")
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


def test_a_recording_without_words_says_so_and_a_deaf_server_offers_no_microphone(visit):
    visitor = visit()
    visitor.tolerated = "422|501"
    page = visitor.open("/?c=shop")

    def refuse(route, status, detail):
        body = {"status": status, "title": "x", "detail": detail}
        route.fulfill(status=status, json=body, content_type="application/problem+json")

    page.route("**/search/voice", lambda route: refuse(route, 422, "there are no words in the recording"))
    record(page)
    expect(page.get_by_role("alert")).to_have_text("there are no words in the recording")
    page.unroute("**/search/voice")
    page.route("**/search/voice", lambda route: refuse(route, 501, "voice needs an optional package"))
    record(page)
    expect(page.get_by_role("alert")).to_have_text("This server does not understand speech.")
    expect(page.get_by_role("button", name="Search by voice")).to_have_count(0)


def test_the_page_alone_may_use_the_microphone(shop):
    assert "microphone=(self)" in shop.client.get("/").headers["permissions-policy"]
    assert "microphone=()" in shop.client.get("/admin").headers["permissions-policy"]
