"""The page is for everyone, everywhere: accessibility, small screens, quiet motion, steady layout, a strict policy."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browsing.visitor import CARDS, PHONE, drop, first, search, transfer_of

pytestmark = pytest.mark.browser


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
    if page.get_by_role("button", name="Narrow down").is_visible():
        page.get_by_role("button", name="Narrow down").click()
    yield "narrowing"
    page.locator("summary").click()
    page.locator("#where").fill("price < <")
    page.keyboard.press("Enter")
    expect(page.locator("#where")).to_have_attribute("aria-invalid", "true")
    yield "filter error"
    drop(page, transfer_of(page))
    expect(page.get_by_role("alert")).to_be_visible()
    yield "notice"
    page.goto(address + "/?c=shop&like=p1&q=mug&f.brand=Acme&r.price=..60")
    expect(page.get_by_label("Words")).to_be_visible()
    expect(page.get_by_role("button", name="Clear all")).to_be_visible()
    yield "weights and chips"
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


def test_interactions_are_timed(visit, record_property, capsys):
    """Report p75 of the Event Timing API over typing, choosing and paging; a figure, because a shared machine allows no bar."""
    page = visit().page
    page.add_init_script(
        """window.timings = new Map();
        const note = (list) => list.getEntries().filter((entry) => entry.interactionId).forEach((entry) =>
            timings.set(entry.interactionId, Math.max(entry.duration, timings.get(entry.interactionId) ?? 0)));
        new PerformanceObserver(note).observe({ type: 'event', buffered: true, durationThreshold: 16 });"""
    )
    page.goto(visit().address + "/?c=shop")
    expect(first(page)).to_be_visible()
    page.get_by_role("searchbox").press_sequentially("red mug", delay=60)
    expect(page.get_by_role("checkbox", name="Acme")).to_be_visible()
    for _ in range(4):
        page.get_by_role("checkbox", name="Acme").click()
        page.wait_for_timeout(150)
    page.get_by_role("button", name="Clear the search").click()
    page.wait_for_timeout(500)
    durations = sorted(page.evaluate("[...timings.values()]"))
    interactions = page.evaluate("performance.interactionCount")
    assert interactions >= 12
    below = [8.0] * (interactions - len(durations))  # the browser tells of none that is quicker than 16 ms
    p75 = (below + durations)[int(0.75 * (interactions - 1))]
    record_property("p75_interaction_ms", p75)
    with capsys.disabled():
        print(f"\np75 of {interactions} interactions: {p75:.0f} ms")  # noqa: T201  the figure is the point
