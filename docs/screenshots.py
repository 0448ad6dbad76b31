"""Takes the pictures of the pages that the README shows: `make screenshots`.

It indexes the example catalogues into a folder of its own, serves them on a free port, and looks at them with Chromium. A font for
Chinese must be there (Debian: fonts-noto-cjk).
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs/images"
DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
CATALOGUES = {"shop": "examples/shop/products.csv", "emoji": "examples/emoji/emoji.jsonl"}
MAX_BYTES = 300_000


def search(page: Page, address: str) -> None:
    """Show a search with facets, in the light."""
    page.goto(f"{address}/?c=shop&q=chair")


def compose(page: Page, address: str) -> None:
    """Show a picture and words together, in the dark."""
    page.goto(f"{address}/?c=shop&q=blue")
    page.locator("a.card").first.wait_for()
    page.set_input_files("#picture-file", str(ROOT / "examples/shop/images/leather-sofa.jpg"))
    page.get_by_alt_text("Your picture").wait_for()
    page.get_by_role("searchbox").fill("blue")
    page.locator(".weights").wait_for()


def chinese(page: Page, address: str) -> None:
    """Show a search of the emoji in Chinese."""
    page.goto(f"{address}/?c=emoji&q=生日蛋糕")


def drawing(page: Page, address: str) -> None:
    """Show a drawing of what the shop does not have."""
    page.goto(f"{address}/?c=shop&q=helicopter")
    page.get_by_role("button", name="Draw it").click()
    page.locator("#drawing-title").wait_for(timeout=120_000)


def phone(page: Page, address: str) -> None:
    """Show a search on a phone."""
    page.goto(f"{address}/?c=shop&q=running+shoes")


def manage(page: Page, address: str) -> None:
    """Show an import with refused rows."""
    page.goto(f"{address}/admin")
    rows = "id,title,price\n1,red toy car,9.5\n2,blue teddy bear,19\n,a train,12\n4,,2\n"
    page.set_input_files("#catalogue", {"name": "toys.csv", "mimeType": "text/csv", "buffer": rows.encode()})
    page.get_by_role("combobox", name="Collection").fill("toys")
    page.get_by_role("button", name="Import", exact=True).click()
    page.locator(".rows").wait_for(timeout=120_000)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")


SHOTS = {
    "search": (search, DESK | {"color_scheme": "light"}),
    "compose": (compose, DESK | {"color_scheme": "dark"}),
    "chinese": (chinese, DESK | {"color_scheme": "light", "locale": "zh-CN"}),
    "drawing": (drawing, DESK | {"color_scheme": "light"}),
    "phone": (phone, PHONE | {"color_scheme": "light"}),
    "manage": (manage, DESK | {"color_scheme": "light"}),
}


@contextmanager
def example_catalogues() -> Iterator[str]:
    """Index and serve the example catalogues; lends the address."""
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "cli"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SEMBLANCE_")}
        for collection, catalogue in CATALOGUES.items():
            source = [catalogue, "--collection", collection, "--data", data]
            subprocess.run([*command, "index", *source], cwd=ROOT, env=environment, check=True)  # noqa: S603  our own command
        server = subprocess.Popen(  # noqa: S603  our own command
            [*command, "serve", "--data", data, "--port", "0"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        try:
            yield next(found[0] for line in server.stderr or () if (found := re.search(r"http://\S+", line)))
        finally:
            server.terminate()
            server.communicate()


def main() -> None:
    """Take every picture."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with example_catalogues() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (show, options) in SHOTS.items():
            page = browser.new_context(reduced_motion="reduce", **options).new_page()
            page.set_default_timeout(60_000)
            show(page, address)
            if name != "manage":
                page.locator("a.card").first.wait_for()
            page.wait_for_load_state("networkidle")
            page.wait_for_function("[...document.images].slice(0, 6).every((image) => image.complete)")
            path = IMAGES / f"{name}.webp"
            Image.open(io.BytesIO(page.screenshot())).save(path, quality=84, method=6)
            if path.stat().st_size > MAX_BYTES:
                sys.exit(f"{path} is larger than {MAX_BYTES} bytes: take a smaller window")
        browser.close()


if __name__ == "__main__":
    main()
