"""Imports over HTTP: uploads and files of the server, their errors, retrying, cancelling, and a server killed halfway."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from api import importing
from api.app import create_app
from api.importing import KIND, Importer, clear, folder_of
from api.jobs import FAILED_INSIDE
from api.keys import KeyRequest, KeyRing

ROOT = Path(__file__).resolve().parent.parent
# The indexing process as it is, but over the toy encoder; it notes its own number, and the text "slow" takes it a while.
TOY_INDEXER = """
import os, sys, time, types
from pathlib import Path
sys.modules["engine.build"] = types.SimpleNamespace(open_engine=None)  # spares each test the loading of OpenVINO
import indexer.__main__ as process
from engine.cache import MemoryCache, TieredCache
from engine.search import SearchEngine
from engine.testing import FakeEncoder

class Slow(FakeEncoder):
    def encode_texts(self, texts):
        time.sleep(0.2 * sum("slow" in text for text in texts))
        return super().encode_texts(texts)

def open_toy(settings):
    (settings.data / "_pids").open("a").write(f"{os.getpid()}\\n")
    return SearchEngine(settings, Slow(), TieredCache(MemoryCache(100, ttl_s=60), None))

process.open_engine = open_toy
sys.exit(process.main())
"""
COMMAND = (sys.executable, "-c", TOY_INDEXER)
IMPORTS = "/v1/collections/shop/imports"
FEED = "id,title,image,price\nA,red mug,,5\nB,blue mug,,6\nC,,,7\n"


@pytest.fixture
def imports(api):
    services = api.app.state.services
    services.jobs.register(KIND, Importer(services.settings, COMMAND))
    return api


@pytest.fixture
def root(toy_engine, tmp_path):
    """A client of a server with an import folder."""
    folder = tmp_path / "feeds"
    folder.mkdir()
    app = create_app(toy_engine.settings.model_copy(update={"import_root": folder}), toy_engine)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        app.state.services.jobs.register(KIND, Importer(app.state.services.settings, COMMAND))
        yield client, folder


def follow(client, answer):
    assert answer.status_code == 202, answer.text
    text = client.get(answer.headers["location"] + "/events").text
    return json.loads(text.strip().split("\n\n")[-1].split("data: ", 1)[1])


def send(client, body, kind="text/csv", **params):
    return client.post(IMPORTS, content=body, headers={"content-type": kind}, params=params)


def titles(client, query="mug"):
    return {hit["title"] for hit in client.post("/v1/collections/shop/search/text", json={"query": query}).json()["hits"]}


def test_an_uploaded_catalogue_is_searchable_and_its_bad_rows_are_listed(imports):
    job = follow(imports, send(imports, FEED))
    assert job["state"] == "done", job
    assert {name: job["result"][name] for name in ("read", "created", "refused")} == {"read": 3, "created": 2, "refused": 1}
    assert job["progress"]["read"] == 3
    assert titles(imports) == {"red mug", "blue mug"}
    page = imports.get(f"{IMPORTS}/{job['id']}/errors").json()
    assert page == {
        "errors": [{"row": 4, "id": "C", "reason": page["errors"][0]["reason"], "code": "nothing_to_search"}],
        "next": None,
    }
    assert imports.get(f"{IMPORTS}/{job['id']}/errors", params={"offset": 10**9}).json() == {"errors": [], "next": None}
    assert imports.get(f"{IMPORTS}/{job['id']}/errors", params={"offset": 2**63 - 1}).status_code == 422
    table = imports.get(f"{IMPORTS}/{job['id']}/errors.csv")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in table.headers["content-disposition"]
    assert table.text.splitlines()[1].startswith("4,C,")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/jsonl", '{"id": "A", "title": "red mug"}\n'),
        ("application/x-ndjson", '{"id": "A", "title": "red mug"}\n'),
        ("application/octet-stream", '[{"id": "A", "title": "red mug"}]'),
        ("text/csv; charset=utf-8", "id,title\nA,red mug\n"),
    ],
)
def test_the_body_may_be_any_catalogue(imports, kind, body):
    assert follow(imports, send(imports, body, kind))["state"] == "done"
    assert titles(imports) == {"red mug"}


def test_parquet_comes_as_a_form_and_columns_can_be_named(imports, tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"id": ["A"], "productDisplayName": ["red mug"]}), tmp_path / "f.parquet")
    with (tmp_path / "f.parquet").open("rb") as file:
        answer = imports.post(IMPORTS, files={"file": ("f.parquet", file)}, params={"map": "title=productDisplayName"})
    assert follow(imports, answer)["state"] == "done"
    assert titles(imports) == {"red mug"}


def test_pruning_removes_what_a_later_catalogue_lacks(imports):
    follow(imports, send(imports, FEED))
    job = follow(imports, send(imports, "id,title\nB,blue mug\n", prune=True))
    assert job["result"]["pruned"] == 1
    assert titles(imports) == {"blue mug"}


def test_a_body_that_is_no_catalogue_says_so_without_naming_paths(imports, toy_engine):
    job = follow(imports, send(imports, b"%PDF-1.7"))
    assert job["state"] == "failed"
    assert "PDF" in job["message"]
    assert str(toy_engine.settings.data) not in job["message"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda c: send(c, b"x", "image/png"), 415),
        (lambda c: c.post(IMPORTS, files={"other": ("f.csv", b"id,title\n")}), 422),
        (lambda c: c.post(IMPORTS, json={"path": "x.csv"}), 422),
        (lambda c: c.post(IMPORTS, json={"path": 3}), 422),
        (lambda c: c.post(IMPORTS, content=b"{", headers={"content-type": "application/json"}), 422),
        (lambda c: send(c, FEED, map="nonsense"), 422),
        (lambda c: c.get(f"{IMPORTS}/abc/errors"), 404),
    ],
)
def test_what_cannot_be_imported_is_refused(imports, answer, status):
    assert answer(imports).status_code == status
    assert imports.get("/v1/jobs").json() == {"jobs": []}
    assert list((imports.app.state.services.settings.data / "_jobs").glob("import-*")) == []


def test_an_upload_is_counted_while_it_is_read(toy_engine):
    settings = toy_engine.settings.model_copy(update={"max_import_mb": 2.0})
    with TestClient(create_app(settings, toy_engine), base_url="http://localhost") as client:
        larger_than_other_bodies = b"id,title\n" + b"A,red mug\n" * 150_000
        assert len(larger_than_other_bodies) > settings.max_body_bytes
        assert send(client, larger_than_other_bodies).status_code == 202
        for _ in range(2):
            assert send(client, iter([b"id,title\n", *[b"x" * 100_000] * 21])).status_code == 413
        assert client.post(IMPORTS, files={"file": ("f.csv", b"x" * 2_200_000)}).status_code == 413
        again = client.post(IMPORTS, content=larger_than_other_bodies, headers={"idempotency-key": "1", "content-type": "text/csv"})
        assert again.status_code == 413  # what may be repeated is kept in memory
        assert len(list((settings.data / "_jobs").glob("import-*"))) == 1


def test_no_local_picture_is_read_for_an_upload(imports, tmp_path, colour_picture):
    import base64

    secret = tmp_path / "secret.png"
    secret.write_bytes(base64.b64decode(colour_picture("red")))
    rows = f"id,title,image\nA,red mug,{secret}\nB,blue mug,file://{secret}\nC,green mug,../../../secret.png\n"
    job = follow(imports, send(imports, rows))
    assert job["result"]["refused"] == 3
    errors = imports.get(f"{IMPORTS}/{job['id']}/errors").json()["errors"]
    assert {error["code"] for error in errors} == {"fetch"}
    assert all("outside the import's folder" in error["reason"] for error in errors)


def test_a_catalogue_of_the_server_brings_its_pictures(root, colour_picture):
    import base64

    client, folder = root
    (folder / "red.png").write_bytes(base64.b64decode(colour_picture("red")))
    (folder / "f.csv").write_text("id,title,image\nA,red mug,red.png\n")
    assert follow(client, client.post(IMPORTS, json={"path": "f.csv"}))["result"]["created"] == 1


@pytest.mark.parametrize("path", ["../secret.csv", "/etc/passwd", "none.csv", ".", "link.csv", "a\0b"])
def test_nothing_outside_the_import_folder_is_opened(root, path):
    client, folder = root
    (folder.parent / "secret.csv").write_text(FEED)
    (folder / "link.csv").symlink_to(folder.parent / "secret.csv")
    answer = client.post(IMPORTS, json={"path": path})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:semblance:problem:invalid-input")
    assert "there is no catalogue" in answer.json()["detail"]


def test_what_was_refused_is_retried(root):
    client, folder = root
    (folder / "f.csv").write_text("id,title\nA,red mug\nB,\n")
    first = follow(client, client.post(IMPORTS, json={"path": "f.csv"}))
    assert first["result"]["refused"] == 1
    (folder / "f.csv").write_text("id,title\nA,red mug\nB,blue mug\n")
    again = follow(client, client.post(f"{IMPORTS}/{first['id']}/retry"))
    assert (again["result"]["read"], again["result"]["created"]) == (1, 1)
    assert titles(client) == {"red mug", "blue mug"}
    assert client.post(f"{IMPORTS}/{again['id']}/retry").status_code == 409  # it refused nothing
    assert client.get(f"{IMPORTS}/{again['id']}/errors.csv").status_code == 404


def test_an_import_is_cancelled_and_keeps_what_it_has(imports):
    answer = send(imports, "id,title\n" + "".join(f"{n},slow mug {n}\n" for n in range(2000)))
    address = answer.headers["location"]
    wait_for(lambda: imports.get(address).json()["progress"].get("read"))
    assert imports.post(f"{IMPORTS}/{address.rsplit('/', 1)[-1]}/retry").status_code == 409
    imports.delete(address)
    job = follow(imports, answer)
    assert job["state"] == "cancelled"
    assert 0 < job["result"]["read"] < 2000


def wait_for(condition, within=120.0):
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


@pytest.mark.parametrize("script", ["raise SystemExit(3)", "import sys; sys.stdin.readline(); raise RuntimeError('secret')"])
def test_a_process_that_dies_fails_its_job_and_tells_nothing(api, script):
    services = api.app.state.services
    services.jobs.register(KIND, Importer(services.settings, (sys.executable, "-c", script)))
    job = follow(api, send(api, FEED))
    assert (job["state"], job["message"]) == ("failed", FAILED_INSIDE)


def test_a_process_that_does_not_listen_is_killed(api, monkeypatch):
    monkeypatch.setattr(importing, "END_S", 0.3)
    services = api.app.state.services
    services.jobs.register(KIND, Importer(services.settings, (sys.executable, "-c", "import time; time.sleep(60)")))
    answer = send(api, FEED)
    wait_for(lambda: api.get(answer.headers["location"]).json()["state"] == "running")
    api.delete(answer.headers["location"])
    assert follow(api, answer)["state"] == "cancelled"


def test_only_a_key_that_writes_imports_and_only_an_admin_makes_collections(toy_engine):
    ring = KeyRing(toy_engine.settings.data)
    keys = {scope: {"X-API-Key": ring.create(KeyRequest(scope, scope))[1]} for scope in ("read", "write", "admin")}
    app = create_app(toy_engine.settings.model_copy(update={"api_keys": "on"}), toy_engine)
    with TestClient(app, base_url="http://localhost") as client:
        statuses = {}
        for scope in ("read", "write", "admin", "write"):
            answer = client.post(IMPORTS, content=FEED, headers={"content-type": "text/csv", **keys[scope]})
            statuses.setdefault(scope, []).append(answer.status_code)
    assert statuses == {"read": [403], "write": [404, 202], "admin": [202]}


def test_folders_that_no_job_knows_are_removed(imports, toy_engine):
    data, jobs = toy_engine.settings.data, imports.app.state.services.jobs
    kept = follow(imports, send(imports, FEED))["id"]
    folder_of(data, "feed").mkdir()
    clear(data, jobs)
    assert folder_of(data, "feed").exists()
    clear(data, jobs, older_than_s=-1)
    assert not folder_of(data, "feed").exists()
    assert folder_of(data, kept).exists()


SERVER = """
import sys
from pathlib import Path
from api import importing
from api.server import serve
from engine.cache import MemoryCache, TieredCache
from engine.config import Settings
from engine.search import SearchEngine
from engine.testing import FakeEncoder
importing.Importer.__init__.__defaults__ = (eval(sys.argv[2]),)
settings = Settings(data=Path(sys.argv[1]), port=0)
with SearchEngine(settings, FakeEncoder(), TieredCache(MemoryCache(100, ttl_s=60), None)) as engine:
    serve(settings, engine, ready=lambda address: print(address, flush=True))
"""


def start_server(folder):
    command = [sys.executable, "-c", SERVER, str(folder), repr(COMMAND)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, httpx.Client(base_url=process.stdout.readline().strip(), timeout=60)


def test_an_import_survives_a_killed_server_and_leaves_no_process_behind(tmp_path):
    rows = "".join(f"{n},{'slow ' if n > 300 else ''}mug {n}\n" for n in range(400))
    process, client = start_server(tmp_path)
    with client:
        answer = send(client, f"id,title\n{rows}")
        address = answer.headers["location"]
        wait_for(lambda: client.get(address).json()["progress"].get("read"))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    first = int((tmp_path / "_pids").read_text().split()[0])
    wait_for(lambda: not running(first))
    process, client = start_server(tmp_path)
    with client:
        job = follow(client, httpx.Response(202, headers={"location": address}))
        described = client.get("/v1/collections/shop").json()
        process.terminate()
        process.communicate()
    assert (job["state"], job["attempts"], described["documents"]) == ("done", 2, 400)
    assert job["result"]["read"] == 400
    assert job["result"]["unchanged"] > 0  # what the killed one had committed costs nothing


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_an_upload_that_has_no_place_to_go_is_said_to_be_the_disks_fault(imports, toy_engine, monkeypatch):
    toy_engine.ensure("shop")
    place = toy_engine.settings.data / "a file"
    place.touch()
    monkeypatch.setattr("api.routes.imports.folder_of", lambda data, id: place / id)
    answer = send(imports, FEED)
    assert (answer.status_code, answer.json()["title"]) == (507, "Storage error")
    assert str(place) not in answer.text
