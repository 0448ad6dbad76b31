"""Compaction in a process of its own: killed, orphaned, refused by the disk or damaged, it loses nothing and is done later."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.collection import Collection
from engine.config import Settings
from engine.errors import StorageError
from engine.index import compactor, live
from engine.index.compactor import NICENESS, Order, compact_apart
from tests.storage import BOTH, axis, encoded, ids_of, sixty, unit

SETTINGS = Settings(threads=1, busy_timeout_ms=2000)
ROOT = Path(__file__).resolve().parent.parent
QUERY = unit(1, seed=99)

STUCK = """
    import os, sys, time
    from pathlib import Path
    from engine.index import compaction, compactor

    write = compaction.write_segment

    def stuck(*arguments, **options):
        write(*arguments, **options)
        Path(sys.argv[2] + ".new").write_text(str(os.getpid()))
        os.replace(sys.argv[2] + ".new", sys.argv[2])
        time.sleep(120)

    compaction.write_segment = stuck
    compactor.main()
"""
FULL = """
    from engine.index import compaction, compactor

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    compaction.write_segment = full
    compactor.main()
"""
DAMAGING = """
    import sys
    from pathlib import Path
    import orjson
    from engine.index import compactor

    compactor.main()
    harmed = Path(orjson.loads(sys.argv[1])["folder"]) / "segments" / "1" / "image.vectors.npy"
    data = bytearray(harmed.read_bytes())
    data[len(data) // 2] ^= 1
    harmed.write_bytes(data)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop"


@pytest.fixture
def collection(path: Path) -> Iterator[Collection]:
    opened = sixty(path, SETTINGS)
    yield opened
    opened.close()


@pytest.fixture
def order(path: Path) -> Order:
    return Order(str(path), threads=1, kind=None, busy_timeout_ms=2000)


def answer(collection: Collection) -> list[str]:
    return ids_of(collection, collection.search(QUERY, 20, weights=BOTH)[0])


def settled(collection: Collection) -> None:
    collection._index.close()


def command(program: str, *words: str | Path) -> Callable[[Order], list[str]]:
    """What is run instead: a program that harms the process from inside."""
    own = compactor.command_of
    return lambda order: [sys.executable, "-c", textwrap.dedent(program), own(order)[4], *map(str, words)]


def patiently(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def unlocked(path: Path) -> bool:
    with (path / "compaction.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def names(path: Path) -> set[str]:
    return {entry.name for entry in (path / "segments").iterdir()}


def test_a_long_log_is_compacted_by_another_process(
    collection: Collection, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(live, "COMPACT_ROWS", 10)
    monkeypatch.setattr("engine.index.compaction.write_segment", None)  # here nobody can
    expected = answer(collection)
    with caplog.at_level(logging.WARNING):
        collection.update(collection.get(["p1"])[0])
        settled(collection)
    assert caplog.text == ""
    published = collection._index.current().published
    assert published is not None
    assert published.version == collection.version
    assert answer(collection) == expected
    assert names(path) == {"1"}
    assert unlocked(path)


def test_the_process_stays_light():
    code = "import sys, engine.index.compactor; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert "faiss" not in loaded  # until there is something to index
    assert not {"torch", "openvino", "tokenizers", "fastapi", "redis"} & set(loaded)


def test_killed_in_the_middle_it_is_done_later(
    collection: Collection, path: Path, order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    collection.compact()
    collection.upsert([encoded("new", QUERY)])
    expected, current, told = answer(collection), (path / "CURRENT").read_bytes(), tmp_path / "pid"
    failures: list[Exception] = []

    def work() -> None:
        try:
            compact_apart(order)
        except StorageError as error:
            failures.append(error)

    with monkeypatch.context() as patch:
        patch.setattr(compactor, "command_of", command(STUCK, told))
        thread = threading.Thread(target=work)
        thread.start()
        patiently(told.exists)
        process = int(told.read_text())
        assert names(path) == {"1", "2.building"}
        assert not unlocked(path)
        assert os.getpriority(os.PRIO_PROCESS, process) == os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
        assert os.getpgid(process) != os.getpgid(0)  # ctrl-C does not reach it
        assert os.getsid(process) == os.getsid(0)  # so that its priority counts beside ours
        assert answer(collection) == expected
        os.kill(process, signal.SIGKILL)
        thread.join()
    assert "ended with -9" in str(failures[0])
    assert (path / "CURRENT").read_bytes() == current
    assert unlocked(path)
    assert answer(collection) == expected
    assert compact_apart(order)
    assert names(path) == {"1", "2"}
    assert answer(collection) == expected


def test_a_failing_process_hurts_no_write_and_is_not_started_again_at_once(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    started = []

    def counted(order: Order) -> list[str]:
        started.append(order)
        return full(order)

    monkeypatch.setattr(live, "COMPACT_ROWS", 10)
    full = command(FULL)
    monkeypatch.setattr(compactor, "command_of", counted)
    for number in range(5):
        collection.upsert([encoded(f"x{number}", [axis(number)])])
        settled(collection)
    assert "No space left on device" in caplog.text
    assert len(started) == 1  # tried again after a minute, not after every write
    assert collection.count(None) == 65


def test_a_process_that_cannot_be_started_hurts_no_write(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(live, "COMPACT_ROWS", 10)
    monkeypatch.setattr(compactor, "command_of", lambda order: ["/nowhere/python"])
    collection.upsert([encoded("x", [axis(0)])])
    settled(collection)
    assert "cannot be started" in caplog.text
    assert collection.count(None) == 61


def test_damage_done_to_what_it_made_is_refused(
    collection: Collection, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    expected = answer(collection)
    monkeypatch.setattr(live, "COMPACT_ROWS", 10)
    monkeypatch.setattr(compactor, "command_of", command(DAMAGING))
    collection.update(collection.get(["p1"])[0])
    settled(collection)
    assert "rebuilding the index of collection 'shop'" in caplog.text
    assert "image.vectors.npy" in caplog.text
    assert answer(collection) == expected
    caplog.clear()
    reopened = Collection.open(path, settings=SETTINGS)
    assert answer(reopened) == expected
    reopened.close()
    assert caplog.text == ""


def test_nobody_starts_a_process_while_another_compacts(order: Order, collection: Collection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compactor, "command_of", lambda order: pytest.fail("a process was started"))
    with (collection.path / "compaction.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not compact_apart(order)


PARENT = """
import sys
from pathlib import Path
from engine.index import compactor
from tests.test_engine_index_compactor import STUCK, Order, command

compactor.command_of = command(STUCK, sys.argv[2])
compactor.compact_apart(Order(sys.argv[1], 1, None, 2000))
"""


def test_it_ends_with_the_process_that_started_it(collection: Collection, path: Path, tmp_path: Path):
    expected, told = answer(collection), tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", PARENT, str(path), str(told)], cwd=ROOT) as parent:
        patiently(told.exists)
        process = int(told.read_text())
        assert alive(process)
        parent.kill()
    patiently(lambda: not alive(process) and unlocked(path))
    reopened = Collection.open(path, settings=SETTINGS)
    assert names(path) == set()  # what it left is gone
    assert answer(reopened) == expected
    reopened.close()
