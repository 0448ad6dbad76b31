"""Names and what they mean: aliases, snapshots and copies by another encoder."""

import contextlib
import hashlib
import io
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.cache import MemoryCache, TieredCache
from engine.config import Settings
from engine.datatypes import Document, EncodedDocument
from engine.errors import (
    CollectionCorrupt,
    CollectionExists,
    CollectionNotFound,
    Conflict,
    EncoderMismatch,
    InvalidFilter,
    InvalidInput,
    StorageError,
)
from engine.reindex import RolledBack, discard, reindex, rollback
from engine.search import SearchEngine
from engine.testing import COLOURS, FakeEncoder, tiny_catalogue
from tests.mirrored import MirroredEncoder

ROOT = Path(__file__).resolve().parent.parent


class ThirdEncoder(FakeEncoder):
    """The toy encoder under another name."""

    name = "fake:third"
    fingerprint = "fake-third-1"


def opened(data: Path, encoder: FakeEncoder | None = None) -> SearchEngine:
    cache = TieredCache(MemoryCache(10, ttl_s=10), None)
    return SearchEngine(Settings(data=data, threads=1), encoder or FakeEncoder(), cache)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def engine(data: Path, tmp_path: Path) -> Iterator[SearchEngine]:
    tiny_catalogue(tmp_path / "feed")
    with opened(data) as engine:
        fill(engine, "shop", tmp_path / "feed")
        yield engine


def fill(engine: SearchEngine, name: str, base: Path) -> None:
    documents = [
        Document(f"p{n}", f"{colour} mug", images=(f"{colour}.png",), attributes={"n": n}) for n, colour in enumerate(COLOURS)
    ]
    assert {status.status for status in engine.index(name, documents, base=base)} == {"created"}


def best(engine: SearchEngine, name: str, text: str = "red") -> str:
    return engine.search(name, text, k=1).hits[0].id


# Deleting by filter


def test_documents_are_deleted_by_filter(engine: SearchEngine):
    collection = engine.collection("shop")
    assert collection.delete_where("n < 2 or title contains 'black'") == 3
    assert sorted(collection.ids()) == ["p2", "p3", "p5"]
    assert collection.delete_where("n < 2") == 0
    with pytest.raises(InvalidFilter):
        collection.delete_where("n <")


def test_what_a_writer_changes_meanwhile_is_not_deleted(engine: SearchEngine, monkeypatch: pytest.MonkeyPatch):
    """The filter is asked again once nobody else can write."""
    collection = engine.collection("shop")
    count = type(collection).count

    def changed_after_counting(self: object, where: str | None) -> int:
        found = count(self, where)  # type: ignore[arg-type]
        collection.update(Document("p0", "red mug", images=("red.png",), attributes={"n": 100}))
        return found

    monkeypatch.setattr(type(collection), "count", changed_after_counting)
    assert collection.delete_where("n < 2") == 1
    assert collection.get(["p0"])[0] is not None


# Aliases


def test_an_alias_is_switched_for_every_process(engine: SearchEngine, data: Path, tmp_path: Path):
    engine.library.alias("live", "shop")
    with opened(data) as other:
        assert len(other.collection("live")) == 6
        engine.create("empty")
        engine.library.alias("live", "empty")
        assert len(other.collection("live")) == 0
        assert other.collections() == ["empty", "live", "shop"]
        engine.library.unalias("live")
        with pytest.raises(CollectionNotFound):
            other.collection("live")
    assert len(engine.collection("shop")) == 6


def test_names_do_not_get_mixed_up(engine: SearchEngine):
    engine.library.alias("live", "shop")
    for wrong, kind in (
        (lambda: engine.library.alias("shop", "shop"), InvalidInput),
        (lambda: engine.library.alias("more", "live"), InvalidInput),
        (lambda: engine.library.alias("more", "nothing"), CollectionNotFound),
        (lambda: engine.library.unalias("shop"), CollectionNotFound),
        (lambda: engine.create("live"), CollectionExists),
        (lambda: engine.drop("shop"), InvalidInput),
        (lambda: engine.drop("live"), InvalidInput),
    ):
        with pytest.raises(kind):
            wrong()
    assert best(engine, "live") == "p0"


def test_a_damaged_alias_file_is_said(engine: SearchEngine, data: Path):
    (data / "aliases.json").write_text("{")
    with pytest.raises(CollectionCorrupt, match="set the aliases anew"):
        engine.collection("shop")


# Snapshots


def test_a_snapshot_restores_everything(engine: SearchEngine, data: Path, tmp_path: Path):
    upload = (tmp_path / "feed" / "green.png").read_bytes()
    engine.index("shop", [Document("up", "leaf", images=("upload:1",))], uploads={"upload:1": upload})
    engine.library.snapshot("shop", tmp_path / "shop.snapshot")
    engine.collection("shop").delete(["p0"])
    told = engine.library.restore(tmp_path / "shop.snapshot", "again")
    restored = engine.collection("again")
    assert (told.name, told.documents, told.version) == ("again", 7, restored.version)
    assert (told.encoder, told.fingerprint) == (restored.encoder, restored.fingerprint)
    assert sorted(restored.ids()) == ["p0", "p1", "p2", "p3", "p4", "p5", "up"]
    assert (best(engine, "again"), best(engine, "again", "leaf")) == ("p0", "up")
    assert restored.identity != engine.collection("shop").identity
    engine.drop("shop")
    assert engine.picture("again", "up")  # its only copy came along
    assert str(data / "again" / "media") in restored.get(["up"])[0].images[0]  # type: ignore[union-attr]


def test_a_snapshot_replaces_nothing(engine: SearchEngine, tmp_path: Path):
    target = tmp_path / "shop.snapshot"
    engine.library.snapshot("shop", target)
    before = target.read_bytes()
    with pytest.raises(InvalidInput, match="exists already"):
        engine.library.snapshot("shop", target)
    with pytest.raises(CollectionExists):
        engine.library.restore(target, "shop")
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("harm", ["truncated", "half", "one bit", "foreign", "missing", "no tar"])
def test_a_snapshot_that_is_not_as_written_leaves_nothing(engine: SearchEngine, data: Path, tmp_path: Path, harm: str):
    target = tmp_path / "shop.snapshot"
    engine.library.snapshot("shop", target)
    whole = target.read_bytes()
    if harm == "truncated":
        target.write_bytes(whole[:-20_000])
    elif harm == "half":
        target.write_bytes(whole[: len(whole) // 2])
    elif harm == "one bit":
        target.write_bytes(whole.replace(b"red mug", b"sed mug", 1))
    elif harm == "foreign":
        with tarfile.open(target, "a") as archive:
            archive.add(tmp_path / "feed" / "red.png", "../../red.png")
    elif harm == "missing":
        target.unlink()
    else:
        target.write_bytes(b"no tar" * 1000)
    with pytest.raises((CollectionCorrupt, InvalidInput), match="snapshot"):
        engine.library.restore(target, "again")
    assert sorted(path.name for path in data.iterdir()) == ["shop"]


FOREIGN = ["../../red.png", "/tmp/red.png", "media/../../red.webp", "media/x/red.webp", ".hidden", "segments/1/keys.npy"]


def foreign(archive: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = 3
    archive.addfile(entry, io.BytesIO(b"red"))


def link(archive: tarfile.TarFile, kind: bytes) -> None:
    entry = tarfile.TarInfo("media/aa.webp")
    entry.type, entry.linkname = kind, "/etc/passwd"
    archive.addfile(entry)


def sparse(archive: tarfile.TarFile) -> None:
    """A picture of three bytes that says it is larger than any disk."""
    entry = tarfile.TarInfo("media/aa.webp")
    entry.size = 3
    entry.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(2**62), "GNU.sparse.map": "0,3"}
    archive.addfile(entry, io.BytesIO(b"red"))


@pytest.mark.parametrize(
    "harm",
    [
        *(pytest.param(partial(foreign, name=name), id=name) for name in FOREIGN),
        *(pytest.param(partial(link, kind=kind), id=f"type {kind!r}") for kind in (b"1", b"2", b"3", b"5", b"6")),
        sparse,
    ],
)
def test_a_snapshot_reaches_nothing_but_its_own_folder(
    engine: SearchEngine, data: Path, tmp_path: Path, harm: Callable[[tarfile.TarFile], None]
):
    target = tmp_path / "shop.snapshot"
    engine.library.snapshot("shop", target)
    with tarfile.open(target, "a", format=tarfile.PAX_FORMAT) as archive:
        harm(archive)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidInput, match="no snapshot of a collection"):
        engine.library.restore(target, "again")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_manifest_too_large_for_its_files_is_refused_before_it_is_read(engine: SearchEngine, tmp_path: Path):
    target = tmp_path / "shop.snapshot"
    engine.library.snapshot("shop", target)
    with tarfile.open(target, "a", format=tarfile.PAX_FORMAT) as archive:
        body = b"[" * 10_000_000
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(body)
        archive.addfile(entry, io.BytesIO(body))
    with pytest.raises(InvalidInput, match=r"^shop\.snapshot has a manifest of 10000000 bytes"):
        engine.library.restore(target, "again")


def repacked(source: Path, target: Path, change: Callable[[Path], None]) -> None:
    """Change the files of a snapshot, and let its manifest vouch for what they are now."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
        change(Path(folder))
        files = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != "manifest.json"]
        manifest = json.loads((Path(folder) / "manifest.json").read_text())
        manifest["files"] = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
        (Path(folder) / "manifest.json").write_text(json.dumps(manifest))
        with tarfile.open(target, "w") as made:
            for path in [*files, Path(folder) / "manifest.json"]:
                made.add(path, path.relative_to(folder).as_posix())


def run_sql(folder: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "documents.sqlite")) as database, database:
        database.execute(statement)


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        (
            partial(run_sql, statement="CREATE TRIGGER t AFTER INSERT ON changes BEGIN DELETE FROM documents; END"),
            InvalidInput,
            "trigger t",
        ),
        (partial(run_sql, statement="DROP TABLE orphans"), InvalidInput, "table orphans"),
        (lambda folder: (folder / "documents.sqlite").write_bytes(b"no database" * 1000), StorageError, "could not be restored"),
        (lambda folder: (folder / "collection.json").write_text("{"), CollectionCorrupt, "is damaged"),
        (lambda folder: (folder / "collection.json").write_text("[]"), CollectionCorrupt, "format None"),
        (lambda folder: (folder / "collection.json").unlink(), InvalidInput, "no snapshot of a collection"),
        (lambda folder: (folder / "documents.sqlite").unlink(), InvalidInput, "no snapshot of a collection"),
    ],
)
def test_a_snapshot_made_by_hand_is_refused(
    engine: SearchEngine, data: Path, tmp_path: Path, change: Callable[[Path], None], kind: type[Exception], sentence: str
):
    engine.library.snapshot("shop", tmp_path / "shop.snapshot")
    repacked(tmp_path / "shop.snapshot", tmp_path / "whole", lambda folder: None)
    repacked(tmp_path / "shop.snapshot", tmp_path / "harmed", change)
    with pytest.raises(kind, match=sentence):
        engine.library.restore(tmp_path / "harmed", "again")
    assert [path.name for path in data.iterdir()] == ["shop"]
    assert engine.library.restore(tmp_path / "whole", "again").documents == 6


class Stopped(Exception):
    """What a user of `told` raises."""


@pytest.mark.parametrize("at", [0.0, 0.5])
def test_a_snapshot_can_be_stopped_and_leaves_nothing(engine: SearchEngine, data: Path, tmp_path: Path, at: float):
    target = tmp_path / "out" / "shop.snapshot"
    seen: list[float] = []

    def stopping(done: int, total: int) -> None:
        seen.append(done / total)
        if done / total > at:
            raise Stopped

    with pytest.raises(Stopped):
        engine.library.snapshot("shop", target, told=stopping)
    assert list(target.parent.iterdir()) == []
    engine.library.snapshot("shop", target, told=lambda done, total: seen.append(done / total))
    assert seen[-1] <= 1.01
    with pytest.raises(Stopped):
        engine.library.restore(target, "again", told=stopping)
    assert [path.name for path in data.iterdir()] == ["shop"]


def test_a_snapshot_is_of_one_moment_though_writers_go_on(engine: SearchEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.database.COPIED_PAGES", 1)
    collection, target = engine.collection("shop"), tmp_path / "shop.snapshot"
    steps = itertools.count()

    def writing(done: int, total: int) -> None:
        if (step := next(steps)) < 20:
            with opened(collection.path.parent) as other:  # another process, for all SQLite knows
                other.index("shop", [Document(f"new{step}", f"white mug {step}")])

    engine.library.snapshot("shop", target, told=writing)
    assert len(collection) > 6
    assert engine.library.restore(target, "again").documents == 6


# Another encoder


def test_a_copy_takes_the_place_of_the_old_one(engine: SearchEngine, data: Path, tmp_path: Path):
    upload = (tmp_path / "feed" / "green.png").read_bytes()
    engine.index("shop", [Document("up", "leaf", images=("upload:1",))], uploads={"upload:1": upload})
    with opened(data, MirroredEncoder()) as other:
        with pytest.raises(EncoderMismatch, match="semblance reindex shop"):
            other.collection("shop")
        done = reindex(other, "shop")
        assert (done.documents, done.lost) == (7, {})
        assert best(other, "shop") == "p0"
        assert other.collection("shop").fingerprint == MirroredEncoder.fingerprint
        old, new = (e.collection("shop").embeddings_of("p0")[0].vector for e in (engine, other))
        assert old is not None
        assert new is not None
        assert np.array_equal(new, -old)
        assert best(engine, "shop") == "p0"  # a process of the old encoder goes on
        with pytest.raises(InvalidInput, match="already"):
            reindex(other, "shop")
        assert rollback(other, "shop") == RolledBack("shop", left=done.collection, changed=0)
        assert rollback(other, "shop") == RolledBack(done.collection, left="shop", changed=0)
        engine.library.close()
        assert discard(other, "shop") == "shop"
        assert best(other, "shop", "leaf") == "up"
        assert other.picture("shop", "up")
        with pytest.raises(CollectionNotFound):
            rollback(other, "shop")


def test_going_on_costs_nothing_twice(engine: SearchEngine, data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.reindex.BATCH", 2)
    encoder = MirroredEncoder()
    with opened(data, encoder) as other:
        with pytest.raises(KeyboardInterrupt):
            reindex(other, "shop", progress=interrupting)
        kept = encoder.images_encoded
        assert 0 < kept < 6
        engine.collection("shop").delete(["p0"])
        engine.collection("shop").update(Document("p1", "green cup", images=("green.png",), attributes={}))
        reindex(other, "shop")
        assert encoder.images_encoded == 6
        assert sorted(other.collection("shop").ids()) == ["p1", "p2", "p3", "p4", "p5"]
        assert other.collection("shop").get(["p1"])[0].title == "green cup"  # type: ignore[union-attr]


def test_what_a_name_has_left_behind_takes_no_writes(engine: SearchEngine, data: Path):
    """A process that still runs the old encoder is told, whichever way it writes; nothing it says was done is lost."""
    before = engine.collection("shop")
    cup = Document("cup", "white cup")
    with opened(data, MirroredEncoder()) as other:
        reindex(other, "shop")
        for write in (
            lambda: engine.index("shop", [cup]),
            lambda: before.update(Document("p0", "red cup")),
            lambda: before.replace(EncodedDocument(cup, b"", ()), expected=cup),
            lambda: before.delete(["p0"]),
            lambda: before.delete_where("n = 1"),
        ):
            with pytest.raises(EncoderMismatch, match="start this process anew"):
                write()
        assert (len(before), best(engine, "shop")) == (6, "p0")
        assert other.index("shop", [cup])[0].status == "created"
        rollback(other, "shop")
        assert engine.index("shop", [cup])[0].status == "created"
        with pytest.raises(EncoderMismatch, match="start this process anew"):
            other.index("shop", [Document("mug", "white mug")])


def test_a_write_in_the_moment_of_the_switch_is_copied_or_refused(engine: SearchEngine, data: Path):
    """Of writers that never stop, every write that was not refused is found afterwards."""
    done: list[str] = []

    def write() -> None:
        with contextlib.suppress(EncoderMismatch):
            for number in itertools.count():
                engine.index("shop", [Document(f"new{number}", f"white mug {number}")])
                done.append(f"new{number}")

    with opened(data, MirroredEncoder()) as other, ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        reindex(other, "shop")
        writer.result(timeout=60)
        assert done
        assert set(other.collection("shop").ids()) == {*done, *(f"p{n}" for n in range(6))}


def test_going_back_leaves_or_carries_what_was_written_since(engine: SearchEngine, data: Path):
    first, encoder = engine.encoder, MirroredEncoder()
    assert isinstance(first, FakeEncoder)
    with opened(data, encoder) as other:
        done = reindex(other, "shop")
        other.index("shop", [Document("cup", "white cup")])
        other.collection("shop").delete(["p1"])
        assert rollback(other, "shop") == RolledBack("shop", left=done.collection, changed=2)
        assert len(engine.collection("shop")) == 6
        rollback(other, "shop")
    pictures = first.images_encoded
    assert reindex(engine, "shop").collection == "shop"
    assert first.images_encoded == pictures  # what it had of before costs nothing
    assert sorted(engine.collection("shop").ids()) == ["cup", "p0", "p2", "p3", "p4", "p5"]
    assert engine.index("shop", [Document("mug", "white mug")])[0].status == "created"


def test_a_third_encoder_forgets_no_collection(engine: SearchEngine, data: Path):
    with opened(data, MirroredEncoder()) as other:
        reindex(other, "shop")
    with opened(data, ThirdEncoder()) as third:
        with pytest.raises(Conflict, match="--discard"):
            reindex(third, "shop")
        engine.library.close()
        discard(third, "shop")
        reindex(third, "shop")
        assert best(third, "shop") == "p0"
        discard(third, "shop")
    assert sum(path.is_dir() for path in data.iterdir()) == 1


def interrupting(done: int, total: int) -> None:
    if done >= 4:
        raise KeyboardInterrupt


def test_what_is_written_meanwhile_is_copied_too(engine: SearchEngine, data: Path, tmp_path: Path):
    written: list[object] = []

    def writing(done: int, total: int) -> None:
        if not written:
            written.append(engine.index("shop", [Document("new", "white mug", images=("white.png",))], base=tmp_path / "feed"))
            engine.collection("shop").delete(["p0"])

    with opened(data, MirroredEncoder()) as other:
        reindex(other, "shop", progress=writing)
        assert sorted(other.collection("shop").ids()) == ["new", "p1", "p2", "p3", "p4", "p5"]


def test_a_document_that_cannot_be_copied_stops_the_switch(engine: SearchEngine, data: Path, tmp_path: Path):
    (tmp_path / "feed" / "red.png").unlink()
    with opened(data, MirroredEncoder()) as other:
        with pytest.raises(InvalidInput, match="--partial"):
            reindex(other, "shop")
        assert best(engine, "shop") == "p0"
        done = reindex(other, "shop", partial=True)
        assert list(done.lost) == ["p0"]
        assert done.documents == 5


COPY = """
import sys, time
from pathlib import Path
from engine.reindex import reindex
from tests.mirrored import MirroredEncoder
from tests.test_engine_library import opened
import engine.reindex as module
module.BATCH = 1
with opened(Path(sys.argv[1]), MirroredEncoder()) as engine:
    def told(done, total):
        print(done, flush=True)
        time.sleep(0.02)
    reindex(engine, "shop", progress=told)
    print("switched", flush=True)
"""


@pytest.mark.parametrize("lines", [1, 3, 6])
def test_kill_9_of_a_copy_leaves_the_old_one_serving(engine: SearchEngine, data: Path, lines: int):
    process = subprocess.Popen(
        [sys.executable, "-c", COPY, str(data)], cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    for _ in range(lines):
        process.stdout.readline()
    time.sleep(0.01 * lines)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert best(engine, "shop") == "p0"
    with opened(data, MirroredEncoder()) as other:
        if "shop" not in other.library.aliases.all():
            reindex(other, "shop")
        assert best(other, "shop") == "p0"
        assert len(other.collection("shop")) == 6
