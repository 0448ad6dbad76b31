"""How fast the search page answers a visitor: Event Timing of Chromium over typing, choosing, weighing, paging and switching.

    python benchmarks/page.py --url http://127.0.0.1:8000 [--slower 4]

For a running server with the two example catalogues (`make demo`). Reported: p75 and p98 of the interactions, from the event to the
next frame, as Interaction to Next Paint has it (the browser tells of none quicker than 16 ms; those count as 8); and the time from
the last letter typed until its results stand on the page. `--slower` divides the processor for the page, as a phone would.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "examples/shop/images/leather-sofa.jpg"
QUERIES = ("running shoes", "camera for travelling", "green plant", "椅子", "stuhl")
OBSERVE = """window.timings = new Map();
const note = (list) => list.getEntries().filter((entry) => entry.interactionId).forEach((entry) =>
    timings.set(entry.interactionId, Math.max(entry.duration, timings.get(entry.interactionId) ?? 0)));
new PerformanceObserver(note).observe({ type: 'event', buffered: true, durationThreshold: 16 });"""
STANDING = "(query) => document.title.startsWith(query) && document.getElementById('results').ariaBusy === 'false'"


@contextmanager
def open_page(slower: float) -> Iterator[Page]:
    """Open a page of its own in Chromium."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US").new_page()
        page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
        page.add_init_script(OBSERVE)
        yield page
        browser.close()


def type_and_choose(page: Page, query: str) -> float:
    """Type a query, choose and unchoose what narrows, and sort; returns the seconds from the last letter to its results."""
    box = page.get_by_role("searchbox")
    box.fill("")
    box.press_sequentially(query, delay=70)
    began = time.perf_counter()
    page.wait_for_function(STANDING, arg=query)
    waited = time.perf_counter() - began
    for _ in range(2):
        page.locator(".check input").first.click()
        page.wait_for_timeout(250)
    page.get_by_role("combobox", name="Sort").select_option(index=1)
    page.wait_for_timeout(250)
    page.get_by_role("combobox", name="Sort").select_option(index=0)
    page.wait_for_timeout(250)
    return waited


def compose(page: Page) -> None:
    """Search by a picture and words, and weigh them."""
    page.set_input_files("#picture-file", str(PICTURE))
    page.get_by_alt_text("Your picture").wait_for()
    page.get_by_role("searchbox").press_sequentially("blue", delay=70)
    for _ in range(6):
        page.get_by_label("Words").press("ArrowRight")
        page.wait_for_timeout(120)
    page.get_by_role("button", name="Remove the picture").click()


def turn(page: Page, url: str) -> None:
    """Turn pages of a long list, follow a product, and go back."""
    page.goto(f"{url}/?c=emoji&q=person")
    page.locator("a.card").first.wait_for()
    for _ in range(3):
        if page.get_by_role("button", name="Show more").count():
            page.get_by_role("button", name="Show more").click()
            page.wait_for_timeout(400)
    page.locator("a.card").nth(2).click()
    page.wait_for_timeout(400)


def collected(page: Page) -> list[float]:
    """Durations of the interactions of the page that is shown, in ms."""
    page.wait_for_timeout(500)
    told = page.evaluate("[...timings.values()]")
    return told + [8.0] * max(0, page.evaluate("performance.interactionCount") - len(told))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--slower", type=float, default=1.0)
    asked = parser.parse_args()
    with open_page(asked.slower) as page:
        page.goto(f"{asked.url}/?c=shop")
        page.locator("a.card").first.wait_for()
        waits = sorted(type_and_choose(page, query) for query in QUERIES)
        compose(page)
        durations = collected(page)
        turn(page, asked.url)
        durations = sorted(durations + collected(page))
    found = {f"p{share}_ms": durations[int(share / 100 * (len(durations) - 1))] for share in (50, 75, 98)}
    print(json.dumps({"interactions": len(durations), **found, "results_after_ms": [round(1e3 * wait) for wait in waits]}))


if __name__ == "__main__":
    main()
