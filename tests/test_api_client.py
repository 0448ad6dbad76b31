"""The Python client against the real server in a process of its own; what a server rarely does is played by `MockTransport`."""

import asyncio
import base64
import inspect
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from api.client import (
    AsyncSemblance,
    ClientProblem,
    Conflict,
    FacetSearch,
    InvalidRequest,
    KeyRefused,
    NewDocument,
    NotFound,
    Problem,
    Retries,
    Semblance,
    ServerFailed,
    Term,
    TooManyRequests,
    Unavailable,
    Unreachable,
)
from api.client.operations import Many, One, Operations
from api.client.retrying import retry_after_s
from api.keys import KeyRequest, KeyRing
from engine.testing import COLOURS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def mugs(toy_server, tmp_path_factory):
    """The server with `shop`: six mugs, written through the client; pictures as bytes and as a file."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    with Semblance(toy_server.address) as client:
        assert client.create_collection("shop").documents == 0
        documents = []
        for number, (name, colour) in enumerate(COLOURS.items(), start=1):
            path = folder / f"{name}.png"
            Image.new("RGB", (48, 64), colour).save(path)
            picture = path if number % 2 else path.read_bytes()
            attributes = {"price": number * 10, "brand": "Acme" if number % 2 else "Apex"}
            documents.append(NewDocument(f"p{number}", f"{name} mug", images=[picture], attributes=attributes))
        written = client.upsert("shop", [*documents, NewDocument("empty")])
    assert (written.created, written.refused) == (6, 1)
    assert "neither a title nor a picture" in str(written.items[6].error)
    return toy_server.address, folder


@pytest.fixture
def client(mugs):
    with Semblance(mugs[0]) as client:
        yield client


def test_words_pictures_and_terms_find_products(client, mugs):
    found = client.search_text("shop", "red", k=3, explain=True)
    assert found.hits[0].explain is not None
    assert found.hits[0].explain["image"].rank == 1
    assert found.hits[0].title == "red mug"
    assert len(found.hits) == 3
    assert client.search_image("shop", mugs[1] / "blue.png").hits[0].title == "blue mug"
    assert client.search_image("shop", (mugs[1] / "green.png").read_bytes()).hits[0].title == "green mug"
    terms = [Term(id="p1"), Term(text="blue", weight=0.7), Term(image=mugs[1] / "green.png", weight=-0.5)]
    assert client.search("shop", terms, k=1).hits[0].title == "blue mug"
    vector = client.embed(["yellow"])[0]
    assert len(vector) == 256
    assert client.search("shop", [Term(vector=vector)]).hits[0].title == "yellow mug"


def test_what_is_said_beside_the_search_reaches_the_server(client):
    facets = ["brand", FacetSearch("price", edges=[25])]
    found = client.search_text("shop", "mug", where="price > 10", facets=facets, sort=["price:desc"], group_by="brand")
    assert [hit.attributes["price"] for hit in found.hits] == [60, 50]
    assert found.admitted == 5
    assert {value.value for value in found.facets[0].values} == {"Acme", "Apex"}
    assert [(part.low, part.high) for part in found.facets[1].ranges] == [(None, 25.0), (25.0, None)]


def test_pages_end_and_repeat_nothing(client):
    pages = list(client.pages("shop", [Term(text="mug")], k=4))
    assert [len(page.hits) for page in pages][:2] == [4, 2]
    assert sorted(hit.id for page in pages for hit in page.hits) == [f"p{n}" for n in range(1, 7)]


def test_a_picture_by_address_is_refused_by_a_server_that_fetches_none(client):
    with pytest.raises(InvalidRequest, match="SEMBLANCE_IMAGE_URL_HOSTS"):
        client.search("shop", [Term(image_url="https://pictures.example/a.jpg")])


def test_recommendations_leave_out_what_they_were_made_from(client):
    assert "p1" not in [hit.id for hit in client.recommend("shop", ["p1"], ["p2"]).hits]


def test_a_product_is_shown_changed_and_removed(client):
    client.upsert("shop", [NewDocument("a/b ü?", "odd lamp", attributes={"x": 1})])
    assert client.document("shop", "a/b ü?").title == "odd lamp"
    assert client.patch("shop", "a/b ü?", {"attributes": {"x": None, "y": True}}).attributes == {"y": True}
    client.delete("shop", "a/b ü?")
    with pytest.raises(NotFound, match="a/b"):
        client.document("shop", "a/b ü?")


def test_a_picture_comes_as_bytes(client):
    assert client.picture("shop", "p1", size=32)[8:12] == b"WEBP"


def test_collections_are_listed_made_and_dropped(client):
    assert [item.name for item in client.collections()] == ["shop"]
    assert client.create_collection("attic") == client.collection("attic")
    client.drop_collection("attic")
    with pytest.raises(NotFound):
        client.collection("attic")
    assert client.ready()


@pytest.mark.parametrize("id", ["..", ".", ""])
def test_an_id_that_leads_to_another_address_is_never_sent(client, id):
    before = client.collection("shop").documents
    for call in (client.delete, client.document, client.picture):
        with pytest.raises(ClientProblem, match="nothing can have the name"):
            call("shop", id)
    with pytest.raises(ClientProblem, match="nothing can have the name"):
        client.drop_collection(id)
    assert client.collection("shop").documents == before


def test_an_error_mirrors_the_problem_document(client):
    with pytest.raises(InvalidRequest) as caught:
        client.search_text("shop", "mug", where="price < <")
    problem = caught.value
    assert (problem.status, problem.type, problem.title) == (422, "urn:semblance:problem:invalid-filter", "Invalid filter")
    assert problem.column == 9
    assert len(problem.request_id) == 32
    assert problem.detail in str(problem)
    with pytest.raises(InvalidRequest) as caught:
        client.search_text("shop", "mug", k=0)
    assert caught.value.errors[0]["location"] == "body.k"


def test_the_asynchronous_client_does_the_same(mugs):
    async def use():
        async with AsyncSemblance(mugs[0]) as client:
            found = await asyncio.gather(*(client.search_text("shop", colour) for colour in COLOURS))
            pages = [page async for page in client.pages("shop", [Term(text="mug")], k=4)]
            assert sum(len(page.hits) for page in pages) == 6
            with pytest.raises(NotFound):
                await client.document("shop", "none")
            return [result.hits[0].title for result in found]

    assert asyncio.run(use()) == [f"{name} mug" for name in COLOURS]


def test_both_clients_have_every_operation_with_its_names_and_words():
    operations = {name: item for name, item in vars(Operations).items() if isinstance(item, One | Many)}
    assert len(operations) > 30
    for client in (Semblance(), AsyncSemblance()):
        for name, operation in operations.items():
            method = getattr(client, name)
            assert method.__doc__ == operation.__doc__ != "", name
            assert inspect.signature(method) == inspect.signature(operation.describe), name


def test_keys_are_sent_and_refusals_told(start_toy_server, monkeypatch):
    monkeypatch.setenv("SEMBLANCE_API_KEYS", "on")
    monkeypatch.setenv("SEMBLANCE_RATE_LIMIT", "0.01")
    monkeypatch.setenv("SEMBLANCE_RATE_BURST", "2")
    server = start_toy_server()
    key = KeyRing(Path(server.process.args[-1])).create(KeyRequest("test", "read"))[1]
    with Semblance(server.address) as stranger, pytest.raises(KeyRefused, match="asks for a key") as caught:
        stranger.collections()
    assert caught.value.status == 401
    waits = []
    with Semblance(server.address, key=key, retries=Retries(3, max_s=200), sleep=waits.append) as guest:
        with pytest.raises(KeyRefused, match="needs admin"):
            guest.create_collection("shop")
        assert guest.collections() == guest.collections() == []
        with pytest.raises(TooManyRequests) as asked:
            guest.collections()
    assert 50 < asked.value.retry_after_s <= 100
    assert len(waits) == 2
    assert min(waits) >= asked.value.retry_after_s - 1
    assert key not in repr(vars(guest))
    server.end()


# Retries


class Script(httpx.MockTransport):
    """A server that answers as it is told, one after another, and keeps what it was asked."""

    def __init__(self, *answers):
        self.asked = []
        self._answers = iter(answers)
        super().__init__(self._answer)

    def _answer(self, request):
        self.asked.append(request)
        answer = next(self._answers)
        if isinstance(answer, type):
            raise answer("scripted")
        return answer


def listed():
    return httpx.Response(200, json={"collections": [], "unusable": {}})


def scripted(*answers, attempts=4):
    waits, transport = [], Script(*answers)
    return Semblance(transport=transport, retries=Retries(attempts, random=lambda: 1.0), sleep=waits.append), transport, waits


def test_a_busy_server_is_asked_again_after_the_time_it_named():
    busy = httpx.Response(503, headers={"Retry-After": "3"})
    client, transport, waits = scripted(busy, httpx.ConnectError, httpx.ReadTimeout, listed())
    assert client.collections() == []
    assert waits == [3.0, 0.4, 0.8]
    assert len(transport.asked) == 4


def test_a_wait_longer_than_the_caller_allows_is_not_begun():
    client, _, waits = scripted(httpx.Response(503, headers={"Retry-After": "3600"}))
    with pytest.raises(Unavailable) as caught:
        client.collections()
    assert caught.value.retry_after_s == 3600
    assert waits == []


@pytest.mark.parametrize(
    ("status", "kind"), [(400, InvalidRequest), (404, NotFound), (409, Conflict), (500, ServerFailed), (501, ServerFailed)]
)
def test_what_will_not_change_is_not_tried_again(status, kind):
    client, transport, _ = scripted(httpx.Response(status, text="<h1>no</h1>"))
    with pytest.raises(kind, match="no problem document"):
        client.collections()
    assert len(transport.asked) == 1


def test_the_last_failure_is_the_one_that_is_told():
    client, transport, waits = scripted(httpx.Response(503), httpx.Response(502), httpx.ConnectError, attempts=3)
    with pytest.raises(Unreachable, match="scripted"):
        client.collections()
    assert len(transport.asked) == 3
    assert len(waits) == 2


def test_a_write_keeps_its_idempotency_key_over_attempts_and_has_one_of_its_own():
    body = {"items": [], "created": 0, "updated": 0, "unchanged": 0, "refused": 0}
    under_way = httpx.Response(409, headers={"Retry-After": "1"})
    client, transport, _ = scripted(httpx.ReadTimeout, under_way, httpx.Response(200, json=body), httpx.Response(200, json=body))
    client.upsert("shop", [NewDocument("a", "b")])
    client.upsert("shop", [NewDocument("a", "b")])
    keys = [request.headers["idempotency-key"] for request in transport.asked]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_an_answer_of_another_form_is_said_to_be_one():
    client, _, _ = scripted(httpx.Response(200, json={"found": 1}))
    with pytest.raises(ClientProblem, match="not of the form"):
        client.collections()


def test_answers_of_newer_servers_are_read():
    body = {"name": "a", "documents": 1, "encoder": "e", "fingerprint": "f", "version": 1, "later": True}
    client, _, _ = scripted(httpx.Response(200, json=body))
    assert client.collection("a").documents == 1


def test_an_address_that_cannot_be_is_said_at_once():
    waits = []
    with Semblance("ftp://nowhere", sleep=waits.append) as client, pytest.raises(Unreachable, match="protocol"):
        client.ready()
    assert waits == []


def test_retry_after_is_read_in_both_forms():
    def read(value):
        return retry_after_s(httpx.Response(503, headers={"Retry-After": value.encode("latin-1")}))

    assert read("7") == 7
    assert read(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) == pytest.approx(60, abs=2)
    assert read(format_datetime(datetime.now(UTC) - timedelta(seconds=60), usegmt=True)) == 0
    assert [read(value) for value in ("", "soon", "-1", "²")] == [None] * 4


def test_backoff_doubles_is_jittered_and_ends():
    low, high = Retries(4, 1, 3, random=lambda: 0.0), Retries(4, 1, 3, random=lambda: 1.0)
    error = httpx.ConnectError("x")
    assert [low.wait_s(n, error) for n in (1, 2, 3, 4)] == [0.5, 1.0, 1.5, None]
    assert [high.wait_s(n, error) for n in (1, 2, 3, 4)] == [1.0, 2.0, 3.0, None]
    assert high.wait_s(1, httpx.Response(200)) is None
    with pytest.raises(ValueError, match="attempts"):
        Retries(0)


@pytest.mark.parametrize("given", [{}, {"text": "a", "id": "b"}])
def test_a_term_says_one_thing(given):
    with pytest.raises(ValueError, match="exactly one"):
        Term(**given)


def test_a_problem_without_a_body_has_all_its_members():
    problem = Problem(httpx.Response(500, request=httpx.Request("GET", "http://x/")))
    assert (problem.type, problem.errors, problem.column, problem.request_id) == ("about:blank", [], None, "")


def test_the_client_loads_neither_engine_nor_server():
    code = "import api.client, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {"engine", "indexer", "openvino", "faiss", "numpy", "PIL", "fastapi", "starlette", "orjson"} & set(loaded) == set()


def test_pictures_are_sent_as_base64(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\x00")
    assert Term(image=tmp_path / "a").as_json()["image"] == base64.b64encode(b"\xff\x00").decode()
