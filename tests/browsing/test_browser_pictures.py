"""Searching by pictures in the page: chosen, dropped, pasted, photographed, at an address; and together with words."""

import base64
import re

import pytest
from playwright.sync_api import expect

from engine.testing import COLOURS
from tests.browsing.visitor import CARDS, PHONE, drop, file_of, first, search, transfer_of
from tests.conftest import one_colour

pytestmark = pytest.mark.browser


def check_picture_search(page, title):
    expect(first(page)).to_contain_text(title)
    expect(first(page).locator(".score")).to_have_text("1.00")
    expect(page.get_by_alt_text("Your picture")).to_be_visible()


def test_search_by_a_chosen_picture(page):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a picture").click()
    chooser.value.set_files(file_of(COLOURS["blue"]))
    check_picture_search(page, "blue mug")
    page.get_by_role("button", name="Remove the picture").click()
    expect(page.get_by_role("heading", level=2)).to_have_text("From this catalogue")


def test_search_by_a_dropped_picture(page):
    transfer = transfer_of(page, COLOURS["yellow"])
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    expect(page.get_by_text("Drop the picture to search with it")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    expect(page.get_by_text("Drop the picture to search with it")).to_be_hidden()
    check_picture_search(page, "yellow mug")


def test_search_by_a_pasted_picture(page):
    paste = "clipboardData => document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }))"
    page.evaluate(paste, transfer_of(page, COLOURS["green"]))
    check_picture_search(page, "green mug")


def test_words_refine_a_picture(page):
    drop(page, transfer_of(page, COLOURS["red"]))
    check_picture_search(page, "red mug")
    search(page, "blue blue")
    expect(page.get_by_role("heading", level=2)).to_have_text("Closest products")
    expect(page.locator(CARDS).nth(1)).to_contain_text(re.compile("red mug|blue mug"))
    expect(first(page)).to_contain_text(re.compile("red mug|blue mug"))


def test_back_finds_the_picture_again(page):
    drop(page, transfer_of(page, COLOURS["red"]))
    check_picture_search(page, "red mug")
    first(page).click()
    expect(page.get_by_role("heading", level=2)).to_have_text("Similar to red mug")
    page.go_back()
    check_picture_search(page, "red mug")


def test_a_large_picture_is_made_small_before_it_travels(page):
    picture = base64.b64decode(one_colour(COLOURS["blue"], (5000, 3000)))
    with page.expect_response("**/search/image") as answer:
        page.set_input_files("#picture-file", {"name": "large.png", "mimeType": "image/png", "buffer": picture})
    check_picture_search(page, "blue mug")
    assert int(answer.value.request.all_headers()["content-length"]) < 20_000


@pytest.mark.parametrize("kind", ["text", "broken"])
def test_what_is_no_picture_is_said_so(page, kind):
    if kind == "text":
        drop(page, transfer_of(page))
    else:
        page.set_input_files("#picture-file", {"name": "a.png", "mimeType": "image/png", "buffer": b"not a picture"})
    expect(page.get_by_role("alert")).to_contain_text("not a picture")
    search(page, "red")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_phone_offers_its_camera(visit):
    page = visit(**PHONE).open()
    expect(page.get_by_role("button", name="Take a photo")).to_be_visible()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Take a photo").tap()
    assert chooser.value.element.get_attribute("capture") == "environment"
    chooser.value.set_files(file_of(COLOURS["red"]))
    check_picture_search(page, "red mug")


# This, but red


def composed(answer):
    """Tell the first page of a composed search from what follows it."""
    return answer.url.endswith("/search") and answer.request.post_data_json.get("cursor") == "*"


def weights_sent(answer):
    return [term.get("weight") for term in answer.value.request.post_data_json["terms"]]


def slide(page, label, value):
    page.get_by_label(label).evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', { bubbles: true })); }", str(value)
    )


def test_sliders_say_how_much_picture_and_words_count(page):
    drop(page, transfer_of(page, COLOURS["red"]))
    check_picture_search(page, "red mug")
    expect(page.get_by_label("Words")).to_have_count(0)
    with page.expect_response(composed) as answer:
        search(page, "blue")
    assert weights_sent(answer) == [1, 1]
    with page.expect_response(composed) as answer:
        slide(page, "Words", 2)
    assert weights_sent(answer) == [1, 2]
    expect(first(page)).to_contain_text("blue mug")
    slide(page, "Words", -1)
    expect(page.get_by_label("Words")).to_have_attribute("aria-valuetext", "less of it")
    expect(first(page)).to_contain_text("red mug")
    with page.expect_response(composed) as answer:
        page.get_by_role("button", name="Reset").click()
    assert weights_sent(answer) == [1, 1]
    expect(page.get_by_role("button", name="Reset")).to_have_count(0)


def test_a_product_and_words_are_weighed_too(visit):
    page = visit().open("/?c=shop&like=p1&q=blue")
    expect(page.get_by_label("This product")).to_be_visible()
    slide(page, "This product", 0)
    expect(first(page)).to_contain_text("blue mug")


# The address of a picture


def test_the_address_of_a_picture_searches_by_it(page):
    def answer(route):
        route.fulfill(json=route.fetch(post_data={"terms": [{"text": "blue"}], "k": 24, "cursor": "*"}).json())

    page.route(re.compile("/search$"), answer)
    with page.expect_request(lambda request: "image_url" in (request.post_data or "")) as sent:
        search(page, "https://pictures.example/mug.jpg")
        page.keyboard.press("Enter")
    assert sent.value.post_data_json["terms"] == [{"image_url": "https://pictures.example/mug.jpg"}]
    expect(first(page)).to_contain_text("blue mug")
    expect(page.get_by_text("Picture from pictures.example")).to_be_visible()
    expect(page).to_have_url(re.compile("picture=https"))
    expect(page.get_by_role("searchbox")).to_have_value("")


def test_a_server_that_fetches_no_pictures_says_so(visit):
    visitor = visit()
    visitor.tolerated = "422"
    page = visitor.open()
    search(page, "https://pictures.example/mug.jpg")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("SEMBLANCE_IMAGE_URL_HOSTS")
