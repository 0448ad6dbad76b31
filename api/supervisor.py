"""Several processes on one socket: started, watched, replaced one after another, ended together.

The parent holds the listening socket and nothing else; each worker opens an engine of its own over the same data folder, whose
segments the system maps into memory once. SIGHUP replaces every worker by a new one, each old one ending when its successor
accepts requests and its own are answered: no connection is refused meanwhile. A worker that dies is replaced; workers whose
parent has died end by themselves. What one worker does is in `api.server`.
"""

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from engine.config import Settings, share_metrics
from engine.errors import Unavailable

logger = logging.getLogger(__name__)

LOOK_S = 0.2
START_S = 120.0
SPARE_S = 10.0
MOST_FAILURES = 3

Work = Callable[[Settings, socket.socket, Callable[[], None]], None]


@dataclass(eq=False, slots=True)
class _Worker:
    process: BaseProcess
    line: Connection
    ready: bool = False

    def look(self) -> None:
        """Take note of its word that it accepts requests."""
        if not self.ready and self.line.poll():
            try:
                self.ready = bool(self.line.recv())
            except EOFError:
                self.ready = False


class Supervisor:
    """Keeps `settings.workers` processes running `work` until SIGINT or SIGTERM. `work` must be importable by name."""

    def __init__(self, settings: Settings, listener: socket.socket, work: Work) -> None:
        self._settings = share_of(settings)
        self._listener = listener
        self._work = work
        self._workers: list[_Worker] = []
        self._ending = self._renewing = False
        self._failures = 0
        self._folder: Path | None = None

    def run(self, ready: Callable[[], None]) -> None:
        """Run until told to end; `ready` is called once when all workers accept requests.

        Raises `Unavailable` when workers die before they are ready, again and again: their log says why.
        """
        with _counting() as self._folder, self._signals():
            try:
                self._workers = [self._start() for _ in range(self._settings.workers)]
                for worker in self._workers:
                    self._await(worker)
                if not self._ending:
                    ready()
                while not self._ending:
                    self._look_after()
            finally:
                self._end(self._workers)

    def _look_after(self) -> None:
        wait([worker.process.sentinel for worker in self._workers], LOOK_S)
        for worker in self._workers:
            worker.look()
        dead = [worker for worker in self._workers if not worker.process.is_alive()]
        if dead:
            time.sleep(LOOK_S)  # a signal to the whole group reaches the workers first
        for worker in dead if not self._ending else ():
            self._replace(worker)
            self._forget(worker)
        if self._renewing and not self._ending:
            self._renewing = False
            self._renew()

    def _replace(self, worker: _Worker) -> None:
        self._failures = 0 if worker.ready else self._failures + 1
        logger.error("worker %s ended unexpectedly (exit code %s): it is replaced", worker.process.pid, worker.process.exitcode)
        if self._failures >= MOST_FAILURES:
            raise Unavailable(f"{self._failures} workers ended before they could serve: the log says why")
        self._workers[self._workers.index(worker)] = self._start()

    def _renew(self) -> None:
        """Replace the workers one after another, each when its successor accepts requests."""
        logger.info("replacing %d workers", len(self._workers))
        for number, old in enumerate(self._workers):
            new = self._start()
            if not self._await(new):
                logger.error("the new worker does not serve: the old ones stay")
                self._end([new])
                return
            self._workers[number] = new
            self._end([old])

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_worker, args=(self._work, self._settings, self._listener, theirs), name="semblance-worker"
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _await(self, worker: _Worker) -> bool:
        """Wait until a worker accepts requests; False when it ended or it takes too long."""
        ends = time.monotonic() + START_S
        while not worker.ready and worker.process.is_alive() and time.monotonic() < ends and not self._ending:
            wait([worker.line, worker.process.sentinel], LOOK_S)
            worker.look()
        return worker.ready

    def _end(self, workers: list[_Worker]) -> None:
        """Let workers answer what is under way and end; kill those that do not."""
        for worker in workers:
            if worker.process.is_alive():
                worker.process.terminate()
        ends = time.monotonic() + self._settings.deadline_s + SPARE_S
        for worker in workers:
            worker.process.join(max(0.0, ends - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        """Leave what a worker that has ended was holding out of the sums of `/metrics`."""
        worker.line.close()
        if self._folder is not None:
            mark_process_dead(worker.process.pid, path=str(self._folder))  # type: ignore[no-untyped-call]

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def end(number: int, frame: FrameType | None) -> None:
            self._ending = True

        def renew(number: int, frame: FrameType | None) -> None:
            self._renewing = True

        handlers = {signal.SIGINT: end, signal.SIGTERM: end, signal.SIGHUP: renew}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def share_of(settings: Settings) -> Settings:
    """Divide the cores among the workers where no number of threads is set."""
    if settings.threads:
        return settings
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return settings.model_copy(update={"threads": max(1, cores // settings.workers)})


@contextmanager
def _counting() -> Iterator[Path]:
    """Lend a folder that the workers count into together."""
    folder = Path(tempfile.mkdtemp(prefix="semblance-metrics-"))
    share_metrics(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _worker(work: Work, settings: Settings, listener: socket.socket, line: Connection) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(line,), daemon=True).start()
    work(settings, listener, lambda: line.send(True))


def _end_with_parent(line: Connection) -> None:
    """End in an orderly way when the other end of the line is gone."""
    try:
        line.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
