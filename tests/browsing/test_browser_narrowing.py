"""Narrowing, sorting and turning pages in the page."""

import re

import pytest
from playwright.sync_api import expect

from tests.browsing.visitor import CARDS, PHONE, fill_shop, first

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def shop(toy_server):
    """The usual shop, and `many`: sixty mugs that differ in their price alone."""
    toy_server.client.put("/v1/collections/many").raise_for_status()
    mugs = [{"id": f"m{n}", "title": "red mug", "attributes": {"price": n, "in_stock": n % 3 == 0}} for n in range(60)]
    toy_server.client.post("/v1/collections/many/documents", json={"documents": mugs}).raise_for_status()
    return fill_shop(toy_server)


def test_a_filter_narrows_and_a_wrong_one_says_where(visit):
    visitor = visit()
    visitor.tolerated = "422"
    page = visitor.open("/?c=shop&q=mug")
    page.get_by_text("Custom filter").click()
    where = page.get_by_label("Only products that match")
    where.fill("price < < 30")
    page.keyboard.press("Enter")
    expect(page.locator("#where-note")).to_contain_text("column 9")
    expect(where).to_have_attribute("aria-invalid", "true")
    assert where.evaluate("input => input.selectionStart") == 8
    where.fill("price < 30 and currency = 'EUR'")
    page.keyboard.press("Enter")
    expect(page.locator(CARDS)).to_have_count(2)
    expect(page.locator(".verdict")).to_contain_text("2 products pass the filter")
    expect(where).to_have_attribute("aria-invalid", "false")
    page.reload()
    expect(page.locator(CARDS)).to_have_count(2)
    expect(page.get_by_label("Only products that match")).to_have_value("price < 30 and currency = 'EUR'")
    page.get_by_label("Only products that match").fill("price > 1000")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2)).to_have_text("No product found")
    expect(page.get_by_text("No product passes this filter")).to_be_visible()


def prices(page):
    return [float(text.lstrip("€")) for text in page.locator(".grid").first.locator(".price").all_inner_texts()]


def test_values_are_chosen_counted_and_shown_as_chips(visit):
    page = visit().open("/?c=shop&q=mug")
    expect(page.get_by_role("group", name="Brand")).to_be_visible()
    page.get_by_role("checkbox", name="O'Neill \\ Söhne").check()
    expect(page.locator(CARDS)).to_have_count(3)
    expect(page.get_by_role("checkbox", name="Acme")).to_be_visible()
    expect(page.locator(".check", has_text="Acme").locator(".count")).to_have_text("3")
    page.get_by_role("checkbox", name="Acme").check()
    expect(page.locator(".grid").first.locator(CARDS)).to_have_count(6)
    page.reload()
    expect(page.get_by_role("checkbox", name="Acme")).to_be_checked()
    page.get_by_role("button", name="Remove Brand Acme").click()
    expect(page.locator(CARDS)).to_have_count(3)
    page.go_back()
    expect(page.get_by_role("checkbox", name="Acme")).to_be_checked()
    page.get_by_role("button", name="Clear all").click()
    expect(page.get_by_role("checkbox", name="Acme")).not_to_be_checked()
    expect(page).to_have_url(re.compile(r"\?c=shop&q=mug$"))


def test_a_price_range_bounds_and_can_be_taken_back(visit):
    page = visit().open("/?c=shop&q=mug")
    expect(page.locator(".bars")).to_be_visible()
    page.get_by_label("Price, at least").fill("20")
    page.keyboard.press("Tab")
    expect(page.locator(CARDS)).to_have_count(5)
    page.get_by_label("Price, at most").fill("45")
    page.keyboard.press("Enter")
    expect(page.locator(CARDS)).to_have_count(3)
    expect(page).to_have_url(re.compile(r"r\.price=20\.\.45"))
    page.reload()
    expect(page.get_by_label("Price, at most")).to_have_value("45")
    assert sorted(prices(page)) == [21, 31.5, 42]
    page.get_by_role("button", name=re.compile("Remove Price")).click()
    expect(page.locator(".grid").first.locator(CARDS)).to_have_count(6)


def test_products_are_sorted_by_price(visit):
    page = visit().open("/?c=shop&q=mug")
    page.get_by_label("Sort").select_option("price:desc")
    expect(first(page).locator(".price")).to_have_text("€63.00")
    assert prices(page) == sorted(prices(page), reverse=True)
    page.reload()
    expect(page.get_by_label("Sort")).to_have_value("price:desc")
    expect(first(page).locator(".price")).to_have_text("€63.00")
    page.get_by_label("Sort").select_option("")
    expect(page).to_have_url(re.compile(r"\?c=shop&q=mug$"))


def test_pages_follow_one_another_without_repeating(visit):
    page = visit().open("/?c=many&q=red")
    expect(page.locator(CARDS)).to_have_count(24)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(CARDS)).to_have_count(48)
    expect(page.locator(CARDS).nth(24)).to_be_focused()
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(CARDS)).to_have_count(60)
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)
    expect(page.get_by_label("Price, at most")).to_have_attribute("placeholder", "59")  # facets are those of the first page
    expect(page.get_by_role("checkbox", name="yes")).to_be_visible()
    assert len({card.get_attribute("href") for card in page.locator(CARDS).all()}) == 60


PROPOSED = [
    {"kind": "filter", "without": "price <= 20", "matches": 4, "confidence": 0.9},
    {"kind": "filter", "without": "brand in ('Acme')", "matches": 2, "confidence": 0.8},
    {"kind": "filter", "without": "something the page did not ask", "matches": 1, "confidence": 0.8},
]


def test_what_the_server_proposes_to_relax_is_one_press_away(visit):
    page = visit().page

    def propose(route):
        proposed = PROPOSED if "<= 20" in route.request.post_data_json.get("where", "") else []
        route.fulfill(json=route.fetch().json() | {"decision": "broaden", "broaden": proposed})

    page.route("**/search/text", propose)
    page.goto(visit().address + "/?c=shop&q=mug&f.brand=Acme&r.price=..20")
    relaxing = page.locator(".relaxing")
    expect(relaxing.get_by_role("button")).to_have_text(["Price ≤ 20 4", "Brand Acme 2"])
    relaxing.get_by_role("button", name="Price").click()
    expect(relaxing).to_have_count(0)
    expect(page.locator(".chips")).to_have_text(re.compile("Acme"))
    expect(page.locator(".grid").first.locator(CARDS)).to_have_count(3)


def test_truth_values_are_facets_too(visit):
    page = visit().open("/?c=many&q=red")
    page.get_by_role("checkbox", name="yes").check()
    expect(page.locator(CARDS)).to_have_count(20)
    page.reload()
    expect(page.locator(CARDS)).to_have_count(20)


def test_a_phone_opens_and_closes_what_narrows(visit):
    page = visit(**PHONE).open("/?c=shop&q=mug")
    button = page.get_by_role("button", name="Narrow down")
    expect(page.get_by_role("checkbox", name="Acme")).to_be_hidden()
    button.tap()
    page.get_by_role("checkbox", name="Acme").check()
    expect(page.locator(CARDS)).to_have_count(3)
    expect(button).to_contain_text("1")
    button.tap()
    expect(page.get_by_role("checkbox", name="Acme")).to_be_hidden()
