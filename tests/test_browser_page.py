"""The search page as a visitor meets it: a real Chromium against the real server.

Every test also proves that the page stayed quiet: no console errors, no policy violations, no request to any other host.
"""

import base64
import io
import re
import shutil
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from engine.ranking import TITLE_SHARE
from engine.testing import COLOURS

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
HOSTILE = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>${window.pwned=1}"
CARDS = "a.card"


@pytest.fixture(scope="module")
def chromium():
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.fail("the browser tests need Chromium: `apt-get install chromium`, or run them by `make test`, which installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shop(toy_server):
    """The server with `shop`: six mugs with pictures, and products of a hostile and a wordy feed; and the empty `attic`."""
    mugs = [
        {
            "id": f"p{number}",
            "title": f"{name} mug",
            "images": [one_colour(colour)],
            "attributes": {"price": number * 10.5, "currency": "EUR"},
        }
        for number, (name, colour) in enumerate(COLOURS.items(), start=1)
    ]
    odd = [
        {"id": "evil/'\"><", "title": HOSTILE, "attributes": {"price": 1, "currency": "<b>"}},
        {"id": "wordy", "title": "wordy " + "unbreakable" * 40},
        {"id": "tall", "title": "tall lamp", "images": [one_colour("white", (30, 90))]},
    ]
    for name in ("shop", "attic"):
        toy_server.client.put(f"/v1/collections/{name}").raise_for_status()
    answer = toy_server.client.post("/v1/collections/shop/documents", json={"documents": mugs + odd})
    assert answer.json()["refused"] == 0, answer.text
    return toy_server


class Visit:
    """One visitor's window, and everything it complained about or asked other hosts for."""

    def __init__(self, chromium, address, **options):
        self.address = address
        self.tolerated = ""
        self.complaints = []
        self.hosts = set()
        self._context = chromium.new_context(**{"viewport": {"width": 1280, "height": 860}, "locale": "en-US", **options})
        self.page = self._context.new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("console", lambda message: self._note(message) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def _note(self, message):
        self.complaints.append(f"{message.text} ({message.location.get('url')})")

    def open(self, path="/"):
        self.page.goto(self.address + path)
        return self.page

    def close(self):
        self._context.close()
        unexpected = [text for text in self.complaints if not (self.tolerated and re.search(self.tolerated, text))]
        assert unexpected == []
        # Pictures a visitor gave are shown from `blob:` addresses, which have no host.
        assert self.hosts <= {urlsplit(self.address).netloc, ""}


@pytest.fixture
def visit(chromium, shop):
    visits = []

    def begin(**options):
        visits.append(Visit(chromium, shop.address, **options))
        return visits[-1]

    yield begin
    for made in visits:
        made.close()


@pytest.fixture
def page(visit):
    return visit().open()


def one_colour(colour, size=(48, 64)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def first(page):
    return page.locator(CARDS).first


def search(page, words):
    page.get_by_role("searchbox").fill(words)


def file_of(colour, name="photo.png", kind="image/png"):
    return {"name": name, "mimeType": kind, "buffer": base64.b64decode(one_colour(colour))}


def transfer_of(page, colour=None):
    """A DataTransfer in the page that holds a picture of one colour, or a text file."""
    return page.evaluate_handle(
        """async (picture) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(picture ?? "aGk="), (c) => c.charCodeAt(0));
            const [name, type] = picture ? ["p.png", "image/png"] : ["p.txt", "text/plain"];
            transfer.items.add(new File([bytes], name, { type }));
            return transfer;
        }""",
        one_colour(colour) if colour else None,
    )


def drop(page, transfer):
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


# Landing and words


def test_landing_shows_the_catalogue_and_what_can_be_done(page):
    expect(page.get_by_role("heading", level=1)).to_have_text("Say it or show it.")
    expect(page.locator(CARDS)).to_have_count(9)
    expect(page.get_by_role("button", name="Choose a picture")).to_be_visible()
    expect(page.locator(".score")).to_have_count(0)


def test_results_appear_while_typing_and_are_announced(page):
    search(page, "red")
    expect(first(page)).to_contain_text("red mug")
    expect(first(page).locator(".price")).to_have_text("€10.50")
    expect(first(page).locator(".score")).to_have_text(f"{1 - TITLE_SHARE + TITLE_SHARE * 2**-0.5:.2f}")
    expect(page.get_by_role("status")).to_have_text("9 products found")
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


# Pictures


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


# Similar products


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
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    expect(first(page)).to_contain_text("red mug")
    for _ in range(6):
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
    expect(page.locator(CARDS).last).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    expect(first(page)).to_be_focused()
    page.keyboard.press("Enter")
    heading = page.get_by_role("heading", level=2)
    expect(heading).to_have_text("Similar to red mug")
    expect(heading).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


# Filters, collections, trouble


def test_a_filter_narrows_and_a_wrong_one_says_where(visit):
    visitor = visit()
    visitor.tolerated = "422"
    page = visitor.open("/?c=shop&q=mug")
    page.get_by_text("Filter", exact=True).click()
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
    expect(page.locator(".verdict p")).to_have_text("9 products found · 93% sure" if decision == "answer" else "9 products found")


def test_the_page_speaks_the_visitors_language(visit):
    page = visit(locale="zh-CN").open()
    expect(page.get_by_role("heading", level=1)).to_have_text("说出来，或给我看。")
    assert page.evaluate("document.documentElement.lang") == "zh"
    page = visit(locale="de-DE").open("/?c=shop&q=red")
    expect(first(page).locator(".price")).to_have_text("10,50 €")


# For everyone, everywhere


def states(page, address):
    """Visit every state of the page, and say which one it is in."""
    page.goto(address + "/")
    expect(page.locator(CARDS)).to_have_count(9)
    yield "landing"
    search(page, "wordy")
    expect(first(page)).to_contain_text("wordy")
    yield "results"
    first(page).click()
    expect(page.get_by_role("heading", level=2)).to_contain_text("Similar to")
    yield "similar"
    page.locator("summary").click()
    page.locator("#where").fill("price < <")
    page.keyboard.press("Enter")
    expect(page.locator("#where")).to_have_attribute("aria-invalid", "true")
    yield "filter error"
    drop(page, transfer_of(page))
    expect(page.get_by_role("alert")).to_be_visible()
    yield "notice"
    page.goto(address + "/?c=attic")
    expect(page.get_by_text("This collection is empty")).to_be_visible()
    yield "empty"
    page.goto(address + "/?c=gone&q=x")
    expect(page.get_by_role("heading", level=2)).to_contain_text("There is no collection")
    yield "missing"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [{}, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_and_nothing_overflows(visit, scheme, device):
    visitor = visit(color_scheme=scheme, reduced_motion="reduce", **device)
    visitor.tolerated = "404|422"
    for state in states(visitor.page, visitor.address):
        found = Axe().run(visitor.page)
        assert found.violations_count == 0, f"{state}: {found.generate_report()}"
        wide = visitor.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, state


def test_a_phone_has_targets_large_enough_for_a_thumb(visit):
    page = visit(**PHONE).open("/?c=shop&like=p1")
    expect(first(page)).to_be_visible()
    for control in page.locator("button:visible, select:visible, summary:visible").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 32, control.evaluate("element => element.outerHTML")


def test_nothing_jumps_while_the_page_loads(visit):
    page = visit().page
    page.add_init_script(
        """window.shifted = 0;
        const add = (list) => list.getEntries().forEach((entry) => { window.shifted += entry.value; });
        new PerformanceObserver(add).observe({ type: 'layout-shift', buffered: true });"""
    )
    page.goto(visit().address + "/?c=shop&q=red")
    expect(first(page)).to_contain_text("red mug")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(200)
    assert page.evaluate("window.shifted") < 0.05


def test_motion_is_reduced_for_those_who_ask(visit):
    page = visit(reduced_motion="reduce").open()
    assert first(page).evaluate("card => getComputedStyle(card).transitionDuration") == "0s"


def test_the_api_reference_works_without_the_internet(visit):
    page = visit().open("/docs")
    expect(page.get_by_text("/v1/collections/{collection}/search/text")).to_be_visible()


def test_scripts_from_elsewhere_do_not_run(visit):
    visitor = visit()
    visitor.tolerated = "Content Security Policy|TrustedHTML|Trusted Type"
    page = visitor.open()
    refused = page.evaluate(
        """() => {
            try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.pwned = 1">'); return false; }
            catch (error) { return error instanceof TypeError; }
        }"""
    )
    assert refused
    assert page.evaluate("window.pwned") is None
