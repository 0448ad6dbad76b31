"""Jobs over HTTP: who sees them, how they are followed and cancelled."""

import json
import threading
import time

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.jobs import JobEnded
from api.keys import KeyRequest, KeyRing


@pytest.fixture
def jobs(api):
    return api.app.state.services.jobs


def events(text):
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            yield fields["event"], json.loads(fields["data"])


def test_a_job_is_shown_and_listed(api, jobs):
    job = jobs.submit("toy", {"secret": 1}, collection="shop")
    shown = api.get(f"/v1/jobs/{job.id}").json()
    assert (shown["state"], shown["kind"], shown["collection"], shown["progress"]) == ("queued", "toy", "shop", {})
    assert "secret" not in json.dumps(shown)
    assert api.get("/v1/jobs").json() == {"jobs": [shown]}
    assert api.get("/v1/jobs", params={"kind": "other"}).json() == {"jobs": []}
    assert api.get("/v1/jobs", params={"collection": "shop", "limit": 1}).json()["jobs"] == [shown]


@pytest.mark.parametrize("method", ["get", "delete"])
def test_an_unknown_job_is_404(api, method):
    assert api.request(method, "/v1/jobs/abc123").status_code == 404
    assert api.get("/v1/jobs/abc123/events").status_code == 404
    assert api.request(method, "/v1/jobs/NOT-AN-ID").status_code == 422


def test_following_a_job_shows_progress_previews_and_the_end(api, jobs):
    gate = threading.Event()

    def run(job, report, cancelled):
        report({"step": 1}, preview="data:image/png;base64,AA==")
        gate.wait(10)
        return {"made": 1}

    jobs.register("toy", run)
    job = jobs.submit("toy", {})
    threading.Timer(0.8, gate.set).start()
    answer = api.get(f"/v1/jobs/{job.id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = list(events(answer.text))
    assert ("preview", {"id": job.id, "image": "data:image/png;base64,AA=="}) in found
    assert {"step": 1} in [body.get("progress") for name, body in found if name == "progress"]
    assert (found[-1][0], found[-1][1]["result"]) == ("done", {"made": 1})
    assert [name for name, _ in events(api.get(f"/v1/jobs/{job.id}/events").text)] == ["done"]


def test_a_job_is_cancelled_over_http(api, jobs):
    def run(job, report, cancelled):
        while not cancelled():
            time.sleep(0.01)
        raise JobEnded("cancelled", {"kept": 3})

    jobs.register("toy", run)
    job = jobs.submit("toy", {})
    assert api.delete(f"/v1/jobs/{job.id}").status_code == 202
    name, body = list(events(api.get(f"/v1/jobs/{job.id}/events").text))[-1]
    assert name == "cancelled"
    assert body["cancel_requested"] is True


def test_a_key_sees_and_cancels_what_it_may(toy_engine):
    ring = KeyRing(toy_engine.settings.data)
    texts = {
        name: ring.create(KeyRequest(name, *rest))
        for name, rest in {"shop": ("read", ("shop",)), "other": ("write", ("other",)), "writer": ("write",)}.items()
    }
    keys = {name: {"X-API-Key": text} for name, (_, text) in texts.items()}
    app = create_app(toy_engine.settings.model_copy(update={"api_keys": "on"}), toy_engine)
    with TestClient(app, base_url="http://localhost") as client:
        submit = app.state.services.jobs.submit
        ids = {record.name: record.id for record in ring.all()}
        theirs, own = submit("toy", {}, collection="shop").id, submit("toy", {}, collection="shop", key=ids["shop"]).id
        assert client.get("/v1/jobs").status_code == 401
        assert len(client.get("/v1/jobs", headers=keys["shop"]).json()["jobs"]) == 2
        assert client.get("/v1/jobs", headers=keys["other"]).json() == {"jobs": []}
        foreign, unbound = submit("toy", {}, collection="cellar").id, submit("toy", {}).id
        found = {
            name: client.get("/v1/jobs", params={"limit": 2}, headers=keys[name]).json()["jobs"] for name in ("shop", "writer")
        }
        assert [job["id"] for job in found["shop"]] == [own, theirs], "newer jobs of others take no room in the list"
        assert [job["id"] for job in found["writer"]] == [unbound, foreign]
        assert client.get(f"/v1/jobs/{own}", headers=keys["other"]).status_code == 404
        assert client.delete(f"/v1/jobs/{theirs}", headers=keys["shop"]).status_code == 403
        assert client.delete(f"/v1/jobs/{own}", headers=keys["shop"]).status_code == 202
        assert client.delete(f"/v1/jobs/{theirs}", headers=keys["writer"]).status_code == 202
