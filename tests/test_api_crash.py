"""kill -9 of the server while it takes writes over HTTP: what it acknowledged is there when it is started again."""

import random
import threading
from pathlib import Path

import httpx
import pytest

from tests.conftest import ToyServer

OFTEN = "import engine.index.live as live; live.COMPACT_ROWS = 15\n"  # so that a compaction is nearly always under way


class Customer:
    """Writes one thing after another until the server is gone; knows what was acknowledged, and what was under way then."""

    def __init__(self, server: ToyServer, name: str) -> None:
        self._client, self._name = httpx.Client(base_url=server.address, timeout=10), name
        self.stored: dict[str, int] = {}
        self.gone: set[str] = set()
        self.open: set[str] = set()
        self.started = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        with self._client:
            try:
                for number in range(100_000):
                    self._put(f"{self._name}-{number}", number)
                    if number % 3 == 2:
                        self._patch(f"{self._name}-{number - 1}", -number)
                    if number % 5 == 4:
                        self._delete(f"{self._name}-{number - 4}")
                    if number == 3:
                        self.started.set()
            except httpx.TransportError:
                return

    def _put(self, id: str, price: int) -> None:
        document = {"id": id, "title": f"red mug {id}", "attributes": {"price": price}}
        self._ask(id, "POST", "", json={"documents": [document]})
        self.stored[id] = price

    def _patch(self, id: str, price: int) -> None:
        self._ask(id, "PATCH", f"/{id}", json={"attributes": {"price": price}})
        self.stored[id] = price

    def _delete(self, id: str) -> None:
        self._ask(id, "DELETE", f"/{id}")
        del self.stored[id]
        self.gone.add(id)

    def _ask(self, id: str, method: str, path: str, **body: object) -> None:
        self.open = {id}
        self._client.request(method, f"/v1/collections/shop/documents{path}", **body).raise_for_status()  # type: ignore[arg-type]
        self.open = set()

    def finish(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def kill_and_check(folder: Path, seed: int) -> None:
    server = ToyServer(folder, OFTEN)
    server.client.put("/v1/collections/shop").raise_for_status()
    customers = [Customer(server, f"{name}{seed}") for name in "ab"]
    assert all(customer.started.wait(20) for customer in customers)
    threading.Event().wait(random.Random(seed).random() * 0.5)
    server.end(9)
    for customer in customers:
        customer.finish()
    server = ToyServer(folder, OFTEN)
    try:
        for customer in customers:
            assert customer.stored
            for id, price in customer.stored.items():
                if id not in customer.open:
                    assert server.client.get(f"/v1/collections/shop/documents/{id}").json()["attributes"] == {"price": price}, id
            for id in customer.gone - customer.open:
                assert server.client.get(f"/v1/collections/shop/documents/{id}").status_code == 404
            known = next(id for id in reversed(customer.stored) if id not in customer.open)
            found = server.client.post("/v1/collections/shop/search/text", json={"query": known, "k": 1}).json()
            assert [hit["id"] for hit in found["hits"]] == [known]
    finally:
        server.end()


def test_a_server_starts_beside_damaged_jobs_and_keeps_them_aside(tmp_path: Path):
    (tmp_path / "_jobs.sqlite").write_bytes(b"no database" * 1000)
    server = ToyServer(tmp_path)
    assert server.client.get("/v1/jobs").json()["jobs"] == []
    _, log = server.end()
    assert "is damaged (file is not a database): jobs start anew" in log
    assert "Traceback" not in log
    assert len(list(tmp_path.glob("_jobs.damaged-*.sqlite"))) == 1


@pytest.mark.slow
def test_kill_9_of_the_server_loses_no_acknowledged_write(tmp_path: Path):
    for seed in range(2):
        kill_and_check(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.parametrize("first", [100, 110])
def test_kill_9_of_the_server_at_twenty_points(tmp_path: Path, first: int):
    for seed in range(first, first + 10):
        kill_and_check(tmp_path, seed)
