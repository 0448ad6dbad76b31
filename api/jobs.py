"""Work that outlives its request: a registry of jobs, and one runner thread per kind.

A kind registers what runs its jobs; routes submit, show and cancel them. Of all processes on a data folder one runs a kind's jobs,
one after another: the one that holds the kind's lock file. The lock goes with its process, however that ends; the next holder
then knows that what is still marked running was cut off, and starts it again. So what runs a job must be safe to repeat.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from api.errors import status_of
from api.jobstore import Job, JobStore, Reach, State
from engine.errors import SemblanceError, StorageError

logger = logging.getLogger(__name__)

FOLDER = "_jobs"
ATTEMPTS = 3
IDLE_S = 0.25
AGAIN_S = 1.0
ASK_EVERY_S = 0.2
FAILED_INSIDE = "The job failed inside the server; its log has the reason under the job's id."


class Report(Protocol):
    """Tells how far a job is; may be called often, what comes too fast is left out."""

    def __call__(self, progress: Mapping[str, Any], *, message: str = "", preview: str | None = None) -> None:
        """Say it: numbers of the kind, a sentence, and a picture of the work as a data URI."""


Run: TypeAlias = Callable[[Job, Report, Callable[[], bool]], Mapping[str, Any]]
"""What runs one job: `run(job, report, cancelled)` returns the result as JSON. It looks at `cancelled()` now and then and raises
anything, best `JobEnded`, when that turns true; also a server that stops says so, and the job is then queued again."""


class JobEnded(SemblanceError):
    """A job ended before its end; `result` is what it has."""

    def __init__(self, message: str, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result


class Jobs:
    """The jobs of a data folder. Close it: what runs is told to end and is queued again, for the next process."""

    def __init__(self, data: Path, *, max_waiting: int = 64, store: JobStore | None = None) -> None:
        self._data = data
        self._store = store or JobStore(data)
        self._max_waiting = max_waiting
        self._most: dict[str, int] = {}
        self._runners: dict[str, _Runner] = {}

    def register(self, kind: str, run: Run, *, max_waiting: int | None = None) -> None:
        """Let jobs of a kind be run by `run`, from now on and by one thread; those that wait begin at once.

        `max_waiting` bounds how many of this kind may wait. Whatever ran the kind before has ended first.
        """
        if earlier := self._runners.get(kind):
            earlier.stop()
            earlier.join()
        if max_waiting is not None:
            self._most[kind] = max_waiting
        self._runners[kind] = _Runner(kind, run, self._store, self._data / FOLDER)
        self._runners[kind].start()

    def submit(
        self, kind: str, request: Mapping[str, Any], *, id: str = "", collection: str | None = None, key: str | None = None
    ) -> Job:
        """Queue a job; raises `Overloaded` when too many wait. `key` is the id of the API key that asks."""
        most = self._most.get(kind, self._max_waiting)
        job = self._store.add(Job(id, kind, "queued", request, collection, key), most=most)
        if runner := self._runners.get(kind):
            runner.wake()
        return job

    def get(self, id: str) -> Job:
        """Return one job; raises `NotFound`."""
        return self._store.get(id)

    def newest(
        self, *, kind: str | None = None, collection: str | None = None, limit: int = 50, reach: Reach | None = None
    ) -> list[Job]:
        """List the newest jobs first, of those within `reach`."""
        return self._store.newest(kind=kind, collection=collection, limit=limit, reach=reach)

    def cancel(self, id: str) -> Job:
        """Ask a job to end; raises `NotFound`. One that waits never begins, one that runs ends soon."""
        return self._store.ask_to_cancel(id)

    def counts(self) -> dict[tuple[str, str], int]:
        """Count the jobs by kind and state."""
        return self._store.counts()

    def forget(self) -> list[str]:
        """Remove jobs that ended long ago; returns their ids."""
        return self._store.forget()

    def close(self, grace_s: float = 10.0) -> None:
        """Stop the runners, waiting for each at most `grace_s` seconds."""
        for runner in self._runners.values():
            runner.stop()
        ends = time.monotonic() + grace_s
        for runner in self._runners.values():
            runner.join(max(0.0, ends - time.monotonic()))
        self._store.close()


class _Runner(threading.Thread):
    """Runs the jobs of one kind, as long as this process holds the kind's lock."""

    def __init__(self, kind: str, run: Run, store: JobStore, folder: Path) -> None:
        super().__init__(name=f"semblance-jobs-{kind}", daemon=True)
        self._kind, self._run_job, self._store, self._folder = kind, run, store, folder
        self._stopping = threading.Event()
        self._awake = threading.Event()

    def wake(self) -> None:
        """Look for work now."""
        self._awake.set()

    def stop(self) -> None:
        """Tell the job under way to end, and begin no other."""
        self._stopping.set()
        self._awake.set()

    def run(self) -> None:
        with ExitStack() as held:
            leading = False
            while not self._stopping.is_set():
                try:
                    leading = leading or self._lead(held)
                    job = self._store.take(self._kind) if leading else None
                    if job is not None:
                        self._one(job)
                        continue
                except (StorageError, OSError) as error:
                    logger.error("jobs of the kind %s cannot be run: %s", self._kind, error)
                self._awake.wait(IDLE_S)
                self._awake.clear()

    def _lead(self, held: ExitStack) -> bool:
        """Take the kind's lock, and with it charge of what a dead process left running."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder / f".{self._kind}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        held.callback(os.close, lock)
        self._store.recover(self._kind, attempts=ATTEMPTS)
        return True

    def _one(self, job: Job) -> None:
        course = _Course(job, self._store, self._stopping)
        state: State = "done"
        message, result = "", None
        try:
            result = self._run_job(job, course.report, course.cancelled)
        except Exception as error:
            state, message = course.outcome(), _told(error)
            result = getattr(error, "result", None)
            if state == "failed":
                trace = error if message == FAILED_INSIDE else None
                logger.warning("job %s (%s) failed: %s: %s", job.id, job.kind, type(error).__name__, error, exc_info=trace)
        self._settle(course, job, state, message, result)

    def _settle(self, course: "_Course", job: Job, state: State, message: str, result: Mapping[str, Any] | None) -> None:
        """Write how a job ended, as soon as the disk lets us: a job whose end is not written would run for ever."""
        refused = False
        while True:
            try:
                course.tell_the_last()
                self._store.settle(job.id, state, message, result)
                return
            except StorageError as error:
                if self._stopping.is_set():
                    raise  # the next process finds the job running, and starts it again
                if not refused:
                    logger.error("job %s (%s) is %s, which cannot be written yet: %s", job.id, job.kind, state, error)
                refused = True
                self._stopping.wait(AGAIN_S)


class _Course:
    """One job under way: passes on what it reports and whether it should end."""

    def __init__(self, job: Job, store: JobStore, stopping: threading.Event) -> None:
        self._job, self._store, self._stopping = job, store, stopping
        self._asked = self._told = float("-inf")
        self._cancel = False
        self._held: tuple[Mapping[str, Any], str] | None = None

    def report(self, progress: Mapping[str, Any], *, message: str = "", preview: str | None = None) -> None:
        now = time.monotonic()
        self._held = (progress, message)
        if preview is None and now - self._told < ASK_EVERY_S:
            return
        self._told, self._held = now, None
        with suppress(StorageError):  # a disk that is full for a moment need not end the work; what comes next is told again
            self._store.note(self._job.id, progress, message, preview)

    def tell_the_last(self) -> None:
        """Write the last report if it came too fast after the one before."""
        if self._held is not None:
            self._store.note(self._job.id, *self._held, None)

    def cancelled(self) -> bool:
        now = time.monotonic()
        if not self._cancel and now - self._asked >= ASK_EVERY_S:
            self._asked = now
            with suppress(StorageError):
                self._cancel = self._store.get(self._job.id).cancel
        return self._cancel or self._stopping.is_set()

    def outcome(self) -> State:
        """Say what became of a job that raised."""
        self._asked = float("-inf")
        if not self.cancelled():
            return "failed"
        return "cancelled" if self._cancel else "queued"


def _told(error: Exception) -> str:
    """Say why a job failed in words that may be shown: what concerns the operator stays in the log."""
    if isinstance(error, JobEnded) or (isinstance(error, SemblanceError) and status_of(error) < 500):
        return str(error)
    return FAILED_INSIDE
