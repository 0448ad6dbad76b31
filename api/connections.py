"""How long and how many connections may wait: a client that sends its headers a byte at a time, or opens thousands, gets closed.

uvicorn itself waits for ever for the first request of a connection. Slow bodies are in `api.limits`.
"""

import asyncio
import logging
import resource

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

HEADERS_S = 10.0
SPARE_FILES = 256
"""Open files left for collections, caches and the log when every connection is taken."""


def most_connections() -> int:
    """Say how many connections leave enough open files for the rest of the process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 10_000 if soft == resource.RLIM_INFINITY else max(64, min(10_000, soft - SPARE_FILES))


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 whose connections are bounded in number, and each in the time it may take to say what it wants."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it at once when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            logger.warning("there are %d connections: another one is turned away", len(self.connections))
            transport.abort()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock stops when the headers are complete and starts again with the next request."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_head()
        elif self._late is not None:
            self._late.cancel()
            self._late = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock."""
        if self._late is not None:
            self._late.cancel()
            self._late = None
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEADERS_S, self._give_up)

    def _give_up(self) -> None:
        self._late = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
