"""The search page as a visitor meets it: a real Chromium against the real server."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from api.keys import KeyRequest, KeyRing
from tests.browsing.visitor import CARDS, HOSTILE, fill_shop, first, search

pytestmark = pytest.mark.browser


def test_landing_shows_the_catalogue_and_what_can_be_done(page):
    expect(page.get_by_role("heading", level=1)).to_have_text("Say it or show it.")
    expect(page.locator(CARDS)).to_have_count(9)
    expect(page.get_by_role("button", name="Choose a picture")).to_be_visible()
    expect(page.locator(".score")).to_have_count(0)


def test_results_appear_while_typing_and_are_announced(page):
    search(page, "red")
    expect(first(page)).to_contain_text("red mug")
    expect(first(page).locator(".price")).to_have_text("€10.50")
    expect(first(page).locator(".score")).to_have_text(re.compile(r"^0\.\d\d$"))
    expect(page.get_by_role("status")).to_have_text("2 products found")
    expect(page).to_have_url(re.compile(r"\?c=shop&q=red$"))
    expect(page).to_have_title("red – Semblance")
    assert page.evaluate("document.activeElement.id") == "query"


def test_pictures_are_square_and_never_cropped(page):
    search(page, "tall")
    expect(first(page)).to_contain_text("tall lamp")
    box = first(page).locator(".photo").bounding_box()
    assert box["width"] == pytest.approx(box["height"], abs=1)
    assert first(page).locator("img").evaluate("image => getComputedStyle(image).objectFit") == "contain"
    assert first(page).locator("img").get_attribute("alt") == "Photo of tall lamp"
    page.wait_for_function("document.querySelector('a.card img').naturalHeight === 90")


def test_the_last_search_wins_even_if_an_older_one_answers_later(page):
    search(page, "slow")
    page.wait_for_timeout(250)  # past the typing pause: the slow search is under way
    search(page, "blue")
    expect(first(page)).to_contain_text("blue mug")
    page.wait_for_timeout(700)
    expect(first(page)).to_contain_text("blue mug")


def test_words_typed_before_the_server_has_answered_are_searched_for(visit):
    visitor = visit()
    held = []

    def hold(route):
        held.append(route)

    visitor.page.route("**/v1/collections", hold)
    page = visitor.open("/")
    search(page, "blue")
    page.wait_for_timeout(300)
    expect(page.locator(CARDS)).to_have_count(0)
    held[0].continue_()
    expect(first(page)).to_contain_text("blue mug")
    expect(page.get_by_role("searchbox")).to_have_value("blue")


def test_a_search_can_be_shared_and_back_works(visit):
    page = visit().open("/?c=shop&q=green")
    expect(first(page)).to_contain_text("green mug")
    expect(page.get_by_role("searchbox")).to_have_value("green")
    search(page, "black")
    page.keyboard.press("Enter")
    expect(first(page)).to_contain_text("black mug")
    page.go_back()
    expect(first(page)).to_contain_text("green mug")
    expect(page.get_by_role("searchbox")).to_have_value("green")
    page.go_forward()
    expect(first(page)).to_contain_text("black mug")


def test_clearing_leads_back_to_the_beginning(page):
    search(page, "red")
    expect(first(page)).to_contain_text("red mug")
    page.get_by_role("button", name="Clear the search").click()
    expect(page.get_by_role("heading", level=2)).to_have_text("From this catalogue")
    expect(page).to_have_url(re.compile(r"\?c=shop$"))


def test_a_hostile_title_is_shown_as_the_text_it_is(page):
    search(page, "onerror")
    expect(first(page)).to_contain_text(HOSTILE)
    first(page).click()
    expect(page.get_by_role("heading", level=2)).to_contain_text("<img src=x")
    page.reload()
    expect(page.get_by_role("heading", level=2)).to_contain_text("<img src=x")
    assert page.evaluate("window.pwned") is None


def test_a_click_finds_similar_products(page):
    search(page, "red")
    expect(first(page)).to_contain_text("red mug")
    first(page).click()
    expect(page.get_by_role("heading", level=2)).to_have_text("Similar to red mug")
    expect(page).to_have_url(re.compile(r"\?c=shop&like=p1$"))
    assert "red mug" not in page.locator(CARDS).all_inner_texts()
    expect(page.get_by_role("searchbox")).to_have_value("")
    page.reload()
    expect(page.get_by_role("heading", level=2)).to_have_text("Similar to red mug")
    page.get_by_role("button", name="Stop searching for similar products").click()
    expect(page.get_by_role("heading", level=2)).to_have_text("From this catalogue")


def test_everything_works_from_the_keyboard(page):
    expect(page.locator(CARDS)).to_have_count(9)
    page.keyboard.press("/")
    page.keyboard.type("mug")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("6 products found")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('a.card')"):
            break
    expect(first(page)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator(CARDS).nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    columns = page.evaluate("new Set([...document.querySelectorAll('a.card')].map(card => card.offsetLeft)).size")
    expect(page.locator(CARDS).nth(1 + columns)).to_be_focused()
    page.keyboard.press("End")
    expect(page.locator(".grid").first.locator(CARDS).last).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    expect(first(page)).to_be_focused()
    page.keyboard.press("Enter")
    heading = page.get_by_role("heading", level=2)
    expect(heading).to_have_text(re.compile("Similar to .* mug"))
    expect(heading).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_the_collection_can_be_switched_and_an_empty_one_says_so(page):
    page.get_by_label("Collection").select_option("attic")
    expect(page.get_by_text("This collection is empty")).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?c=attic$"))
    page.get_by_label("Collection").select_option("shop")
    expect(page.locator(CARDS)).to_have_count(9)
    page.go_back()
    expect(page.get_by_text("This collection is empty")).to_be_visible()


def test_a_shared_link_to_a_collection_that_is_gone_says_so(visit):
    visitor = visit()
    visitor.tolerated = "404"
    page = visitor.open("/?c=gone&q=red")
    expect(page.get_by_role("heading", level=2)).to_have_text("There is no collection “gone”")


def test_a_server_that_is_away_can_be_tried_again(visit):
    visitor = visit()
    visitor.tolerated = "ERR_FAILED"
    page = visitor.open()
    expect(page.locator(CARDS)).to_have_count(9)
    page.route("**/search/text", lambda route: route.abort())
    search(page, "red")
    expect(page.get_by_text("The server cannot be reached.")).to_be_visible()
    page.unroute("**/search/text")
    page.get_by_role("button", name="Try again").click()
    expect(first(page)).to_contain_text("red mug")


def test_a_server_without_collections_says_what_to_do(visit):
    page = visit().page
    page.route("**/v1/collections", lambda route: route.fulfill(json={"collections": [], "unusable": {}}))
    page.goto(visit().address + "/")
    expect(page.get_by_role("heading", level=2)).to_have_text("There is no collection yet")
    page.get_by_role("link", name="Import a catalogue").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Manage")


def test_a_picture_that_does_not_come_leaves_its_place(visit):
    visitor = visit()
    visitor.tolerated = "404"
    visitor.page.route("**/image?**", lambda route: route.fulfill(status=404))
    page = visitor.open("/?c=shop&q=red")
    expect(first(page).locator(".no-photo")).to_be_visible()


def test_a_server_that_answers_no_json_is_said_to_be_away(visit):
    visitor = visit()
    visitor.tolerated = "502"
    visitor.page.route("**/search/text", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    page = visitor.open("/?c=shop&q=red")
    expect(page.get_by_text("The server cannot be reached.")).to_be_visible()


def test_a_collection_that_cannot_be_opened_says_why(visit):
    page = visit().page
    why = {"collections": [], "unusable": {"shop": "built by another encoder: run `semblance reindex shop`"}}
    page.route("**/v1/collections", lambda route: route.fulfill(json=why))
    page.goto(visit().address + "/")
    expect(page.get_by_text("run `semblance reindex shop`")).to_be_visible()


@pytest.mark.parametrize(
    ("decision", "confidence", "words"),
    [
        ("answer", 0.931, "Good matches"),
        ("broaden", 0.4, "Possible matches"),
        ("generate", 0.1, "Nothing in this catalogue seems to fit; closest products:"),
        ("abstain", 0.1, "Nothing in this catalogue seems to fit; closest products:"),
    ],
)
def test_confidence_is_put_into_words(page, decision, confidence, words):
    def reword(route):
        body = route.fetch().json() | {"decision": decision, "confidence": confidence}
        route.fulfill(json=body)

    page.route("**/search/text", reword)
    search(page, "red")
    expect(page.get_by_role("heading", level=2)).to_have_text(words)
    said = {"answer": "2 products found · 93% sure", "broaden": "2 products found"}.get(decision, "")
    expect(page.locator(".verdict p")).to_have_text(said)
    expect(page.get_by_role("status")).to_have_text(said.partition(" ·")[0] or words)
    expect(page.get_by_role("heading", name="Further away")).to_have_count(1 if said else 0)
    expect(page.locator(CARDS)).to_have_count(9)


def test_the_page_speaks_the_visitors_language(visit):
    page = visit(locale="zh-CN").open()
    expect(page.get_by_role("heading", level=1)).to_have_text("说出来，或给我看。")
    assert page.evaluate("document.documentElement.lang") == "zh"
    page = visit(locale="de-DE").open("/?c=shop&q=red")
    expect(first(page).locator(".price")).to_have_text("10,50 €")


def test_the_language_can_be_switched_and_stays(visit):
    page = visit().open("/?c=shop&q=red")
    expect(first(page)).to_contain_text("red mug")
    page.get_by_label("Language").select_option("zh")
    expect(page.locator(".verdict p")).to_have_text("找到 2 件商品")
    expect(page.get_by_role("searchbox")).to_have_value("red")
    page.reload()
    assert page.evaluate("document.documentElement.lang") == "zh"
    page.get_by_label("语言").select_option("de")
    expect(page.get_by_label("Sprache")).to_have_value("de")


def test_every_sentence_is_there_in_every_language(page):
    names = page.evaluate(
        """async () => {
            const { languages } = await import("/static/messages.js");
            const flat = (words, before = "") => Object.entries(words).flatMap(([name, value]) => typeof value === "object"
                ? flat(value, `${before}${name}.`) : [[before + name, typeof value, value.length > 0].join()]);
            return Object.values(languages).map((words) => flat(words).sort().join());
        }"""
    )
    assert names[0] == names[1] == names[2]


def test_a_server_that_asks_for_a_key_gets_it_from_the_visitor(visits, start_toy_server, monkeypatch):
    monkeypatch.setenv("SEMBLANCE_API_KEYS", "on")
    server = fill_guarded(start_toy_server())
    visitor = visits(server.address)
    visitor.tolerated = "401"
    page = visitor.open("/?c=shop&q=red")
    expect(page.get_by_role("heading", level=2)).to_have_text("This server asks for a key")
    assert Axe().run(page).violations_count == 0
    page.get_by_label("API key").fill("smb_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    page.get_by_label("API key").fill(KeyRing(data_of(server)).create(KeyRequest("visitor", "read"))[1])
    page.keyboard.press("Enter")
    expect(first(page)).to_contain_text("red mug")
    page.wait_for_function("document.querySelector('a.card img').naturalHeight > 0")
    page.reload()
    expect(first(page)).to_contain_text("red mug")
    server.end()


def data_of(server):
    return Path(server.process.args[-1])


def fill_guarded(server):
    key = KeyRing(data_of(server)).create(KeyRequest("shopkeeper", "admin"))[1]
    server.client.headers["authorization"] = f"Bearer {key}"
    return fill_shop(server)
