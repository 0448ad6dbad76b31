"""Equal work wanted at the same time is done once.

Here belongs the coalescing of calls that are running now. Remembering what they returned is `engine.cache`.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Lets concurrent callers that want the same thing compute it once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[bytes, Future[T]] = {}

    def run_many(self, keys: Sequence[bytes], compute: Callable[[list[bytes]], Sequence[T]]) -> list[T]:
        """Return one value per key; `compute` gets the distinct keys nobody else is computing, answers in their order.

        A caller computes its own keys before it waits for others', so two callers never wait for each other. When the
        caller it waited for fails, it computes for itself; what its own `compute` raises is raised.
        """
        mine, flights = self._claim(keys)
        try:
            if mine:
                for key, value in zip(mine, compute(mine), strict=True):
                    flights[key].set_result(value)
        finally:
            self._land(mine)
        failed = [key for key, flight in flights.items() if not _landed(flight)]
        again = dict(zip(failed, compute(failed), strict=True)) if failed else {}
        return [again[key] if key in again else flights[key].result() for key in keys]

    def _claim(self, keys: Sequence[bytes]) -> tuple[list[bytes], dict[bytes, Future[T]]]:
        with self._lock:
            distinct = list(dict.fromkeys(keys))
            mine = [key for key in distinct if key not in self._flights]
            self._flights.update((key, Future()) for key in mine)
            return mine, {key: self._flights[key] for key in distinct}

    def _land(self, keys: Sequence[bytes]) -> None:
        with self._lock:
            for key in keys:
                self._flights.pop(key).cancel()  # no effect on one that has its result


def _landed(flight: Future[Any]) -> bool:
    try:
        flight.result()
    except CancelledError:
        return False
    return True
