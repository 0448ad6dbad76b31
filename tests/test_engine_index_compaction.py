"""Compaction: the swap is atomic, damage is repaired, disks that refuse are said, nothing piles up."""

import contextlib
import fcntl
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.collection import Collection
from engine.config import Settings
from engine.errors import StorageError
from engine.index import compaction, live, merging, segment
from engine.index.ann import AnnIndex
from engine.index.compaction import Segments
from tests.storage import BOTH, IMAGE, axis, encoded, exchange, ids_of, sixty, unit

SETTINGS = Settings(threads=1, busy_timeout_ms=2000)
QUERY = unit(1, seed=99)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop"


@pytest.fixture
def collection(path: Path) -> Iterator[Collection]:
    opened = sixty(path, SETTINGS)
    yield opened
    opened.close()


def answer(collection: Collection) -> list[str]:
    return ids_of(collection, collection.search(QUERY, 20, weights=BOTH)[0])


def settled(collection: Collection) -> None:
    collection._index.close()


def segments(path: Path) -> list[str]:
    return sorted(entry.name for entry in (path / "segments").iterdir())


def test_answers_are_the_same_before_and_after(collection: Collection, path: Path):
    before = answer(collection), collection.count("n < 30")
    collection.compact()
    assert (answer(collection), collection.count("n < 30")) == before
    assert collection._index.current().published is not None
    reopened = Collection.open(path, settings=SETTINGS)
    assert (answer(reopened), reopened.count("n < 30")) == before
    reopened.close()


def test_an_empty_collection_compacts(tmp_path: Path):
    empty = Collection.create(tmp_path / "empty", fingerprint="f", encoder="e", settings=SETTINGS)
    empty.compact()
    assert empty.search(QUERY, 5, weights=BOTH) == [[]]
    empty.upsert([encoded("a", [axis(0)])])
    empty.compact()
    empty.delete(["a"])
    empty.compact()
    assert empty.search(QUERY, 5, weights=BOTH) == [[]]
    empty.close()


def test_only_this_and_the_previous_segment_are_kept(collection: Collection, path: Path):
    for number in range(1, 5):
        collection.upsert([encoded("new", [axis(number)])])
        collection.compact()
    assert segments(path) == ["3", "4"]
    assert (path / "CURRENT").read_text().startswith("4 ")


def test_the_log_is_trimmed_but_never_past_the_previous_segment(collection: Collection):
    def log_length() -> int:
        with collection._store.database.reading() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM changes").fetchone()[0])

    collection.compact()
    assert log_length() == 60
    collection.upsert([encoded("new")])
    collection.compact()
    assert log_length() == 1
    version = collection.version
    collection.compact()
    assert (log_length(), collection.version) == (0, version)


def test_a_reader_left_behind_the_log_starts_anew(collection: Collection, path: Path):
    reader = Collection.open(path, settings=SETTINGS)
    assert len(answer(reader)) == 20
    for number in range(3):
        collection.upsert([encoded(f"new{number}", QUERY, n=100)])
        collection.compact()
    assert set(answer(reader)[:3]) == {"new0", "new1", "new2"}
    assert reader.count("n = 100") == 3
    reader.close()


def test_a_reader_takes_up_what_another_published(collection: Collection, path: Path):
    reader = Collection.open(path, settings=SETTINGS)
    assert reader.count(None) == 60
    collection.compact()
    collection.upsert([encoded("new", QUERY)])
    assert answer(reader)[0] == "new"
    settled(reader)
    assert reader._index.current().published is not None
    assert answer(reader)[0] == "new"
    reader.close()


@pytest.mark.parametrize("name", ["CURRENT", "manifest.json", "keys.npy", "image.vectors.npy", "title.faiss", "attributes.bin"])
@pytest.mark.parametrize("harm", ["truncated", "one bit", "removed", "rubbish"])
def test_damage_is_repaired_at_opening(collection: Collection, path: Path, name: str, harm: str, caplog: pytest.LogCaptureFixture):
    expected = answer(collection)
    collection.compact()
    collection.upsert([encoded("later", [axis(0)])])
    harmed = path / name if name == "CURRENT" else path / "segments" / "1" / name
    data = bytearray(harmed.read_bytes())
    data[len(data) // 2] ^= 1
    writes = {"truncated": data[: len(data) // 2], "one bit": data, "rubbish": os.urandom(50)}
    harmed.unlink() if harm == "removed" else exchange(harmed, bytes(writes[harm]))
    with caplog.at_level(logging.WARNING, "engine.index.live"):
        reopened = Collection.open(path, settings=SETTINGS)
    if (name, harm) != ("CURRENT", "removed"):  # then there is no segment in force, which is no damage
        assert "rebuilding the index of collection 'shop'" in caplog.text
        assert name in caplog.text
    assert [id for id in answer(reopened) if id != "later"][:19] == expected[:19]
    assert reopened.count(None) == 61
    reopened.close()


@pytest.mark.parametrize("harm", ["truncated", "one bit", "removed"])
def test_damage_to_what_has_died_brings_nothing_dead_back(
    collection: Collection, path: Path, harm: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    collection.compact()
    collection.delete(["p3"])
    monkeypatch.setattr(merging, "MERGE_RATIO", 0)
    collection._index.compact(extent="due")
    expected = answer(collection)
    harmed = path / "segments" / "2" / "dead.bin"
    data = bytearray(harmed.read_bytes())
    data[len(data) // 2] ^= 1
    harmed.unlink() if harm == "removed" else exchange(harmed, bytes(data[: len(data) // 2] if harm == "truncated" else data))
    reopened = Collection.open(path, settings=SETTINGS)
    assert "dead.bin" in caplog.text
    assert answer(reopened) == expected
    assert reopened.count("id = 'p3'") == 0
    reopened.close()


@pytest.mark.parametrize("rubbish", [b"", b"\0\xff", b"[]", b'{"kind": 7}', b'{"kind": null, "probes": "many"}'])
def test_a_damaged_record_of_the_index_s_kind_changes_no_answer(collection: Collection, path: Path, rubbish: bytes):
    expected = answer(collection)
    collection.compact()
    (path / "index.json").write_bytes(rubbish)
    reopened = Collection.open(path, settings=SETTINGS)
    assert answer(reopened) == expected
    reopened.upsert([encoded("new", QUERY)])
    reopened.compact()
    assert answer(reopened)[0] == "new"
    reopened.close()


@pytest.mark.parametrize("while_open", [False, True])
def test_documents_restored_from_an_older_backup_are_followed(collection: Collection, path: Path, tmp_path: Path, while_open: bool):
    backup = tmp_path / "backup.sqlite"
    with contextlib.closing(sqlite3.connect(path / "documents.sqlite")) as database:
        database.execute("VACUUM INTO ?", (str(backup),))
    expected = answer(collection)
    collection.upsert([encoded("later", QUERY)])
    collection.compact()
    assert answer(collection)[0] == "later"
    if while_open:
        with (
            contextlib.closing(sqlite3.connect(backup)) as old,
            contextlib.closing(sqlite3.connect(path / "documents.sqlite")) as now,
        ):
            old.backup(now)
        assert answer(collection) == expected
    else:
        collection.close()
        shutil.copy(backup, path / "documents.sqlite")
    reopened = Collection.open(path, settings=SETTINGS)
    assert answer(reopened) == expected
    assert reopened.count("id = 'later'") == 0
    reopened.close()


def test_damage_on_a_disk_that_cannot_be_written_is_lived_with(
    collection: Collection, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    expected = answer(collection)
    collection.compact()
    collection.compact()  # the log is trimmed: only the documents can tell
    exchange(path / "segments" / "2" / "keys.npy", b"")

    def refused(folder: Path, *_: object, **__: object) -> int:
        raise OSError(30, "Read-only file system", str(folder))

    monkeypatch.setattr(compaction, "write_segment", refused)
    reopened = Collection.open(path, settings=SETTINGS)
    assert "is held in memory" in caplog.text
    assert answer(reopened) == expected
    reopened.upsert([encoded("new", QUERY)])
    assert answer(reopened)[0] == "new"
    reopened.close()


@pytest.mark.parametrize("step", ["write_segment", "write_manifest", "put_in_force", "faiss"])
def test_a_failure_leaves_the_segment_before_in_force(
    collection: Collection, path: Path, step: str, monkeypatch: pytest.MonkeyPatch
):
    collection.compact()
    current = (path / "CURRENT").read_bytes()
    collection.upsert([encoded("new", QUERY)])

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("fwrite: No space left") if step == "faiss" else OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "faiss":
            patch.setattr(AnnIndex, "save", full)
        elif step == "put_in_force":
            patch.setattr(Segments, "_put_in_force", full)
        else:
            patch.setattr(compaction, step, full)
        with pytest.raises(StorageError, match="No space left"):
            collection.compact()
    assert (path / "CURRENT").read_bytes() == current
    assert answer(collection)[0] == "new"
    collection.compact()
    assert answer(collection)[0] == "new"
    assert not [name for name in segments(path) if name.endswith(".building")]


def test_leavings_of_a_killed_compaction_are_removed(collection: Collection, path: Path):
    collection.compact()
    (path / "segments" / "2.building").mkdir()
    (path / "segments" / "2.building" / "keys.npy").write_bytes(b"half")
    shutil.copytree(path / "segments" / "1", path / "segments" / "2")  # finished, but CURRENT was not swapped
    reopened = Collection.open(path, settings=SETTINGS)
    assert segments(path) == ["1"]
    expected = answer(reopened)
    reopened.compact()
    assert segments(path) == ["1", "2"]
    assert answer(reopened) == expected
    reopened.close()


def test_what_another_process_is_making_is_left_alone(collection: Collection, path: Path):
    collection.compact()
    (path / "segments" / "2.building").mkdir()
    with (path / "compaction.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Collection.open(path, settings=SETTINGS).close()
        assert segments(path) == ["1", "2.building"]


class Disk:
    """What a power cut leaves in the worst case: of each file what was synced of it, of each folder the names that were."""

    def __init__(self, root: Path) -> None:
        self._root, self._files, self._folders = root, {}, {}  # type: ignore[var-annotated]

    def sync(self, path: Path) -> None:
        number = path.stat().st_ino
        if path.is_dir():
            self._folders[number] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self._files[number] = path.read_bytes()

    def sync_everything(self) -> None:
        for path in [self._root, *self._root.rglob("*")]:
            self.sync(path)

    def write_to(self, target: Path, number: int | None = None) -> None:
        number = self._root.stat().st_ino if number is None else number
        target.mkdir(parents=True)
        for name, child in self._folders.get(number, {}).items():
            if child in self._folders:
                self.write_to(target / name, child)
            else:
                (target / name).write_bytes(self._files.get(child, b""))


def test_a_power_cut_in_a_compaction_loses_nothing(
    collection: Collection, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Nothing that was not synced survives, after each operation in turn: what is left opens, whole, and answers right."""
    collection.compact()
    collection.upsert([encoded("new", QUERY)])
    expected = answer(collection)
    disk, states = Disk(path), [0]
    disk.sync_everything()
    sync, replace = segment.sync, os.replace

    def cut() -> None:
        states[0] += 1
        disk.write_to(tmp_path / f"state{states[0]}" / "shop")

    def synced(target: Path) -> None:
        cut()
        sync(target)
        disk.sync(target)
        cut()

    def replaced(source: Path, target: Path) -> None:
        replace(source, target)
        cut()

    with monkeypatch.context() as patch:
        patch.setattr(segment, "sync", synced)
        patch.setattr(compaction, "sync", synced)
        patch.setattr(os, "replace", replaced)
        patch.setattr(compaction.Segments, "_tidy", lambda self, forgotten: None)  # the database syncs itself
        collection.compact()
    assert states[0] > 20
    for number in range(1, states[0] + 1):
        reopened = Collection.open(tmp_path / f"state{number}" / "shop", settings=SETTINGS)
        assert answer(reopened) == expected
        reopened.close()
    assert "rebuilding" not in caplog.text


def test_every_prefix_of_the_swap_leaves_a_whole_state(
    collection: Collection, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A power cut after any file operation of a compaction: what is on the disk then opens and answers right."""
    collection.compact()
    collection.upsert([encoded("new", QUERY)])
    expected = answer(collection)
    states: list[Path] = []
    sync = segment.sync

    def photographed(target: Path) -> None:
        sync(target)
        state = tmp_path / f"state{len(states)}" / "shop"
        shutil.copytree(path, state)
        states.append(state)

    with monkeypatch.context() as patch:
        patch.setattr(segment, "sync", photographed)
        patch.setattr(compaction, "sync", photographed)
        collection.compact()
    assert len(states) > 10
    for state in states:
        reopened = Collection.open(state, settings=SETTINGS)
        assert answer(reopened) == expected
        reopened.close()
    assert "rebuilding" not in caplog.text


def test_unused_vectors_are_removed_after_a_whole_interval(collection: Collection):
    def vectors() -> int:
        with collection._store.database.reading() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM vectors").fetchone()[0])

    assert vectors() == 60
    collection.delete([f"p{n}" for n in range(1, 31)])
    collection.compact()
    assert vectors() == 60  # a product that comes back now finds its vectors
    collection.upsert([encoded("back", [unit(60)[5]])])
    collection.compact()
    left = vectors()
    assert left < 60
    assert all(e.vector is not None for id in collection.ids() for e in collection.embeddings_of(id))
    assert len(collection.embeddings_of("back")) == 1
    collection.compact()
    assert vectors() == left


def test_a_long_log_is_compacted_in_the_background(collection: Collection, path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "COMPACT_ROWS", 100)
    for number in range(30):
        collection.upsert([encoded(f"x{number}-{n}", [axis(number)]) for n in range(10)])
        assert len(collection.search(axis(number)[None], 15, weights=IMAGE)[0]) == 15
    settled(collection)
    assert len(segments(path)) >= 1
    assert len(collection) == collection.count(None) == 360


def test_closing_after_writing_leaves_a_segment(collection: Collection, path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "CLOSE_ROWS", 50)
    reader = Collection.open(path, settings=SETTINGS)
    reader.close()
    assert not (path / "CURRENT").exists()
    collection.close()
    assert (path / "CURRENT").exists()


def test_searches_go_on_during_a_compaction(collection: Collection, monkeypatch: pytest.MonkeyPatch):
    begun, go_on = threading.Event(), threading.Event()
    write_segment = compaction.write_segment

    def slow(*arguments: object, **options: object) -> int:
        taken = write_segment(*arguments, **options)  # type: ignore[arg-type]
        begun.set()
        assert go_on.wait(10)
        return taken

    monkeypatch.setattr(compaction, "write_segment", slow)
    thread = threading.Thread(target=collection.compact)
    thread.start()
    assert begun.wait(10)
    collection.upsert([encoded("during", QUERY)])
    collection.delete(["p1"])
    start = time.monotonic()
    assert answer(collection)[0] == "during"
    assert time.monotonic() - start < 2
    go_on.set()
    thread.join()
    assert answer(collection)[0] == "during"
    assert collection.count(None) == 60
    assert collection.count("id = 'p1'") == 0


def test_two_compactions_at_once_make_one_at_a_time(collection: Collection, path: Path):
    other = Collection.open(path, settings=SETTINGS)
    threads = [threading.Thread(target=c.compact) for c in (collection, other, collection, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert segments(path) == ["3", "4"]
    assert answer(collection) == answer(other)
    other.close()


def test_a_damaged_large_file_is_repaired_behind_the_searches(
    collection: Collection, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    expected = answer(collection)
    collection.compact()
    monkeypatch.setattr(segment, "EAGER_BYTES", 1000)
    harmed = path / "segments" / "1" / "image.vectors.npy"
    data = bytearray(harmed.read_bytes())
    data[200:2000] = np.zeros(1800, np.uint8).tobytes()
    exchange(harmed, bytes(data))
    reopened = Collection.open(path, settings=SETTINGS)
    settled(reopened)
    assert "rebuilding" in caplog.text
    assert answer(reopened) == expected
    reopened.close()
