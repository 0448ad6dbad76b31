import time
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.audit import FOLDER, AuditLog
from api.keys import KeyRequest, KeyRing

SHOP = "/v1/collections/shop"


def lines(data):
    return [orjson.loads(line) for path in sorted((data / FOLDER).glob("*.jsonl")) for line in path.read_bytes().splitlines()]


def test_who_changed_what_and_when_under_which_id(mugs, toy_engine):
    before = len(lines(toy_engine.settings.data))
    mugs.patch(f"{SHOP}/documents/p1", json={"title": "cup"}, headers={"x-request-id": "abc"})
    (line,) = lines(toy_engine.settings.data)[before:]
    assert abs(datetime.fromisoformat(line.pop("time")).timestamp() - time.time()) < 60
    assert line.pop("ms") > 0
    assert line == {
        "request_id": "abc",
        "key": None,
        "client": "testclient",
        "method": "PATCH",
        "path": f"{SHOP}/documents/p1",
        "collection": "shop",
        "status": 200,
    }


def test_refused_writes_are_listed_and_reads_are_not(mugs, toy_engine):
    before = len(lines(toy_engine.settings.data))
    mugs.delete(f"{SHOP}/documents/none")
    mugs.get(SHOP)
    mugs.post(f"{SHOP}/search/text", json={"query": "red"})
    assert [line["status"] for line in lines(toy_engine.settings.data)[before:]] == [404]


def test_a_write_that_failed_is_listed_as_500(mugs, toy_engine, monkeypatch):
    monkeypatch.setattr(type(toy_engine), "index", lambda *_, **__: 1 / 0)
    mugs.post(f"{SHOP}/documents", json={"documents": [{"id": "a", "title": "b"}]})
    assert lines(toy_engine.settings.data)[-1]["status"] == 500


def test_the_key_is_named_and_strangers_cannot_fill_the_log(toy_engine):
    key, text = KeyRing(toy_engine.settings.data).create(KeyRequest("feed", "write"))
    settings = toy_engine.settings.model_copy(update={"api_keys": "on"})
    with TestClient(create_app(settings, toy_engine), base_url="http://localhost") as client:
        client.put(SHOP)
        client.put(SHOP, headers={"x-api-key": "smb_wrong"})
        client.put(SHOP, headers={"x-api-key": text})
    (line,) = lines(toy_engine.settings.data)
    assert (line["key"], line["status"]) == ({"id": key.id, "name": "feed"}, 403)
    assert text not in str(line)


def test_old_files_are_removed_when_a_day_begins(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    today = datetime.now(UTC).date()
    for age in (0, 3, 4, 100):
        (folder / f"{today - timedelta(days=age)}.jsonl").write_text("{}\n")
    (folder / "notes.txt").write_text("mine")
    AuditLog(tmp_path, days=3).add({"a": 1})
    kept = {path.name for path in folder.iterdir()}
    assert kept == {f"{today}.jsonl", f"{today - timedelta(days=3)}.jsonl", "notes.txt"}
    assert len((folder / f"{today}.jsonl").read_text().splitlines()) == 2


def test_a_folder_that_refuses_costs_no_write(mugs, toy_engine, caplog):
    for path in (toy_engine.settings.data / FOLDER).iterdir():
        path.unlink()
        path.mkdir()
    assert mugs.patch(f"{SHOP}/documents/p1", json={"title": "cup"}).status_code == 200
    assert "could not be logged" in caplog.text
    assert '"PATCH"' in caplog.text


def test_hostile_paths_stay_on_their_line(api, toy_engine):
    api.delete("/v1/collections/shop/documents/a%0A%7B%22forged%22%3A1%7D")
    (line,) = lines(toy_engine.settings.data)
    assert line["path"].endswith('a\n{"forged":1}')


def test_zero_days_write_no_log(toy_engine):
    settings = toy_engine.settings.model_copy(update={"audit_days": 0})
    with TestClient(create_app(settings, toy_engine), base_url="http://localhost") as client:
        client.put(SHOP)
    assert not (settings.data / FOLDER).exists()


@pytest.mark.parametrize("path", [f"/v1/collections/{FOLDER}", "/v1/collections/_answers.sqlite"])
def test_the_log_is_no_collection(api, path):
    assert api.get(path).status_code == 422
