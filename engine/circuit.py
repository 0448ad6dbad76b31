"""Calling something that may hang or be gone: threads that can be abandoned, and a circuit that stops asking for a while.

Here belongs what knows nothing of the thing called. Who is called, and what a failure means, does not.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Circuit:
    """Opens at the first failure; after a pause lets one caller try; doubles the pause while that fails too."""

    def __init__(self, first_pause_s: float, last_pause_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._first, self._last, self._clock = first_pause_s, last_pause_s, clock
        self._lock = threading.Lock()
        self._pause = 0.0
        self._opened = float("-inf")
        self._retry = float("-inf")

    @property
    def closed(self) -> bool:
        """Whether calls go through."""
        return self._pause == 0.0

    def enter(self) -> float | None:
        """Ask to call: the time to give back to `fail`, or None while the circuit is open."""
        with self._lock:
            now = self._clock()
            if now < self._retry:
                return None
            self._retry = now + self._pause  # the others keep waiting while this one tries
            return now

    def succeed(self) -> bool:
        """Close the circuit; True when it was open."""
        with self._lock:
            was_open = self._pause > 0.0
            self._pause, self._retry = 0.0, float("-inf")
            return was_open

    def fail(self, entered: float) -> float | None:
        """Open the circuit and return its pause; None when a call that entered earlier has already opened it."""
        with self._lock:
            if entered < self._opened:
                return None
            self._opened = self._clock()
            self._pause = min(max(self._first, 2 * self._pause), self._last)
            self._retry = self._opened + self._pause
            return self._pause


class Lanes:
    """A few daemon threads that run calls in order; a caller that stops waiting does not stop the process from ending.

    `concurrent.futures` joins its threads at exit and would wait for a call that never returns.
    """

    def __init__(self, name: str, count: int) -> None:
        self._name, self._count = name, count
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call; a future cancelled before its turn is skipped, and so is every call after `close`."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                future.cancel()
                return future
            if not self._threads:
                self._threads = [threading.Thread(target=self._run, name=self._name, daemon=True) for _ in range(self._count)]
                for thread in self._threads:
                    thread.start()
            self._calls.put((future, call))
        return future

    def close(self) -> None:
        """Let the threads end after the calls already queued; does not wait for them."""
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._calls.put(None)

    def _run(self) -> None:
        while (queued := self._calls.get()) is not None:
            future, call = queued
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # whoever waits gets it
                future.set_exception(error)
            del future, call, queued
