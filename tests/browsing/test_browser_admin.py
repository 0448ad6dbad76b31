"""Importing a catalogue in the browser: upload, progress, the rows that were refused, another try; with and without a key."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browsing.visitor import PHONE

pytestmark = pytest.mark.browser

CATALOGUE = "id,title,price\n1,red toy car,9.5\n2,blue teddy bear,19\n,no id,3\n4,,2\n5,<b>wooden</b> train,25\n"


@pytest.fixture(scope="module")
def shop(bundle_server):
    """The real command over an empty folder: an import runs in a process of its own, with the encoder of the settings."""
    return bundle_server


def catalogue(text=CATALOGUE, name="toys.csv"):
    return {"name": name, "mimeType": "text/csv", "buffer": text.encode()}


def send(page, collection, **given):
    page.set_input_files("#catalogue", catalogue(**given))
    page.get_by_role("combobox", name="Collection").fill(collection)
    page.get_by_role("button", name="Import", exact=True).click()


def test_a_catalogue_is_uploaded_followed_and_its_refused_rows_listed(visit, shop):
    page = visit().open("/admin")
    expect(page.get_by_text("Nothing has been imported here yet.")).to_be_visible()
    send(page, "toys")
    job = page.get_by_role("article")
    expect(job.locator("progress")).to_be_visible()
    expect(job.locator(".state")).to_have_text("Done", timeout=120_000)
    expect(job.locator(".counts")).to_contain_text("New\n3", use_inner_text=True)
    rows = job.locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("id_missing")
    expect(rows.nth(1)).to_contain_text("neither a title nor a picture")
    expect(page.get_by_role("link", name="toys")).to_be_visible()
    with page.expect_download() as download:
        job.get_by_role("button", name="Download as CSV").click()
    assert download.value.path().read_text(encoding="utf-8-sig").startswith("row,id,reason,code")
    assert Axe().run(page).violations_count == 0
    page.get_by_role("link", name="toys").click()
    expect(page.locator("a.card")).to_have_count(3)
    assert shop.client.get("/v1/collections/toys").json()["documents"] == 3


def test_what_is_wrong_with_an_upload_is_said(visit):
    visitor = visit()
    visitor.tolerated = "422"
    page = visitor.open("/admin")
    send(page, "Not A Name")
    expect(page.get_by_role("alert")).to_contain_text("may hold a-z")
    send(page, "broken", text="\n", name="empty.csv")
    expect(page.locator(".state").first).to_have_text("Failed", timeout=120_000)
    expect(page.get_by_role("article").first.locator(".wrong")).not_to_be_empty()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_all(visit, scheme):
    page = visit(color_scheme=scheme, **PHONE).open("/admin")
    expect(page.get_by_role("heading", name="Imports")).to_be_visible()
    send(page, "broken", text="x" * 200 + ",y\n1,2\n", name="long-names.csv")  # which the reason of the failure repeats
    expect(page.locator(".state").first).to_have_text("Failed", timeout=120_000)
    expect(page.get_by_role("article").first.locator(".wrong")).to_contain_text("xxxx")
    assert Axe().run(page).violations_count == 0
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
