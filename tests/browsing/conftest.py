"""A real Chromium, a shop to visit with it, and the visitor's window: what the tests of the pages share.

A test file about another shop has a fixture `shop` of its own.
"""

import shutil
from functools import partial

import pytest
from playwright.sync_api import sync_playwright

from tests.browsing.visitor import QUIET, Visit, fill_shop


@pytest.fixture(scope="module")
def chromium():
    """A Chromium without a window, for one test file."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.fail("the browser tests need Chromium: `apt-get install chromium`, or run them by `make test`, which installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def visits(chromium):
    """Begin a `Visit` of an address; when the test ends, each visit is asked whether the page stayed quiet."""
    begun: list[Visit] = []

    def begin(address: str, **options):
        begun.append(Visit(chromium, address, **options))
        return begun[-1]

    yield begin
    for visit in begun:
        visit.close()


@pytest.fixture(scope="module")
def shop(toy_server):
    """A server with the shop of `fill_shop`, for one test file."""
    return fill_shop(toy_server)


@pytest.fixture
def visit(visits, shop):
    """Begin a visit of the shop."""
    return partial(visits, shop.address)


@pytest.fixture
def page(visit):
    """The page as it opens."""
    return visit().open()
