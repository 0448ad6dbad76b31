"""The collection as a whole: against a brute-force twin, across processes, and through kill -9."""

import contextlib
import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from engine.collection import Collection
from engine.config import Settings
from engine.datatypes import Document, Embedding, EncodedDocument
from engine.errors import CollectionCorrupt, CollectionExists, CollectionNotFound, InvalidInput, MissingExtra, StorageError
from engine.folder import OWN_FILES
from engine.index import ann, columns, live, merging, planner, rows
from engine.index.merging import Extent
from tests.storage import BOTH, IMAGE, Twin, assert_same, axis, content, encoded, ids_of, unit

SETTINGS = Settings(threads=1, busy_timeout_ms=5000)
ROOT = Path(__file__).resolve().parent.parent


def create(path: Path) -> Collection:
    return Collection.create(path, fingerprint="f1", encoder="bundle:default", settings=SETTINGS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "shop"


@pytest.fixture
def collection(path: Path) -> Iterator[Collection]:
    opened = create(path)
    yield opened
    opened.close()


def names(collection: Collection, vector: np.ndarray, k: int = 10, **options: object) -> list[str]:
    return ids_of(collection, collection.search(vector[None], k, weights=IMAGE, **options)[0])


# The folder


def test_a_collection_says_what_made_it(collection: Collection, path: Path):
    about = json.loads((path / "collection.json").read_text())
    assert (about["format"], about["encoder"], about["fingerprint"]) == (1, "bundle:default", "f1")
    assert about["created"].endswith("+00:00")
    reopened = Collection.open(path, settings=SETTINGS)
    assert (reopened.name, reopened.path, reopened.fingerprint, reopened.encoder) == ("shop", path, "f1", "bundle:default")
    assert reopened.identity == collection.identity
    assert (len(reopened), reopened.version, list(reopened.ids())) == (0, 0, [])
    reopened.close()


def test_one_name_one_collection(collection: Collection, path: Path):
    with pytest.raises(CollectionExists, match="'shop'"):
        create(path)
    with pytest.raises(CollectionNotFound, match="'nobody'"):
        Collection.open(path.with_name("nobody"), settings=SETTINGS)
    with pytest.raises(CollectionNotFound, match="'nobody'"):
        Collection.destroy(path.with_name("nobody"))


def test_a_creation_that_was_killed_is_done_anew(path: Path):
    path.mkdir(parents=True)
    (path / "documents.sqlite").write_bytes(b"")
    (path / "segments").mkdir()
    with pytest.raises(CollectionNotFound):
        Collection.open(path, settings=SETTINGS)
    created = create(path)
    created.upsert([encoded("a", [axis(0)])])
    assert names(created, axis(0)) == ["a"]
    created.close()
    assert [entry.name for entry in path.parent.iterdir()] == ["shop"]


def test_documents_that_lost_their_about_are_not_taken_for_leftovers(collection: Collection, path: Path):
    collection.upsert([encoded("a", [axis(0)])])
    collection.close()
    about = (path / "collection.json").read_bytes()
    (path / "collection.json").unlink()
    for attempt in (create, lambda place: Collection.open(place, settings=SETTINGS)):
        with pytest.raises(CollectionCorrupt, match=r"collection.json is missing.*restore it"):
            attempt(path)
    (path / "collection.json").write_bytes(about)
    reopened = Collection.open(path, settings=SETTINGS)
    assert names(reopened, axis(0)) == ["a"]
    reopened.close()


def test_a_folder_of_other_things_is_left_alone(path: Path):
    path.mkdir(parents=True)
    (path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"holiday\.jpg"):
        create(path)
    assert (path / "holiday.jpg").read_bytes() == b"x"
    assert [entry.name for entry in path.parent.iterdir()] == ["shop"]


def test_a_destroyed_collection_leaves_nothing_and_its_holders_are_told(collection: Collection, path: Path):
    collection.upsert([encoded("a", [axis(0)])])
    collection.compact()
    assert not collection.dropped
    Collection.destroy(path)
    assert list(path.parent.iterdir()) == []
    assert collection.dropped
    with pytest.raises(CollectionNotFound, match="dropped"):
        names(collection, axis(0))
    again = create(path)
    assert again.identity != collection.identity
    assert collection.dropped
    again.close()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"format": 2, "encoder": "e", "fingerprint": "f", "identity": "i"}', "format 2, this version reads 1: upgrade"),
        ('{"format": 1}', "does not name its encoder"),
        ("[]", "format None"),
        ("{", "is damaged"),
    ],
)
def test_an_unknown_format_is_refused_with_a_remedy(collection: Collection, path: Path, text: str, sentence: str):
    (path / "collection.json").write_text(text)
    with pytest.raises(CollectionCorrupt, match=sentence):
        Collection.open(path, settings=SETTINGS)


@pytest.mark.parametrize("harm", ["removed", "empty", "rubbish"])
def test_damaged_documents_are_said_at_opening(collection: Collection, path: Path, harm: str):
    collection.upsert([encoded("a")])
    collection.close()
    database = path / "documents.sqlite"
    database.unlink() if harm == "removed" else database.write_bytes(b"" if harm == "empty" else os.urandom(8192))
    with pytest.raises(CollectionCorrupt, match=r"documents\.sqlite.*(backup|index)"):
        Collection.open(path, settings=SETTINGS)


def test_without_faiss_the_install_line_is_said(path: Path, collection: Collection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra, match=r"pip install 'semblance\[cpu\]'"):
        Collection.open(path, settings=SETTINGS)


# Reading one's own and others' writes


def test_a_write_is_found_by_the_next_search(collection: Collection):
    collection.upsert([encoded("a", [axis(0)], price=5), encoded("b", [axis(1)], price=50)])
    assert names(collection, axis(0)) == ["a", "b"]
    assert names(collection, axis(0), where="price > 10") == ["b"]
    collection.update(Document("b", "b", attributes={"price": 1}))
    assert names(collection, axis(0), where="price > 10") == []
    assert names(collection, axis(1), k=1) == ["b"]
    assert collection.delete(["a", "x"]) == 1
    assert names(collection, axis(0)) == ["b"]
    assert collection.get(["a", "b"])[0] is None
    assert (len(collection), collection.count(None)) == (1, 1)


def test_another_opened_collection_sees_it_at_its_next_search(collection: Collection, path: Path):
    other = Collection.open(path, settings=SETTINGS)
    assert names(other, axis(0)) == []
    collection.upsert([encoded("a", [axis(0)])])
    assert names(other, axis(0)) == ["a"]
    assert other.version == collection.version
    other.delete(["a"])
    assert names(collection, axis(0)) == []
    other.close()


def test_a_known_content_needs_no_vector(collection: Collection):
    collection.upsert([encoded("a", [axis(0)])])
    assert set(collection.vectors_of([content(axis(0)), b"?" * 16])) == {content(axis(0))}
    collection.upsert([EncodedDocument(Document("b"), b"", (Embedding("image", content(axis(0)), None),))])
    assert set(names(collection, axis(0))) == {"a", "b"}
    with pytest.raises(InvalidInput, match=b"\x02".hex() * 16):
        collection.upsert([EncodedDocument(Document("c"), b"", (Embedding("image", b"\x02" * 16, None),))])


def test_a_document_deleted_between_search_and_reading_is_a_gap(collection: Collection):
    collection.upsert([encoded("a", [axis(0)]), encoded("b", [axis(1)])])
    keys = [c.key for c in collection.search(axis(0)[None], 2, weights=IMAGE)[0]]
    collection.delete(["a"])
    assert [d.id if d else None for d in collection.hydrate(keys)] == [None, "b"]


def test_readers_do_not_wait_for_a_writer(collection: Collection, path: Path):
    collection.upsert([encoded("a", [axis(0)])])
    other = sqlite3.connect(path / "documents.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM documents")
    start = time.monotonic()
    assert names(collection, axis(0)) == ["a"]
    assert collection.count("id exists") == 1
    assert time.monotonic() - start < 2
    other.execute("ROLLBACK")
    other.close()


def test_a_read_only_disk_is_searched(collection: Collection, path: Path, monkeypatch: pytest.MonkeyPatch):
    collection.upsert([encoded("a", [axis(0)]), encoded("b", [axis(1)])])
    collection.compact()
    collection.upsert([encoded("c", [axis(2)])])
    collection.close()
    monkeypatch.setattr(os, "access", lambda target, mode: False)  # what a read-only mount answers, also to root
    opened = Collection.open(path, settings=SETTINGS)
    assert names(opened, axis(2), k=1) == ["c"]
    assert opened.count("id exists") == 3
    with pytest.raises(StorageError, match="cannot be written"):
        opened.upsert([encoded("d")])
    opened.close()


def test_threads_search_while_others_write(collection: Collection):
    collection.upsert([encoded(f"base{n}", [axis(n)]) for n in range(100)])
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            for number in (3, 50):
                assert names(collection, axis(number), k=1)[0] in {f"base{number}", f"twice{number}"}

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for number in range(60):
                collection.upsert([encoded(f"twice{number}", [axis(number)])])
                if number % 20 == 0:
                    collection.compact()
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert collection.count(None) == 160


# Against a brute-force twin

IDS = st.sampled_from([f"p{n}" for n in range(12)])
AXES = st.integers(0, 5)
PRICES = st.integers(0, 4)
# True of everything: who asks whether an attribute exists is not told that no product has it, in a collection that is empty.
UNINSISTING = "(price exists or brand exists or tags exists or not price exists)"
FILTERS: list[tuple[str | None, Callable[[Document], bool]]] = [
    (None, lambda d: True),
    ("price < 2", lambda d: d.attributes["price"] < 2),
    ("not price = 1", lambda d: d.attributes["price"] != 1),
    ("brand = 'b1' or price >= 3", lambda d: d.attributes["brand"] == "b1" or d.attributes["price"] >= 3),
    (
        "tags contains 't2' and brand in ('b0', 'b2')",
        lambda d: "t2" in d.attributes["tags"] and d.attributes["brand"] in {"b0", "b2"},
    ),
    ("id > 'p3' and title contains '7'", lambda d: d.id > "p3" and "7" in d.title),
]
FILTERS = [(where and f"{UNINSISTING} and ({where})", holds) for where, holds in FILTERS]


class Machine(RuleBasedStateMachine):
    """Random histories: whatever happened, the collection answers as its twin does."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.collection, self.twin = create(Path(self.folder.name) / "shop"), Twin()

    @rule(rows=st.lists(st.tuples(IDS, st.lists(AXES, max_size=3, unique=True), st.none() | AXES, PRICES), max_size=5))
    def upsert(self, rows: list[tuple[str, list[int], int | None, int]]) -> None:
        documents = [
            encoded(id, [mixed(n) for n in pictures], None if title is None else mixed(title), **attributes(price))
            for id, pictures, title, price in rows
        ]
        self.collection.upsert(documents)
        self.twin.upsert(documents)

    @rule(id=IDS, price=PRICES)
    def update(self, id: str, price: int) -> None:
        if id in self.twin.stored:
            document = Document(id, f"updated {price}", attributes=attributes(price))
            self.collection.update(document)
            self.twin.update(document)

    @rule(ids=st.lists(IDS, max_size=4))
    def delete(self, ids: list[str]) -> None:
        assert self.collection.delete(ids) == self.twin.delete(ids)

    @rule(extent=st.sampled_from(["due", "mergeable", "everything"]))
    def compact(self, extent: Extent) -> None:
        self.collection._index.compact(extent=extent)

    @rule(number=st.integers(0, 9))
    def damage(self, number: int) -> None:
        """Half a file of one of the segments in force is lost."""
        files = sorted(path for path in self.collection.path.glob("segments/*/*") if path.is_file())
        self.collection.close()
        if files:
            harmed = files[number * len(files) // 10]
            harmed.write_bytes(harmed.read_bytes()[: harmed.stat().st_size // 2])
        self.collection = Collection.open(self.collection.path, settings=SETTINGS)

    @rule(where=st.sampled_from(FILTERS[1:]))
    def delete_where(self, where: tuple[str, Callable[[Document], bool]]) -> None:
        gone = [d.document.id for d in self.twin.admitted(where[1])]
        assert self.collection.delete_where(where[0]) == self.twin.delete(gone)

    @rule()
    def reopen(self) -> None:
        self.collection.close()
        self.collection = Collection.open(self.collection.path, settings=SETTINGS)

    @rule(number=AXES, share=st.sampled_from([0.0, 0.3, 0.5, 1.0]), k=st.integers(1, 13), condition=st.sampled_from(FILTERS))
    def search(self, number: int, share: float, k: int, condition: tuple[str | None, object]) -> None:
        where, holds = condition
        weights = np.array([share, 1 - share], np.float32)
        assert_same(self.collection, self.twin, mixed(number), weights, k, where=where, holds=holds)

    @invariant()
    def counts(self) -> None:
        assert len(self.collection) == len(self.twin.stored)
        assert list(self.collection.ids()) == sorted(self.twin.stored)
        for where, holds in FILTERS:
            assert self.collection.count(where) == len(self.twin.admitted(holds))

    def teardown(self) -> None:
        self.collection.close()
        self.folder.cleanup()


def mixed(number: int) -> np.ndarray:
    """Unit vectors that are neither equal nor orthogonal."""
    vector = axis(number) + 0.5 * axis((number + 1) % 6) + 0.1 * axis(9)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def attributes(price: int) -> dict[str, object]:
    return {"price": price if price % 2 else float(price), "brand": f"b{price % 3}", "tags": tuple(f"t{n}" for n in range(price))}


MACHINE = settings(max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))


def test_any_history_answers_as_brute_force_does():
    run_state_machine_as_test(Machine, settings=MACHINE)


def test_any_history_answers_as_brute_force_does_through_the_index(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planner, "EXACT_DOCUMENTS", 2)
    monkeypatch.setattr(rows, "RESIDENT_ROWS", 0)
    run_state_machine_as_test(Machine, settings=MACHINE)


def test_any_history_answers_as_brute_force_does_from_many_segments(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(merging, "ROWS", {"due": 4, "mergeable": 5, "everything": 3})
    monkeypatch.setattr(merging, "MERGE_RATIO", 1)
    monkeypatch.setattr(columns, "BLOCK_VALUES", 3)
    run_state_machine_as_test(Machine, settings=MACHINE)


@pytest.mark.slow
def test_any_history_answers_as_brute_force_does_through_lists(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planner, "EXACT_DOCUMENTS", 2)
    monkeypatch.setattr(rows, "RESIDENT_ROWS", 0)
    monkeypatch.setattr(ann, "FLAT_ROWS", 3)
    run_state_machine_as_test(Machine, settings=settings(MACHINE, max_examples=5))


# Processes

WRITER = """
import sys
from pathlib import Path
from engine.collection import Collection
from engine.config import Settings
from engine.index import live
from tests.storage import axis, encoded

live.COMPACT_ROWS = 15
prefix, count = sys.argv[2], int(sys.argv[3])
collection = Collection.open(Path(sys.argv[1]), settings=Settings(threads=1))
for n in range(count):
    collection.upsert([encoded(f"{prefix}{n}", [axis(n % 256)], n=n), encoded(f"{prefix}{n}b", [axis(n % 256)], n=n)])
    if n % 5 == 4:
        collection.delete([f"{prefix}{n - 4}b"])
    print(n, flush=True)
collection.close()
"""


def writer(path: Path, prefix: str, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(path), prefix, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_three_processes_write_at_once(collection: Collection, path: Path):
    processes = [writer(path, prefix, 30) for prefix in "xyz"]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert collection.count(None) == len(collection) == 3 * (60 - 6)
    for n in (0, 7, 29):
        (found,) = collection.search(axis(n)[None], 6, weights=BOTH)
        assert {id for id, c in zip(ids_of(collection, found), found, strict=True) if c.score == 1} == {
            f"{prefix}{n}{suffix}" for prefix in "xyz" for suffix in (("",) if n % 5 == 0 else ("", "b"))
        }


def test_another_process_is_seen_within_a_second(collection: Collection, path: Path):
    assert names(collection, axis(0)) == []
    process = writer(path, "x", 1)
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    assert set(names(collection, axis(0))) == {"x0", "x0b"}
    process.communicate(timeout=60)


def test_a_reader_follows_others_between_its_searches(collection: Collection, path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "COMPACT_ROWS", 10**9)
    reader = Collection.open(path, settings=SETTINGS)
    assert names(reader, axis(0)) == []
    vectors = unit(2_000)
    collection.upsert([encoded(f"p{n}", vectors[n : n + 1]) for n in range(2_000)])
    committed = time.monotonic()
    while reader._index._snapshot.version != collection.version:  # looked at without asking
        assert time.monotonic() - committed < 20, "nobody took up the changes"
        time.sleep(0.01)
    reader.close()
    collection.upsert([encoded("late", [axis(0)])])
    time.sleep(2 * live.FOLLOW_S)
    assert reader._index._snapshot.version < collection.version  # a closed one has stopped


LIMITED = """
import resource, sys
from pathlib import Path
from engine.collection import Collection
from engine.config import Settings
from engine.errors import StorageError
from tests.storage import encoded, unit

resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
collection = Collection.open(Path(sys.argv[1]), settings=Settings(threads=1))
done = 0
try:
    while True:
        collection.upsert([encoded(f"p{done}-{n}", unit(1, seed=done * 20 + n)) for n in range(20)])
        done += 1
except StorageError as error:
    print(done, error)
for attempt in (collection.compact, lambda: collection.copy_documents(Path(sys.argv[1]) / "copy")):
    try:
        attempt()
    except StorageError as error:
        print(error)
print(collection.delete(["p0-0"]), collection.count(None))
"""


def test_a_system_that_refuses_to_write_loses_nothing(collection: Collection, path: Path):
    """The kernel lets no file grow beyond 1 MB: what was acknowledged is there, what was not is not, and reading goes on."""
    command = [sys.executable, "-c", LIMITED, str(path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    lines = ended.stdout.splitlines()
    assert ended.returncode == 0, ended.stderr
    done = int(lines[0].split()[0])
    assert "check its disk" in lines[0]
    assert done > 10
    assert collection.count(None) == len(collection) == 20 * done - int(lines[-1].split()[0])
    collection.upsert([encoded("after", unit(1, seed=1))])
    collection.compact()
    assert collection.count("id = 'after'") == 1


def let_end(path: Path) -> None:
    """Wait for a process that compacts: it ends by itself soon after the one that started it."""
    with (path / "compaction.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def kill_and_check(path: Path, seed: int) -> None:
    """Kill a writer somewhere, then compare what is there with what it acknowledged."""
    chance = np.random.default_rng(seed)
    acknowledged, wanted = -1, int(chance.integers(0, 40))
    with writer(path, f"r{seed}-", 10_000) as process:
        assert process.stdout is not None
        try:
            while acknowledged < wanted:
                acknowledged = int(process.stdout.readline())
            time.sleep(float(chance.random()) * 0.02)
        finally:
            process.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in process.stdout.read().split())])
    let_end(path)
    opened = Collection.open(path, settings=SETTINGS)
    check_acknowledged(opened, seed, acknowledged)
    opened.close()
    check_no_leavings(path)


def check_acknowledged(opened: Collection, seed: int, acknowledged: int) -> None:
    ids = set(opened.ids())
    for n in range(acknowledged + 1):
        assert f"r{seed}-{n}" in ids
        deleted_by = n + 4 if n % 5 == 0 else None  # the step that deletes the second of the pair
        if deleted_by == acknowledged + 1:
            continue  # that step was under way: both outcomes keep every promise
        assert (f"r{seed}-{n}b" in ids) == (deleted_by is None or deleted_by > acknowledged)
    whole = {id.removesuffix("b") for id in ids if id.startswith(f"r{seed}-")}
    assert len(whole) - (acknowledged + 1) in {0, 1}  # at most the one whose answer was under way
    assert opened.count(None) == len(ids)
    (found,) = opened.search(axis(acknowledged % 256)[None], 400, weights=IMAGE)
    assert f"r{seed}-{acknowledged}" in ids_of(opened, found)


def check_no_leavings(path: Path) -> None:
    """Nothing half-made lies about, and the database is whole."""
    current = int((path / "CURRENT").read_text().split()[0]) if (path / "CURRENT").exists() else 0
    left = {entry.name for entry in path.glob("segments/*")}
    assert all(name.isdigit() and int(name) <= current for name in left)
    assert {entry.name for entry in path.iterdir()} <= {*OWN_FILES, "collection.json"}
    with contextlib.closing(sqlite3.connect(path / "documents.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_kill_9_loses_no_acknowledged_write(collection: Collection, path: Path):
    for seed in range(10):
        kill_and_check(path, seed)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(100, 300, 20))
def test_kill_9_at_two_hundred_points(collection: Collection, path: Path, first: int):
    for seed in range(first, first + 20):
        kill_and_check(path, seed)


def test_recall_of_a_fused_search_through_the_index(collection: Collection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planner, "EXACT_DOCUMENTS", 100)
    monkeypatch.setattr(rows, "RESIDENT_ROWS", 0)
    images, titles = unit(3000, seed=1), unit(3000, seed=2)
    documents = [encoded(f"p{n}", images[n : n + 1], titles[n]) for n in range(3000)]
    collection.upsert(documents)
    collection.compact()
    queries = np.concatenate([images[:20] + titles[:20], unit(20, seed=3)])
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    weights = np.repeat(BOTH, 40, axis=0)
    found = collection.search(queries, 10, weights=weights)
    monkeypatch.setattr(planner, "EXACT_DOCUMENTS", 10_000)
    truth = collection.search(queries, 10, weights=weights)
    overlap = [len({c.key for c in f} & {c.key for c in t}) / 10 for f, t in zip(found, truth, strict=True)]
    assert np.mean(overlap[:20]) >= 0.95
    assert [f[0] for f in found[:20]] == [t[0] for t in truth[:20]]
