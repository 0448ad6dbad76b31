"""The whole way with nothing faked: the example shop, the default bundle, the real command line and the real server."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "examples/shop"


def semblance(*arguments: str | Path, data: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "cli", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "SEMBLANCE_DATA": str(data), **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        stdin=subprocess.DEVNULL,
    )


def search(data: Path, *arguments: str | Path) -> dict:
    done = semblance("search", "--collection", "shop", "--json", *arguments, data=data)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    done = semblance("index", SHOP / "products.csv", "--collection", "shop", "--json", data=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["created"], report["refused"]) == (54, 0)
    return folder


class Server:
    """A server in a process of its own, on a free port."""

    def __init__(self, data: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli", "serve", "--port", "0", "--data", str(data)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert self._process.stderr is not None
        line = next(line for line in self._process.stderr if "http://" in line)
        self.client = httpx.Client(base_url=line.split()[3], timeout=30)

    def stop(self) -> tuple[int, str]:
        self.client.close()
        self._process.send_signal(signal.SIGINT)
        _, rest = self._process.communicate(timeout=20)
        return self._process.returncode, rest


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[httpx.Client]:
    running = Server(data)
    yield running.client
    code, rest = running.stop()
    assert code == 0, rest
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("words", "category"),
    [
        ("running shoes", "Footwear"),
        ("a green plant in a pot", "Plants"),
        ("camera", "Photo"),
        ("a chair to sit on", "Furniture"),
        ("照相机", "Photo"),
        ("植物", "Plants"),
        ("跑步鞋", "Footwear"),
        ("椅子", "Furniture"),
    ],
)
def test_words_find_the_right_kind_of_product(data, words, category):
    hits = search(data, words, "-k", "3")["hits"]
    assert [hit["attributes"]["category"] for hit in hits].count(category) >= 2, [hit["id"] for hit in hits]


def test_a_picture_finds_itself_and_its_kind(data):
    hits = search(data, "--image", SHOP / "images/orchid.jpg", "-k", "3")["hits"]
    assert hits[0]["id"] == "orchid"
    assert hits[0]["score"] > 0.99
    assert [hit["attributes"]["category"] for hit in hits].count("Plants") >= 2


def test_words_and_a_picture_together(data):
    alone = search(data, "--image", SHOP / "images/orchid.jpg", "-k", "1")
    both = search(data, "a leather sofa", "--image", SHOP / "images/orchid.jpg", "-k", "10")
    assert alone["hits"][0]["id"] == "orchid"
    assert {"orchid", "leather-sofa"} <= {hit["id"] for hit in both["hits"]}


def test_a_filter_is_exact(data):
    answer = search(data, "shoes", "--where", "price < 120 and category = 'Footwear'", "-k", "50")
    assert answer["admitted"] == len(answer["hits"]) > 0
    for hit in answer["hits"]:
        assert hit["attributes"]["price"] < 120
        assert hit["attributes"]["category"] == "Footwear"


def test_http_answers_what_the_command_line_answers(data, server):
    asked = {"query": "running shoes", "k": 5, "where": "price < 200"}
    over_http = server.post("/v1/collections/shop/search/text", json=asked).raise_for_status().json()
    on_the_line = search(data, "running shoes", "-k", "5", "--where", "price < 200")
    assert [hit["id"] for hit in over_http["hits"]] == [hit["id"] for hit in on_the_line["hits"]]
    assert [hit["score"] for hit in over_http["hits"]] == pytest.approx([hit["score"] for hit in on_the_line["hits"]], abs=1e-5)


def test_http_by_picture(server):
    with (SHOP / "images/tent.jpg").open("rb") as file:
        answer = server.post("/v1/collections/shop/search/image", files={"image": file}).raise_for_status().json()
    assert answer["hits"][0]["id"] == "tent"
    picture = server.get(answer["hits"][0]["image"]).raise_for_status()
    assert picture.headers["content-type"].startswith("image/")


CURLS = [
    shlex.split(line)
    for page in ("README.md", "docs/quickstart.md")
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines()
    if line.startswith("curl ")
]


@pytest.mark.parametrize("curl", CURLS, ids=lambda words: next(word for word in words if word.startswith("localhost")))
def test_the_documented_requests_work(server, curl, tmp_path):
    path = next(word for word in curl if word.startswith("localhost")).removeprefix("localhost:8000")
    if "-d" in curl:
        answer = server.post(path, json=json.loads(curl[curl.index("-d") + 1]))
    else:
        field, _, _ = curl[curl.index("-F") + 1].partition("=@")
        answer = server.post(path, files={field: (SHOP / "images/tent.jpg").read_bytes()})
    assert answer.raise_for_status().json()["hits"]


def test_there_are_documented_requests():
    assert len(CURLS) == 4


def test_the_page_is_served(server):
    page = server.get("/").raise_for_status()
    assert "<html" in page.text


def test_a_server_sees_what_the_command_line_writes_and_keeps_it_over_a_restart(tmp_path):
    (tmp_path / "one.csv").write_text(f"id,title,image\nlamp,A lamp,{SHOP / 'images/light-shade.jpg'}\n", encoding="utf-8")
    data = tmp_path / "data"
    running = Server(data)
    try:
        assert semblance("index", tmp_path / "one.csv", "-c", "live", data=data).returncode == 0
        asked = {"query": "lamp"}
        hits = running.client.post("/v1/collections/live/search/text", json=asked).raise_for_status().json()["hits"]
        assert [hit["id"] for hit in hits] == ["lamp"]
    finally:
        assert running.stop()[0] == 0
    running = Server(data)
    try:
        assert running.client.get("/v1/collections/live/documents/lamp").raise_for_status().json()["title"] == "A lamp"
    finally:
        running.stop()


def test_embed_keeps_the_order_of_its_input(data, tmp_path):
    names = ["tent.jpg", "orchid.jpg", "laptop.jpg", "tent.jpg"]
    (tmp_path / "list.txt").write_text("\n".join(str(SHOP / "images" / name) for name in names), encoding="utf-8")
    assert semblance("embed", "--images", tmp_path / "list.txt", "-o", tmp_path / "images.npy", data=data).returncode == 0
    (tmp_path / "texts.txt").write_text("a tent\nan orchid\na laptop\n", encoding="utf-8")
    assert semblance("embed", "--texts", tmp_path / "texts.txt", "-o", tmp_path / "texts.npy", data=data).returncode == 0
    images, texts = np.load(tmp_path / "images.npy"), np.load(tmp_path / "texts.npy")
    assert images.shape == (4, 256)
    assert images.dtype == np.float32
    assert np.allclose(np.linalg.norm(images, axis=1), 1, atol=1e-4)
    assert np.array_equal(images[0], images[3])
    assert (texts @ images[:3].T).argmax(axis=1).tolist() == [0, 1, 2]


def test_a_folder_is_embedded_in_the_order_of_names(data, tmp_path):
    assert semblance("embed", "--images", SHOP / "images", "-o", tmp_path / "all.npy", data=data).returncode == 0
    names = sorted(os.listdir(SHOP / "images"))
    vectors = np.load(tmp_path / "all.npy")
    (tmp_path / "list.txt").write_text(str(SHOP / "images" / names[20]), encoding="utf-8")
    assert semblance("embed", "--images", tmp_path / "list.txt", "-o", tmp_path / "one.npy", data=data).returncode == 0
    assert len(vectors) == len(names)
    assert int((vectors @ np.load(tmp_path / "one.npy")[0]).argmax()) == 20


def test_doctor_finds_all_well(data):
    done = semblance("doctor", "--json", data=data)
    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    found = {finding["name"]: finding["detail"] for finding in report["findings"]}
    assert found["collection shop"] == "54 documents"
    assert found["encoder"].startswith("bundle:default")


GUARDED = """
import sys, threading

LOOPBACK = ("127.", "::1", "localhost")
tried = []

def guard(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) and not str(arguments[1][0]).startswith(LOOPBACK):
        tried.append(f"{event} {arguments[1]}")
    if event == "socket.getaddrinfo" and not str(arguments[0] or "").startswith(LOOPBACK):
        tried.append(f"{event} {arguments[0]}")
    if event in ("subprocess.Popen", "os.system", "os.posix_spawn"):
        tried.append(f"{event} {arguments[:2]}")

sys.addaudithook(guard)
from cli.main import app
try:
    app(sys.argv[1:])
finally:
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(2)
    print("TRIED", tried, file=sys.stderr)
"""


@pytest.mark.parametrize("provoked", [False, True])
def test_nothing_phones_home(data, provoked):
    """An audit hook sees every connection that Python code tries, from any thread and whatever catches the error."""
    code = GUARDED
    if provoked:  # the guard itself must be able to see one
        code = code.replace(
            "from cli", "import socket\ntry:\n    socket.getaddrinfo('telemetry.invalid', 80)\nexcept OSError:\n    pass\nfrom cli"
        )
    done = subprocess.run(
        [sys.executable, "-c", code, "search", "--collection", "shop", "--json", "camera"],
        cwd=ROOT,
        env={**os.environ, "SEMBLANCE_DATA": str(data)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hits"]
    assert done.stderr.splitlines()[-1] == ("TRIED ['socket.getaddrinfo telemetry.invalid']" if provoked else "TRIED []")
