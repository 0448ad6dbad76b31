"""The process that serves: a socket, uvicorn, and an orderly end. It prints nothing."""

import asyncio
import logging
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType

import uvicorn

from api import logs
from api.app import create_app
from api.auth import keys_required
from api.connections import BoundedProtocol
from api.keys import KeyRing
from api.limits import is_loopback
from api.supervisor import Supervisor
from engine import open_engine
from engine.config import Settings
from engine.errors import ConfigurationError
from engine.search import SearchEngine

LAST_WORD_S = 0.25
TAKING_S = 2.0
KEPT_S = 75
"""How long a connection may rest between two requests: longer than clients and proxies keep one (httpx 5 s, balancers 60 s), so
that they close it and never send a request to a server that is closing it at that moment."""

logger = logging.getLogger(__name__)


def serve(settings: Settings, engine: SearchEngine | None = None, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then answer what is under way and return.

    `ready` is called with the address once requests are accepted (port 0 takes a free port). An engine that is given stays open.
    With `settings.workers` above 1 that many processes serve (`api.supervisor`), unless an engine is given. Raises
    `ConfigurationError` when the address cannot be bound or nothing can be kept in the data folder, and whatever opening the
    engine raises.
    """
    _check_folder(settings.data)
    if settings.workers > 1 and engine is None:
        _serve_by_workers(settings, ready)
        return
    with _bound(settings) as listener, _quiet_end():
        opened = engine or open_engine(settings)
        try:
            address = _address(settings.host, listener)
            _remark_on_access(settings, address)
            _Server(_config(settings, opened), lambda: ready(address) if ready else None).run(sockets=[listener])
        finally:
            if engine is None:
                opened.close()


def _check_folder(folder: Path) -> None:
    """Find out before the start, and not in the middle of it, that jobs and answers cannot be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"nothing can be kept in {folder} ({error.strerror or error}): choose another folder with --data, or check its "
            "permissions and its disk"
        ) from None


def _serve_by_workers(settings: Settings, ready: Callable[[str], None] | None) -> None:
    with _bound(settings) as listener:
        address = _address(settings.host, listener)
        _remark_on_access(settings, address)
        Supervisor(settings, listener, serve_on).run(lambda: ready(address) if ready else None)


def serve_on(settings: Settings, listener: socket.socket, started: Callable[[], None]) -> None:
    """Serve on a socket that is bound already, as one of several processes, until SIGTERM; `started` is called once it does."""
    logs.configure(settings.log_level, settings.log_format)
    with _quiet_end(), open_engine(settings) as engine:
        _Server(_config(settings, engine), started).run(sockets=[listener])


def _remark_on_access(settings: Settings, address: str) -> None:
    """Warn of a server that everybody may write to, and of one that nobody can use yet."""
    if not keys_required(settings):
        if not is_loopback(settings.host):
            logger.warning("%s is reachable from other machines and asks for no keys: whoever reaches it can write", address)
    elif not KeyRing(settings.data).all():
        logger.warning("%s asks for keys and there are none: make one with `semblance keys create NAME --data DIR`", address)


class _Server(uvicorn.Server):
    """A server that says when it accepts requests."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, give those just taken time to say what they want, and wait until all is answered.

        Connections that the system holds ready are taken first: it cuts them off with the socket, whatever they have sent already.
        Answers that go on for as long as a client listens are asked to end.
        """
        await _take_the_waiting(self.servers)
        for server in self.servers:
            server.close()
        services = getattr(getattr(self.config.app, "state", None), "services", None)
        if services is not None:
            services.followers.leave()
        await asyncio.sleep(LAST_WORD_S)
        await super().shutdown(sockets)


async def _take_the_waiting(servers: Sequence[asyncio.Server]) -> None:
    """Wait until every connection that the system holds ready has been taken, or it has become too long."""
    held = select.poll()
    for server in servers:
        for listener in server.sockets:
            held.register(listener.fileno(), select.POLLIN)
    ends = time.monotonic() + TAKING_S
    while held.poll(0) and time.monotonic() < ends:
        await asyncio.sleep(0.005)


def _config(settings: Settings, engine: SearchEngine) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(settings, engine),
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEPT_S,
        timeout_graceful_shutdown=int(settings.deadline_s) + 1,
    )


@contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"cannot serve on {settings.host}:{settings.port} ({error.strerror or error}): choose another with --host and --port"
        ) from None
    with listener:
        yield listener


@contextmanager
def _quiet_end() -> Iterator[None]:
    """Turn the signals that uvicorn passes on after its own shutdown into a plain return."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        logger.info("stopped")
    finally:
        signal.signal(signal.SIGTERM, previous)


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"
