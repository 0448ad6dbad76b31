"""How long and how many connections may wait: a client that sends its headers a byte at a time, or opens thousands, gets closed.

So is one that asks and does not read the answer, which would be held for it for ever.
uvicorn itself waits for ever for the first request of a connection, and its parser for headers of any size. Slow bodies are in
`api.limits`.
"""

import asyncio
import logging
import resource

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

logger = logging.getLogger(__name__)

HEADERS_S = 10.0
HEADERS_BYTES = 65_536
UNREAD_S = 60.0
"""How long a client may take nothing of an answer."""
SPARE_FILES = 256
"""Open files left for collections, caches and the log when every connection is taken."""


def most_connections() -> int:
    """Say how many connections leave enough open files for the rest of the process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 10_000 if soft == resource.RLIM_INFINITY else max(64, min(10_000, soft - SPARE_FILES))


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose connections are bounded in number, and each in the time and the bytes it may take to say what it wants."""

    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _in_head = False
    _idle_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it at once when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            logger.warning("there are %d connections: another one is turned away", len(self.connections))
            transport.abort()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock stops when the headers are complete and starts again with the next request.

        What is neither the end of headers nor part of a body, such as headers or trailers without end, is counted.
        """
        self._idle_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        if self._waits_for_head():
            self._await_head()
        elif self._late is not None:
            self._late.cancel()
            self._late = None
        if self._idle_bytes > HEADERS_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The headers are larger than {HEADERS_BYTES} bytes.")

    def _feed(self, data: bytes) -> None:
        """Parse bytes. At the offer of another protocol the parser stops: the request goes on without the offer."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError("there is no proxy here") from None
            lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
            lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self._feed(b"\r\n".join(lines) + b"\r\n\r\n" + data[stopped.args[0] :])

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that its headers have come to an end."""
        if not self.parser.should_upgrade():
            self._in_head, self._idle_bytes = False, 0
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that its body has come to an end."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of its body."""
        self._idle_bytes = 0
        super().on_body(body)

    def pause_writing(self) -> None:
        """Note that the client does not read as fast as it is answered."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """Note that it has caught up."""
        self._forget_reader()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clocks."""
        self._forget_reader()
        if self._late is not None:
            self._late.cancel()
            self._late = None
        super().connection_lost(exc)

    def _waits_for_head(self) -> bool:
        return self._in_head or self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEADERS_S, self._give_up)

    def _give_up(self) -> None:
        self._late = None
        if self._waits_for_head() and not self.transport.is_closing():
            self.transport.close()

    def _await_reader(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(UNREAD_S, self._give_up_reader, left)

    def _give_up_reader(self, left: int) -> None:
        if self.transport.get_write_buffer_size() < left:
            self._await_reader()
        else:
            self.transport.abort()

    def _forget_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
