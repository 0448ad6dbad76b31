"""Stage timers: where the time of one call went. Counters of a running service do not belong here."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimer:
    """Adds up milliseconds per named stage of one call; not shared between threads."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the enclosed block under `name`; several blocks of one name add up."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._stages[name] = self._stages.get(name, 0.0) + (time.perf_counter() - started) * 1000

    @property
    def seconds(self) -> float:
        """Seconds since the timer was made."""
        return time.perf_counter() - self._started

    def as_dict(self) -> dict[str, float]:
        """Milliseconds per stage, and `total` since the timer was made."""
        total = (time.perf_counter() - self._started) * 1000
        return {name: round(ms, 3) for name, ms in [*self._stages.items(), ("total", total)]}
