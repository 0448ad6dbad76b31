"""The Python client and work that goes on: imports, drawings, snapshots, voice; against the real command and its bundle."""

import asyncio
import base64
import io
import json
import wave
from dataclasses import asdict

import httpx
import pytest
from PIL import Image

from api.client import (
    AsyncSemblance,
    ClientProblem,
    Conflict,
    FacetSearch,
    InvalidRequest,
    NewDocument,
    NotFound,
    Retries,
    Semblance,
    Term,
    Unfinished,
    Unreachable,
)
from api.client.call import Stream
from api.client.events import Reader
from engine.generation.provenance import is_synthetic

FEED = "sku,name,price\n1,red toy car,9.5\n2,blue teddy bear,19\n,no id,3\n4,,2\n"
COLUMNS = {"id": "sku", "title": "name"}


@pytest.fixture(scope="module")
def server(bundle_server):
    return bundle_server


@pytest.fixture
def client(server):
    with Semblance(server.address) as client:
        yield client


@pytest.fixture(scope="module")
def toys(server, tmp_path_factory):
    """A catalogue and the job that imported it into `toys`; two of its rows were refused."""
    catalogue = tmp_path_factory.mktemp("feeds") / "toys.csv"
    catalogue.write_text(FEED, encoding="utf-8")
    with Semblance(server.address) as client:
        return catalogue, client.wait(client.import_file("toys", catalogue, mapping=COLUMNS).id, timeout_s=120)


def test_a_catalogue_is_imported_and_its_refused_rows_are_listed(client, toys):
    _, job = toys
    assert (job.state, job.kind, job.collection) == ("done", "import", "toys")
    assert (job.result["created"], job.result["refused"]) == (2, 2)
    assert client.search_text("toys", "something to cuddle").hits[0].id == "2"
    refused = [row for page in client.refused_rows(job) for row in page.errors]
    assert [row.row for row in refused] == [4, 5]
    assert all(row.reason and row.code for row in refused)
    assert [job.id for job in client.jobs(kind="import", collection="toys")] == [job.id]


def test_an_import_is_followed_as_it_goes_on(client, toys):
    catalogue, _ = toys
    begun = client.import_file("toys", catalogue, mapping=COLUMNS, prune=True)
    events = list(client.follow(begun.id))
    assert events[-1].job.ended
    assert events[-1].job.result["unchanged"] == 2
    assert {event.job.id for event in events} == {begun.id}
    assert client.job(begun.id) == events[-1].job


def test_an_import_is_retried_and_a_job_that_ended_cannot_be_cancelled(client, toys):
    again = client.wait(client.retry_import(toys[1]).id, every_s=0.1)
    assert (again.state, again.result["refused"]) == ("done", 2)
    assert client.cancel(again.id).state == "done"
    with pytest.raises(NotFound):
        client.job("ab")


def test_a_server_without_an_import_folder_says_so(client):
    with pytest.raises(InvalidRequest, match="SEMBLANCE_IMPORT_ROOT"):
        client.import_from_server("toys", "feeds/toys.csv")


def test_a_drawing_is_made_and_fetched(client, toys, colour_picture):
    client.create_collection("gallery")
    client.upsert("gallery", [NewDocument("a", "a red car", images=[base64.b64decode(colour_picture("red"))])])
    asked = {"collection": "gallery", "k": 1, "candidates": 1, "size": 64, "seed": 3}
    job = client.wait(client.generate("a red toy car", **asked).id, timeout_s=120)
    assert job.drawn is not None, job
    assert job.drawn.drawing.synthetic is True
    assert job.drawn.drawing.seed == 3
    assert [hit.id for hit in job.drawn.closest] == ["a"]
    png = client.drawing(job.drawn.drawing.id)
    assert is_synthetic(png)
    assert Image.open(io.BytesIO(png)).size == (64, 64)
    assert toys[1].drawn is None
    client.drop_collection("gallery")


def test_what_safety_refuses_names_its_rule(client):
    with pytest.raises(InvalidRequest) as caught:
        client.generate("a naked child")
    assert caught.value.members["rule"]


def test_a_search_may_begin_a_drawing(client, toys):
    found = client.search_text("toys", "a submarine", fallback="always")
    assert found.generation is not None
    assert found.generation.job is not None
    assert client.wait(found.generation.job, timeout_s=120).kind == "generate"


def test_a_query_without_an_answer_says_what_to_relax(client, toys):
    found = client.search_text("toys", "red toy car", where="price < 10 and price > 9.8", fallback="never")
    assert {item.without for item in found.broaden} >= {"price > 9.8"}, found


def test_snapshots_are_taken_fetched_and_restored(client, toys, tmp_path):
    job = client.wait(client.take_snapshot("toys").id, timeout_s=60)
    taken = client.snapshots("toys")[-1]
    assert (job.state, job.result) == ("done", asdict(taken))
    path = client.fetch_snapshot("toys", taken.snapshot, tmp_path / "toys.snapshot")
    assert path.stat().st_size == taken.bytes
    assert [item.name for item in tmp_path.iterdir()] == ["toys.snapshot"]
    made = client.wait(client.restore("copies", taken).id, timeout_s=60)
    assert (made.state, client.collection("copies").documents) == ("done", 2)
    with pytest.raises(Conflict):
        client.restore("copies", taken)
    client.remove_snapshot("toys", taken.snapshot)
    with pytest.raises(NotFound):
        client.fetch_snapshot("toys", taken.snapshot, tmp_path / "gone")
    assert [item.name for item in tmp_path.iterdir()] == ["toys.snapshot"]
    client.drop_collection("copies")


def test_aliases_are_pointed_and_forgotten(client, toys):
    assert client.point_alias("live", "toys").collection == "toys"
    assert [item.alias for item in client.aliases()] == ["live"]
    assert client.search_text("live", "bear").hits[0].id == "2"
    client.forget_alias("live")
    assert client.aliases() == []


def test_products_are_removed_by_a_filter(client):
    client.create_collection("cellar")
    client.upsert("cellar", [NewDocument(str(n), f"bottle {n}", attributes={"year": 2000 + n}) for n in range(5)])
    assert client.delete_where("cellar", "year < 2003") == 3
    assert client.collection("cellar").documents == 2
    client.drop_collection("cellar")


def test_the_first_of_several_pages_counts_the_facets(client, toys):
    pages = list(client.pages("toys", [Term(text="toy")], k=1, facets=["price"]))
    assert [bool(page.facets) for page in pages] == [True] + [False] * (len(pages) - 1)


def test_the_encoders_are_listed(client):
    [model] = client.models()
    assert (model.id, model.dimensions) == ("bundle:default", 256)


def test_the_asynchronous_client_works_on_too(server, toys, tmp_path):
    async def use():
        async with AsyncSemblance(server.address) as client:
            begun = await client.import_file("toys", toys[0], mapping=COLUMNS)
            waiting = asyncio.create_task(client.wait(begun.id, timeout_s=120, every_s=0.1))
            events = [event async for event in client.follow(begun.id)]
            assert events[-1].job == await waiting
            assert [len(page.errors) async for page in client.refused_rows(events[-1].job)] == [2]
            taken = (await client.wait((await client.take_snapshot("toys")).id, timeout_s=60)).snapshot
            path = await client.fetch_snapshot("toys", taken.snapshot, tmp_path / "toys.snapshot")
            assert path.stat().st_size == taken.bytes
            await client.remove_snapshot("toys", taken.snapshot)

    asyncio.run(use())


# Voice


SPEECHLESS = """
import api.routes.voice as voice
from engine.testing import FakeTranscriber
voice.build_transcriber = lambda settings: FakeTranscriber()
"""


@pytest.fixture
def listener(start_toy_server):
    server = start_toy_server(SPEECHLESS)
    with Semblance(server.address) as client:
        client.create_collection("shop")
        client.upsert("shop", [NewDocument(colour, f"{colour} mug", attributes={"price": 5}) for colour in ("red", "blue")])
        yield client
    server.end()


def tone() -> bytes:
    """A second of a beep, which the toy transcriber hears as a word."""
    import numpy as np

    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((np.sin(np.arange(16_000) * 0.2) * 12_000).astype("<i2").tobytes())
    return buffer.getvalue()


def test_a_recording_is_searched_by(listener, tmp_path):
    (tmp_path / "question.wav").write_bytes(tone())
    by_file = listener.search_voice("shop", tmp_path / "question.wav", language="en", k=1, where="price < 9", facets=["price"])
    by_bytes = listener.search_voice("shop", tone(), k=1)
    assert by_file.transcript == by_bytes.transcript != ""
    assert by_file.language == "en"
    assert len(by_file.hits) == len(by_bytes.hits) == 1
    assert by_file.facets[0].name == "price"
    with pytest.raises(InvalidRequest):
        listener.search_voice("shop", b"no sound")
    with pytest.raises(ValueError, match="by their names"):
        listener.search_voice("shop", tone(), facets=[FacetSearch("price", edges=[3])])


# What a server rarely does


JOB = {"id": "ab", "kind": "import", "state": "running", "collection": "c", "progress": {}, "message": "", "result": None}
JOB |= {"attempts": 1, "cancel_requested": False, "created_at": "", "updated_at": ""}


def told(*events: tuple[str, dict[str, object]]) -> str:
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)


def following(*answers):
    """Follow a job of a server that answers as it is told; returns the events and the waits in between."""
    script, waits = iter(answers), []

    def answer(request):
        given = next(script)
        if isinstance(given, type):
            raise given("scripted")
        return given if isinstance(given, httpx.Response) else httpx.Response(200, text=given)

    retries = Retries(4, random=lambda: 1.0)
    client = Semblance(transport=httpx.MockTransport(answer), retries=retries, sleep=waits.append)
    return client.follow("ab"), waits


def test_a_stream_that_is_cut_off_is_taken_up_again():
    done = JOB | {"state": "done"}
    cut = told(("progress", JOB)) + ": waiting\n\nevent: progr"
    events, waits = following(cut, httpx.ConnectError, httpx.Response(503), told(("preview", {"image": "data:,x"}), ("done", done)))
    seen = list(events)
    assert [(event.job and event.job.state, event.preview) for event in seen] == [
        ("running", None),
        (None, "data:,x"),
        ("done", None),
    ]
    assert len(waits) == 3


def test_a_server_that_does_not_come_back_is_unreachable():
    events, waits = following(*[httpx.ConnectError] * 4)
    with pytest.raises(Unreachable, match="/v1/jobs/ab/events"):
        next(events)
    assert len(waits) == 3
    events, _ = following(httpx.Response(404))
    with pytest.raises(NotFound):
        next(events)


def test_an_event_of_another_form_is_said_to_be_one():
    events, _ = following(told(("progress", {"what": 1})))
    with pytest.raises(ClientProblem, match="not of the form"):
        next(events)


def test_an_event_may_come_line_by_line():
    reader = Reader(Stream("/x", lambda name, data: (name, data), lambda result: False))
    lines = ["", ": waiting", "event: progress", "data: {", 'data: "a": 1}', ""]
    assert [reader.feed(line) for line in lines] == [None] * 5 + [("progress", {"a": 1})]


def test_a_job_that_takes_too_long_is_left_to_itself():
    now = iter(range(100))
    client = Semblance(transport=httpx.MockTransport(lambda request: httpx.Response(200, json=JOB)), sleep=lambda seconds: None)
    with pytest.raises(Unfinished, match="still running after 5 s"):
        client.wait("ab", timeout_s=5, clock=lambda: next(now))


def test_a_file_is_read_anew_at_each_attempt(tmp_path):
    path, sent = tmp_path / "feed.csv", []
    path.write_text("id,title\n1,a\n")

    def answer(request):
        sent.append(request.read())
        return httpx.Response(202, json=JOB) if len(sent) == 2 else httpx.Response(503)

    client = Semblance(transport=httpx.MockTransport(answer), sleep=lambda seconds: None)
    assert client.import_file("c", path).id == "ab"
    assert all(b"1,a" in body and b'filename="feed.csv"' in body for body in sent)


def test_a_fetched_file_that_was_cut_off_leaves_nothing(tmp_path):
    class Cut(httpx.SyncByteStream):
        def __iter__(self):
            yield b"half"
            raise httpx.ReadError("scripted")

    client = Semblance(
        transport=httpx.MockTransport(lambda request: httpx.Response(200, stream=Cut())),
        retries=Retries(2),
        sleep=lambda seconds: None,
    )
    with pytest.raises(Unreachable):
        client.fetch_snapshot("c", "s", tmp_path / "s")
    assert list(tmp_path.iterdir()) == []
