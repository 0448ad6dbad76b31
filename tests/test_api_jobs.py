"""The registry of jobs: states, cancelling, what a restart and a kill leave behind."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from api.jobs import ATTEMPTS, FAILED_INSIDE, JobEnded, Jobs
from api.jobstore import FILE, KEPT_S, Job, JobStore
from engine.errors import InvalidInput, NotFound, Overloaded, StorageError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def jobs(tmp_path):
    registry = Jobs(tmp_path, max_waiting=3)
    yield registry
    registry.close()


def ended(jobs, id, within=10.0):
    return reaches(jobs, id, {"done", "failed", "cancelled"}, within)


def reaches(jobs, id, states, within=10.0):
    deadline = time.monotonic() + within
    while (job := jobs.get(id)).state not in states:
        assert time.monotonic() < deadline, job
        time.sleep(0.01)
    return job


def until_cancelled(job, report, cancelled):
    while not cancelled():
        time.sleep(0.01)
    raise JobEnded("it was cancelled", {"done": 1})


def test_a_job_runs_and_keeps_its_last_report_and_its_result(jobs):
    gate = threading.Event()

    def run(job, report, cancelled):
        gate.wait(10)
        for number in range(100):
            report({"read": number + 1}, message="reading", preview="data:image/png;base64,AA==" if number == 50 else None)
        return {"sum": job.request["a"] + 1}

    jobs.register("import", run)
    job = jobs.submit("import", {"a": 1}, collection="shop", key="k1")
    assert job.state in ("queued", "running")
    assert (job.collection, job.key, job.ended) == ("shop", "k1", False)
    gate.set()
    job = ended(jobs, job.id)
    assert (job.state, job.result, job.progress, job.attempts, job.ended) == ("done", {"sum": 2}, {"read": 100}, 1, True)
    assert job.preview is None
    assert job.updated >= job.created > 0


def test_a_preview_is_there_while_the_job_runs(jobs):
    gate = threading.Event()

    def run(job, report, cancelled):
        report({"step": 1}, preview="data:image/png;base64,AA==")
        gate.wait(10)
        return {}

    jobs.register("generate", run)
    job = jobs.submit("generate", {})
    reaches(jobs, job.id, {"running"})
    deadline = time.monotonic() + 5
    while (preview := jobs.get(job.id).preview) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert preview == "data:image/png;base64,AA=="
    gate.set()
    assert ended(jobs, job.id).state == "done"


def test_jobs_of_a_kind_run_in_order_one_at_a_time_and_kinds_side_by_side(jobs):
    log, gate = [], threading.Event()
    jobs.register("import", lambda job, report, cancelled: log.append(job.request["n"]) or {})
    jobs.register("generate", lambda job, report, cancelled: {"waited": gate.wait(10)})
    slow = jobs.submit("generate", {})
    ids = [jobs.submit("import", {"n": number}).id for number in range(3)]
    assert [ended(jobs, id).state for id in ids] == ["done"] * 3
    assert log == [0, 1, 2]
    assert not jobs.get(slow.id).ended
    gate.set()
    assert ended(jobs, slow.id).result == {"waited": True}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InvalidInput("row 3 is bad"), "row 3 is bad"),
        (RuntimeError("password=hunter2"), FAILED_INSIDE),
        (JobEnded("stopped early", {"read": 7}), "stopped early"),
    ],
)
def test_a_failure_says_what_a_caller_may_know(jobs, error, message):
    def run(job, report, cancelled):
        raise error

    jobs.register("import", run)
    job = ended(jobs, jobs.submit("import", {}).id)
    assert (job.state, job.message) == ("failed", message)
    assert job.result == getattr(error, "result", None)
    assert ended(jobs, jobs.submit("import", {}).id).state == "failed"  # the runner lives on


def test_cancelling_a_waiting_job_keeps_it_from_beginning(jobs):
    job = jobs.submit("import", {})
    assert jobs.cancel(job.id).state == "cancelled"
    begun = []
    jobs.register("import", lambda job, report, cancelled: begun.append(job.id) or {})
    other = jobs.submit("import", {})
    ended(jobs, other.id)
    assert begun == [other.id]


def test_cancelling_a_running_job_ends_it_with_what_it_has(jobs):
    jobs.register("import", until_cancelled)
    job = jobs.submit("import", {})
    reaches(jobs, job.id, {"running"})
    assert jobs.cancel(job.id).cancel is True
    job = ended(jobs, job.id)
    assert (job.state, job.result, job.message) == ("cancelled", {"done": 1}, "it was cancelled")
    assert jobs.cancel(job.id).state == "cancelled"


def test_a_finished_job_cannot_be_cancelled_any_more(jobs):
    jobs.register("import", lambda job, report, cancelled: {})
    job = ended(jobs, jobs.submit("import", {}).id)
    assert jobs.cancel(job.id).state == "done"


def test_the_queue_is_bounded_per_kind(jobs):
    for _ in range(3):
        jobs.submit("import", {})
    with pytest.raises(Overloaded, match="3 jobs"):
        jobs.submit("import", {})
    jobs.submit("generate", {})


def test_an_unknown_job_is_not_found(jobs):
    for call in (jobs.get, jobs.cancel):
        with pytest.raises(NotFound, match="'nope'"):
            call("nope")


def test_jobs_are_listed_newest_first_and_counted(jobs):
    first = jobs.submit("import", {}, collection="a")
    second = jobs.submit("generate", {}, collection="b")
    assert [job.id for job in jobs.newest()] == [second.id, first.id]
    assert [job.id for job in jobs.newest(kind="import")] == [first.id]
    assert [job.id for job in jobs.newest(collection="b")] == [second.id]
    assert [job.id for job in jobs.newest(limit=1)] == [second.id]
    assert jobs.counts() == {("import", "queued"): 1, ("generate", "queued"): 1}


def test_closing_queues_what_runs_again_and_the_next_process_goes_on(tmp_path):
    before = Jobs(tmp_path)
    before.register("import", until_cancelled)
    job = before.submit("import", {"n": 5})
    reaches(before, job.id, {"running"})
    before.close()
    after = Jobs(tmp_path)
    assert after.get(job.id).state == "queued"
    after.register("import", lambda job, report, cancelled: {"n": job.request["n"]})
    job = ended(after, job.id)
    assert (job.state, job.result, job.attempts) == ("done", {"n": 5}, 2)
    after.close()


def test_only_one_process_runs_a_kind(tmp_path):
    first, second = Jobs(tmp_path), Jobs(tmp_path)
    gate, ran = threading.Event(), []
    first.register("import", lambda job, report, cancelled: ran.append("first") or {"open": gate.wait(10)})
    slow = first.submit("import", {})
    reaches(first, slow.id, {"running"})
    second.register("import", lambda job, report, cancelled: ran.append("second") or {})
    other = second.submit("import", {})
    time.sleep(0.6)
    assert second.get(slow.id).state == "running"  # not taken for dead
    assert second.get(other.id).state == "queued"
    gate.set()
    ended(first, other.id)
    assert ran == ["first", "first"]
    first.close()
    third = second.submit("import", {})
    assert ended(second, third.id).state == "done"  # the other takes over
    assert ran[-1] == "second"
    second.close()


KILLED = """
import sys, time
from pathlib import Path
from api.jobs import Jobs
jobs = Jobs(Path(sys.argv[1]))
def run(job, report, cancelled):
    report({"read": 1})
    print(job.id, flush=True)
    time.sleep(60)
jobs.register("import", run)
jobs.submit("import", {"n": 1})
time.sleep(60)
"""


def test_a_job_whose_process_was_killed_is_run_again(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    id = process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    jobs = Jobs(tmp_path)
    assert jobs.get(id).state == "running"
    jobs.register("import", lambda job, report, cancelled: {"again": job.attempts})
    assert ended(jobs, id).result == {"again": 2}
    jobs.close()


def test_a_job_that_kills_its_process_again_and_again_is_given_up(tmp_path):
    store = JobStore(tmp_path)
    job = store.add(Job("", "import", "queued", {}), most=9)
    for attempt in range(1, ATTEMPTS + 1):
        taken = store.take("import")
        assert taken is not None
        assert taken.attempts == attempt
        store.recover("import", attempts=ATTEMPTS)
    assert store.get(job.id).state == "failed"
    assert "3 times" in store.get(job.id).message
    assert store.take("import") is None


def test_a_job_to_be_cancelled_when_its_process_died_is_cancelled(tmp_path):
    store = JobStore(tmp_path)
    job = store.add(Job("", "import", "queued", {}), most=9)
    store.take("import")
    store.ask_to_cancel(job.id)
    store.recover("import", attempts=ATTEMPTS)
    assert store.get(job.id).state == "cancelled"


def test_old_jobs_are_forgotten_and_those_that_wait_are_not(tmp_path):
    now = [1000.0]
    store = JobStore(tmp_path, clock=lambda: now[0])
    old = store.add(Job("", "import", "queued", {}), most=9)
    waiting = store.add(Job("", "import", "queued", {}), most=9)
    store.ask_to_cancel(old.id)
    now[0] += KEPT_S + 1
    assert store.forget() == [old.id]
    assert [job.id for job in store.newest()] == [waiting.id]
    store.close()


def harmed(path, harm):
    data = bytearray(path.read_bytes())
    if harm == "rubbish":
        data = bytearray(b"no database" * 1000)
    elif harm == "truncated":
        data = data[: len(data) // 2]
    else:  # the first page keeps its name and loses its tree
        data[100:4000] = bytes(3900)
    path.write_bytes(data)


@pytest.mark.parametrize("harm", ["rubbish", "truncated", "torn page"])
def test_a_damaged_file_is_kept_aside_and_jobs_start_anew(tmp_path, harm, caplog):
    store = JobStore(tmp_path)
    lost = store.add(Job("", "import", "queued", {"a": 1}), most=5)
    store.close()
    harmed(tmp_path / FILE, harm)
    damaged = (tmp_path / FILE).read_bytes()
    registry = Jobs(tmp_path)
    registry.register("import", lambda job, report, cancelled: {"got": job.request["b"]})
    assert ended(registry, registry.submit("import", {"b": 2}).id).result == {"got": 2}
    with pytest.raises(NotFound):
        registry.get(lost.id)
    registry.close()
    (kept,) = tmp_path.glob("_jobs.damaged-*.sqlite")
    assert kept.read_bytes()[100:] == damaged[100:]  # SQLite may have touched its header
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "is damaged" in line
    assert str(kept) in line


def test_damage_under_way_is_one_error_and_the_other_process_follows(tmp_path):
    one, other = JobStore(tmp_path), JobStore(tmp_path)
    for _ in range(50):  # 5 MB, more than a connection keeps
        one.add(Job("", "import", "queued", {"a": "x" * 100_000}), most=50)
    other.counts()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    harmed(tmp_path / FILE, "truncated")
    with pytest.raises(StorageError):
        one.newest()
    job = one.add(Job("", "import", "queued", {}), most=5)
    assert other.get(job.id) == job
    assert [found.id for found in other.newest()] == [job.id]
    assert len(list(tmp_path.glob("_jobs.damaged-*.sqlite"))) == 1
    one.close()
    other.close()


def test_several_processes_put_a_damaged_file_aside_once(tmp_path):
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    stores = [JobStore(tmp_path) for _ in range(6)]
    threads = [threading.Thread(target=lambda store=store: store.add(Job("", "import", "queued", {}), most=9)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(store.newest()) == 6 for store in stores)
    assert len(list(tmp_path.glob("_jobs.damaged-*.sqlite"))) == 1
    for store in stores:
        store.close()


class FullDisk(JobStore):
    """A store whose disk is full for a while: it can be neither read nor written then."""

    full = False

    def _rows(self, where, values):
        self._check()
        return super()._rows(where, values)

    def _change(self, what, where, values):
        self._check()
        return super()._change(what, where, values)

    def _check(self):
        if self.full:
            raise StorageError("no space left")


def test_the_end_of_a_job_is_written_when_the_disk_has_room_again(tmp_path, monkeypatch):
    monkeypatch.setattr("api.jobs.AGAIN_S", 0.02)
    store, filled = FullDisk(tmp_path), threading.Event()
    jobs = Jobs(tmp_path, store=store)

    def run(job, report, cancelled):
        store.full = True
        assert not cancelled()
        report({"read": 7})
        filled.set()
        return {"read": 7}

    jobs.register("import", run)
    job = jobs.submit("import", {})
    assert filled.wait(10)
    time.sleep(0.2)
    store.full = False
    assert ended(jobs, job.id).state == "done"
    assert ended(jobs, job.id).result == {"read": 7}
    store.full = True
    jobs.close()


def test_a_job_is_cancelled_though_its_disk_refused_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr("api.jobs.AGAIN_S", 0.02)
    monkeypatch.setattr("api.jobs.ASK_EVERY_S", 0.0)
    store, running = FullDisk(tmp_path), threading.Event()
    jobs = Jobs(tmp_path, store=store)

    def run(job, report, cancelled):
        store.full = True
        for _ in range(3):
            assert not cancelled()
        store.full = False
        running.set()
        return until_cancelled(job, report, cancelled)

    jobs.register("import", run)
    job = jobs.submit("import", {})
    assert running.wait(10)
    jobs.cancel(job.id)
    assert ended(jobs, job.id).state == "cancelled"
    jobs.close()
