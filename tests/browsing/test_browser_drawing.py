"""Drawings in the page: offered where nothing fits, followed, and never shown without saying what they are.

The drawing itself is played: what draws is tried in the tests of the generation. The closest products are real.
"""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browsing.visitor import CARDS, first, let_server_do, search
from tests.conftest import one_colour

pytestmark = pytest.mark.browser

PICTURE = f"data:image/png;base64,{one_colour('purple')}"
JOB = {"id": "ab12", "kind": "generate", "collection": "shop", "message": "", "attempts": 1, "cancel_requested": False}
JOB |= {"created_at": "2026-03-02T09:30:00.000+00:00", "updated_at": "2026-03-02T09:30:00.000+00:00", "result": None}


@pytest.fixture
def page(visit):
    """The page at a search that found nothing that fits."""
    visitor = visit()
    visitor.tolerated = "422"
    page = visitor.page

    def find_nothing(route):
        route.fulfill(json=route.fetch().json() | {"decision": "generate", "confidence": 0.05})

    let_server_do(page, draws=True)
    page.route("**/search/text", find_nothing)
    page.goto(visitor.address + "/?c=shop&q=purple+glass+piano")
    expect(page.get_by_role("heading", name="Have it drawn instead")).to_be_visible()
    return page


def play(page, *events):
    """Let the server accept the order, and tell these events of its job."""
    orders = []

    def accept(route):
        orders.append(route.request.post_data_json)
        route.fulfill(status=202, json=JOB | {"state": "queued", "progress": {}})

    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    page.route("**/v1/generate", accept)
    page.route("**/v1/jobs/ab12/events", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    return orders


def done(page, hits):
    drawing = {"image": PICTURE, "model": "decoder:default@1f0c", "size": 128, "synthetic": True}
    result = {"synthetic": True, "drawing": drawing, "closest": hits, "version": 9}
    return "done", JOB | {"state": "done", "progress": {"done": 4, "total": 4}, "result": result}


def test_nothing_is_drawn_unless_the_visitor_asks(page):
    orders = play(page)
    with page.expect_request("**/search/text") as asked:
        search(page, "purple glass pianos")
    assert asked.value.post_data_json["fallback"] == "never"
    assert orders == []


def test_a_drawing_is_followed_labelled_and_leads_to_real_products(page, shop):
    hits = shop.client.post("/v1/collections/shop/search/text", json={"query": "blue", "k": 2}).json()["hits"]
    orders = play(page, ("preview", {"id": "ab12", "image": PICTURE}), done(page, hits))
    page.get_by_role("button", name="Draw it").click()
    expect(page.get_by_role("heading", name="Drawn from your words")).to_be_focused()
    assert orders == [{"prompt": "purple glass piano", "collection": "shop", "k": 8, "where": None}]
    drawing = page.locator(".drawing")
    expect(drawing.locator("figcaption")).to_have_text("Synthetic: drawn by a model")
    expect(drawing.get_by_alt_text("Synthetic picture, drawn by a model")).to_be_visible()
    expect(drawing.locator(CARDS).first).to_contain_text("blue mug")
    assert drawing.locator(CARDS).count() == 2
    assert page.locator("figure a, a figure").count() == 0, "a drawing is no product: it leads nowhere"
    assert Axe().run(page).violations_count == 0


def test_what_is_refused_says_why(page):
    refusal = {"title": "Generation refused", "detail": "this is not drawn: it names a weapon", "status": 422}
    page.route("**/v1/generate", lambda route: route.fulfill(status=422, json=refusal, content_type="application/problem+json"))
    page.get_by_role("button", name="Draw it").click()
    expect(page.get_by_role("alert")).to_have_text("this is not drawn: it names a weapon")


def test_a_server_that_cannot_draw_offers_none(page):
    page.unroute("**/static/abilities.json")
    let_server_do(page, draws=False)
    page.reload()
    expect(page.get_by_role("heading", name="Nothing in this catalogue")).to_be_visible()
    expect(page.locator(".drawing")).to_have_count(0)


def test_a_new_search_forgets_the_drawing(page):
    play(page, done(page, []))
    page.get_by_role("button", name="Draw it").click()
    expect(page.get_by_role("heading", name="Drawn from your words")).to_be_visible()
    page.unroute("**/search/text")
    search(page, "red")
    expect(first(page)).to_contain_text("red mug")
    expect(page.locator(".drawing")).to_have_count(0)
