"""Snapshots, aliases and removal by filter over HTTP."""

import threading
import time

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.jobstore import Job, JobStore, new_id
from api.keys import KeyRequest, KeyRing
from engine.errors import StorageError

SNAPSHOTS = "/v1/collections/shop/snapshots"


def ended(api, answer):
    """Wait for the job that a request has started."""
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    deadline = time.monotonic() + 20
    while (job := api.get(answer.headers["location"]).json())["state"] in {"queued", "running"}:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return job


def test_a_snapshot_that_the_disk_keeps_is_said(mugs, monkeypatch):
    name = ended(mugs, mugs.post(SNAPSHOTS))["result"]["snapshot"]

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    answer = mugs.delete(f"{SNAPSHOTS}/{name}")
    assert answer.status_code == 507
    assert "disk of the server refuses" in answer.json()["detail"]


def names(api, collection):
    return [item["snapshot"] for item in api.get(f"/v1/collections/{collection}/snapshots").json()["snapshots"]]


def test_a_snapshot_is_taken_listed_fetched_restored_and_removed(mugs):
    taken = ended(mugs, mugs.post(SNAPSHOTS))
    assert (taken["state"], taken["kind"], taken["progress"]["total"] > 0) == ("done", "snapshot", True)
    name = taken["result"]["snapshot"]
    assert mugs.get(SNAPSHOTS).json() == {"snapshots": [taken["result"]]}
    file = mugs.get(f"{SNAPSHOTS}/{name}")
    assert file.headers["content-type"] == "application/x-tar"
    assert len(file.content) == taken["result"]["bytes"]
    mugs.delete("/v1/collections/shop")
    made = ended(mugs, mugs.post("/v1/collections/shop/restore", json={"collection": "shop", "snapshot": name}))
    assert (made["state"], made["kind"], made["result"]["name"], made["result"]["documents"]) == ("done", "restore", "shop", 6)
    assert mugs.post("/v1/collections/shop/search/text", json={"query": "red"}).json()["hits"][0]["title"] == "red mug"
    assert mugs.post("/v1/collections/shop/restore", json={"collection": "shop", "snapshot": name}).status_code == 409
    assert mugs.delete(f"{SNAPSHOTS}/{name}").status_code == 204
    assert names(mugs, "shop") == []


def test_a_snapshot_may_take_longer_than_a_request(toy_engine, monkeypatch):
    """Nor does it keep a worker from searches: with one second for a request, a snapshot of three comes about."""
    settings = toy_engine.settings.model_copy(update={"deadline_s": 1})
    snapshot = type(toy_engine.library).snapshot

    def slow(*arguments, **options):
        time.sleep(3)
        snapshot(*arguments, **options)

    monkeypatch.setattr(type(toy_engine.library), "snapshot", slow)
    with TestClient(create_app(settings, toy_engine), base_url="http://localhost") as api:
        api.put("/v1/collections/shop")
        assert ended(api, api.post(SNAPSHOTS))["state"] == "done"
        assert len(names(api, "shop")) == 1


def test_a_snapshot_under_way_is_cancelled_and_leaves_nothing(mugs, toy_engine, monkeypatch):
    copy = type(toy_engine.collection("shop")).copy_documents
    begun, go_on = threading.Event(), threading.Event()

    def waiting(self, target, *, told):
        begun.set()
        go_on.wait(20)
        copy(self, target, told=told)

    monkeypatch.setattr(type(toy_engine.collection("shop")), "copy_documents", waiting)
    answer = mugs.post(SNAPSHOTS)
    assert begun.wait(20)
    assert mugs.delete(answer.headers["location"]).status_code == 202
    go_on.set()
    job = ended(mugs, answer)
    assert (job["state"], job["result"]) == ("cancelled", None)
    assert names(mugs, "shop") == []
    assert list((toy_engine.settings.data / "_snapshots" / "shop").iterdir()) == []


def test_a_snapshot_that_was_cut_off_is_taken_by_the_next_server(toy_engine):
    """And what the killed one left is removed."""
    left = toy_engine.settings.data / "_snapshots" / "shop" / f".x.snapshot.{'0' * 32}.new"
    left.mkdir(parents=True)
    toy_engine.create("shop")
    name, store = "20260131T101500-1c9f.snapshot", JobStore(toy_engine.settings.data)
    job = store.add(Job(new_id(), "snapshot", "queued", {"snapshot": name}, "shop", None), most=1)
    assert store.take("snapshot") is not None
    store.close()
    with TestClient(create_app(toy_engine.settings, toy_engine), base_url="http://localhost") as api:
        deadline = time.monotonic() + 20
        while api.get(f"/v1/jobs/{job.id}").json()["state"] != "done":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert names(api, "shop") == [name]
    assert not left.exists()


def test_what_is_not_there_makes_no_job(mugs):
    assert mugs.post("/v1/collections/nothing/snapshots").status_code == 404
    body = {"collection": "shop", "snapshot": "20260131T101500-1c9f.snapshot"}
    assert mugs.post("/v1/collections/again/restore", json=body).status_code == 404
    assert mugs.get("/v1/jobs").json()["jobs"] == []


def test_a_key_reaches_the_snapshots_of_its_collections_alone(toy_engine):
    settings = toy_engine.settings.model_copy(update={"api_keys": "on"})
    ring = KeyRing(settings.data)
    keys = {name: ring.create(KeyRequest(name, "admin", (name,)))[1] for name in ("shop", "other")}
    toy_engine.create("shop")
    with TestClient(create_app(settings, toy_engine), base_url="http://localhost") as api:
        own, foreign = ({"headers": {"X-API-Key": keys[name]}} for name in ("shop", "other"))
        assert api.post(SNAPSHOTS, **foreign).status_code == 403
        answer = api.post(SNAPSHOTS, **own)
        assert api.get(answer.headers["location"], **foreign).status_code == 404
        while api.get(answer.headers["location"], **own).json()["state"] != "done":
            time.sleep(0.02)
        name = api.get(SNAPSHOTS, **own).json()["snapshots"][0]["snapshot"]
        body = {"collection": "shop", "snapshot": name}
        assert api.post("/v1/collections/other/restore", json=body, **foreign).status_code == 404


@pytest.mark.parametrize("name", ["x", "..%2f..%2fshop%2fdocuments.sqlite", "20260131T101500-1c9f.snapshot"])
def test_what_is_no_snapshot_is_not_found(mugs, name):
    assert mugs.get(f"/v1/collections/shop/snapshots/{name}").status_code in {404, 422}
    assert mugs.delete(f"/v1/collections/shop/snapshots/{name}").status_code in {404, 422}
    body = {"collection": "shop", "snapshot": name}
    assert mugs.post("/v1/collections/again/restore", json=body).status_code in {404, 422}


def test_an_alias_is_pointed_and_forgotten(mugs):
    assert mugs.put("/v1/aliases/live", json={"collection": "nothing"}).status_code == 404
    assert mugs.put("/v1/aliases/shop", json={"collection": "shop"}).status_code == 422
    made = mugs.put("/v1/aliases/live", json={"collection": "shop"})
    assert made.json() == {"alias": "live", "collection": "shop", "previous": None}
    assert mugs.get("/v1/aliases").json() == {"aliases": [made.json()]}
    assert mugs.get("/v1/collections/live").json()["documents"] == 6
    assert mugs.post("/v1/collections/live/search/text", json={"query": "red"}).json()["hits"][0]["title"] == "red mug"
    assert mugs.delete("/v1/aliases/live").status_code == 204
    assert mugs.delete("/v1/aliases/live").status_code == 404
    assert mugs.get("/v1/collections/live").status_code == 404


def test_products_are_removed_by_filter(mugs):
    answer = mugs.delete("/v1/collections/shop/documents", params={"where": "title contains 'red' or title contains 'blue'"})
    assert answer.json() == {"deleted": 2}
    assert mugs.get("/v1/collections/shop").json()["documents"] == 4
    assert mugs.delete("/v1/collections/shop/documents", params={"where": "title ="}).status_code == 422
    assert mugs.delete("/v1/collections/shop/documents").status_code == 422
    twice = mugs.delete("/v1/collections/shop/documents", params=[("where", "title exists"), ("where", "title contains 'green'")])
    assert (twice.status_code, "join them with `and`" in twice.json()["detail"]) == (422, True)
    assert mugs.get("/v1/collections/shop").json()["documents"] == 4


@pytest.mark.parametrize("harm", [b"", b"x" * 5_000, b"damaged"])
def test_a_restore_that_fails_says_why_and_names_no_path(mugs, toy_engine, harm):
    name = ended(mugs, mugs.post(SNAPSHOTS))["result"]["snapshot"]
    file = toy_engine.settings.data / "_snapshots" / "shop" / name
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"red mug", b"rad mug") if harm == b"damaged" else harm)
    job = ended(mugs, mugs.post("/v1/collections/again/restore", json={"collection": "shop", "snapshot": name}))
    assert job["state"] == "failed"
    assert name in job["message"]
    assert str(toy_engine.settings.data) not in job["message"]
    assert mugs.get("/v1/collections/again").status_code == 404


def test_a_disk_that_refuses_a_write_is_said_as_such_while_searches_go_on(mugs, toy_engine, monkeypatch):
    def refused(self, *arguments, **options):
        raise StorageError(f"no space left to write {self.path}")

    monkeypatch.setattr(type(toy_engine.collection("shop")), "delete", refused)
    answer = mugs.delete("/v1/collections/shop/documents/p1")
    assert (answer.status_code, answer.json()["title"]) == (507, "Storage error")
    assert "disk" in answer.json()["detail"]
    assert str(toy_engine.settings.data) not in answer.text
    assert mugs.post("/v1/collections/shop/search/text", json={"query": "red"}).status_code == 200
