"""What the browser tests share: a shop to visit, a visitor's window, and small things a visitor does.

Every visit also proves that the page stayed quiet: no console errors, no policy violations, no request to any other host.
"""

import base64
import re
from urllib.parse import urlsplit

from playwright.sync_api import expect

from engine.testing import COLOURS
from tests.conftest import one_colour

expect.set_options(timeout=20_000)  # a machine that does much else besides is no reason to fail

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
QUIET += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a microphone that beeps
HOSTILE = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>${window.pwned=1}"
CARDS = "a.card"


def fill_shop(server):
    """Give a server `shop`: six mugs with pictures, and products of a hostile and a wordy feed; and the empty `attic`."""
    mugs = [
        {
            "id": f"p{number}",
            "title": f"{name} mug",
            "images": [one_colour(colour)],
            "attributes": {"price": number * 10.5, "currency": "EUR", "brand": "Acme" if number % 2 else "O'Neill \\ Söhne"},
        }
        for number, (name, colour) in enumerate(COLOURS.items(), start=1)
    ]
    odd = [
        {"id": "evil/'\"><", "title": HOSTILE, "attributes": {"price": 1, "currency": "<b>"}},
        {"id": "wordy", "title": "wordy " + "unbreakable" * 40},
        {"id": "tall", "title": "tall lamp", "images": [one_colour("white", (30, 90))]},
    ]
    for name in ("shop", "attic"):
        server.client.put(f"/v1/collections/{name}").raise_for_status()
    answer = server.client.post("/v1/collections/shop/documents", json={"documents": mugs + odd})
    assert answer.json()["refused"] == 0, answer.text
    return server


class Visit:
    """One visitor's window, and everything it complained about or asked other hosts for."""

    def __init__(self, chromium, address, **options):
        self.address = address
        self.tolerated = ""
        self.complaints = []
        self.hosts = set()
        self._context = chromium.new_context(**{"viewport": {"width": 1280, "height": 860}, "locale": "en-US", **options})
        self.page = self._context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda message: self._note(message) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def _note(self, message):
        self.complaints.append(f"{message.text} ({message.location.get('url')})")

    def open(self, path="/"):
        self.page.goto(self.address + path)
        return self.page

    def close(self):
        complaints = [*self.complaints]  # without its routes the page asks the real server, which may complain
        self.page.unroute_all(behavior="ignoreErrors")  # an answer under way would fail the next test
        self._context.close()
        unexpected = [text for text in complaints if not (self.tolerated and re.search(self.tolerated, text))]
        assert not unexpected, "\n".join(unexpected)
        # Pictures a visitor gave are shown from `blob:` addresses, which have no host.
        assert self.hosts <= {urlsplit(self.address).netloc, ""}


def let_server_do(page, **abilities):
    """Play what a server says it can do beside searching."""
    answer = {"draws": False, "listens": False, "fetches": False} | abilities
    page.route("**/static/abilities.json", lambda route: route.fulfill(json=answer))


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
