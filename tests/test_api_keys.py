import os
import stat
import threading
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from api.keys import FOLDER, KeyRequest, KeyRing
from engine.errors import InvalidInput, NotFound, StorageError


@pytest.fixture
def ring(tmp_path):
    return KeyRing(tmp_path)


def test_a_key_is_found_by_its_text_and_by_no_other(ring):
    key, text = ring.create(KeyRequest("shop front", "write", ("shop",)))
    assert ring.find(text) == key
    assert (key.name, key.scope, key.collections) == ("shop front", "write", ("shop",))
    last = "A" if text[-1] != "A" else "B"
    for other in (text[:-1] + last, text[:-1], text + "A", text.upper(), "", "smb_", text.replace("smb_", ""), f" {text}"):
        assert ring.find(other) is None


def test_the_secret_is_nowhere_on_disk(ring, tmp_path):
    _, text = ring.create(KeyRequest("x"))
    secret = text.split("_", 2)[2]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(secret.encode() not in path.read_bytes() and secret not in path.name for path in files)


@pytest.mark.skipif(os.name == "nt", reason="permissions of another kind")
def test_only_the_owner_may_read_the_files(ring, tmp_path):
    ring.create(KeyRequest("x"))
    ring.signing_secret()
    assert stat.S_IMODE((tmp_path / FOLDER).stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / FOLDER).iterdir()} == {0o600}


def test_a_revoked_key_is_unknown_at_once_also_to_another_process(ring, tmp_path):
    key, text = ring.create(KeyRequest("x"))
    other = KeyRing(tmp_path)
    assert other.find(text) == key
    assert ring.revoke(key.id) == key
    assert ring.find(text) is None
    assert other.find(text) is None
    with pytest.raises(NotFound, match="keys list"):
        ring.revoke(key.id)


@pytest.mark.parametrize("id", ["", "../shop", "zz", "a" * 12 + "\n", "signing"])
def test_only_an_id_can_be_revoked(ring, id):
    ring.signing_secret()
    with pytest.raises(NotFound):
        ring.revoke(id)


def test_an_expired_key_is_unknown_and_still_listed(ring, tmp_path):
    key, text = ring.create(KeyRequest("x", days=2))
    assert ring.find(text) == key
    path = tmp_path / FOLDER / f"{key.id}.json"
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | {"expires": past}))
    assert KeyRing(tmp_path).find(text) is None
    assert [entry.id for entry in ring.all()] == [key.id]


def test_keys_are_listed_oldest_first(ring):
    made = {ring.create(KeyRequest(f"key {number}"))[0].id for number in range(5)}
    listed = ring.all()
    assert {key.id for key in listed} == made
    assert [key.created for key in listed] == sorted(key.created for key in listed)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"format": 2}', b'{"format": 1, "sha256": "zz"}', b'{"format": 1, "id": 5, "scope": "root"}'],
)
def test_a_damaged_file_is_no_key_and_said_so(ring, tmp_path, caplog, content):
    key, text = ring.create(KeyRequest("x"))
    (tmp_path / FOLDER / f"{key.id}.json").write_bytes(content)
    assert KeyRing(tmp_path).find(text) is None
    assert key.id in caplog.text
    assert KeyRing(tmp_path).all() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": " "},
        {"name": "x" * 101},
        {"name": "a\nb"},
        {"name": "x", "scope": "root"},
        {"name": "x", "collections": ("../etc",)},
        {"name": "x", "collections": ("",)},
        {"name": "x", "days": 0},
        {"name": "x", "days": float("nan")},
        {"name": "x", "rate": -1},
        {"name": "x", "rate": float("inf")},
    ],
)
def test_a_key_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidInput):
        KeyRequest(**wrong)


def test_scopes_include_the_lower_ones(ring):
    keys = {scope: ring.create(KeyRequest("x", scope))[0] for scope in ("read", "write", "admin")}
    covered = {scope: [need for need in keys if key.covers(need)] for scope, key in keys.items()}
    assert covered == {"read": ["read"], "write": ["read", "write"], "admin": ["read", "write", "admin"]}


def test_everybody_gets_the_same_signing_secret(tmp_path):
    found = []
    barrier = threading.Barrier(8)

    def ask():
        barrier.wait()
        found.append(KeyRing(tmp_path).signing_secret())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    assert not list((tmp_path / FOLDER).glob(".*"))


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path):
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(StorageError, match="check its permissions"):
        KeyRing(tmp_path).create(KeyRequest("x"))
