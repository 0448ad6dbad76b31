"""Several workers on one socket: they share what is written, are replaced without a refused request, and end together."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from api.supervisor import share_of
from engine.config import Settings

ROOT = Path(__file__).resolve().parent.parent
SERVER = """
import os, sys, time
from pathlib import Path
from api import server
from api.supervisor import Supervisor
from engine.cache import MemoryCache, TieredCache
from engine.config import Settings
from engine.search import SearchEngine
from engine.testing import FakeEncoder

class Slow(FakeEncoder):
    def encode_texts(self, texts):
        time.sleep(0.5 if "slow" in texts else 0)
        return super().encode_texts(texts)

def work(settings, listener, started):
    if os.path.exists(settings.data / "broken"):
        raise SystemExit(3)
    cache = TieredCache(MemoryCache(100, ttl_s=60))
    with server._quiet_end(), SearchEngine(settings, Slow(), cache) as engine:
        server._Server(server._config(settings, engine), started).run(sockets=[listener])

if __name__ == "__main__":
    settings = Settings(data=Path(sys.argv[1]), port=0, workers=2, deadline_s=5)
    with server._bound(settings) as listener:
        Supervisor(settings, listener, work).run(lambda: print(server._address(settings.host, listener), flush=True))
    print("ended", flush=True)
"""


class Group:
    """A supervisor with two workers, as processes."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        script = folder / "toy_workers.py"
        script.write_text(SERVER)
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(self.data)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def workers(self) -> set[int]:
        """Process ids of the workers; multiprocessing keeps a helper beside them."""
        return {child.pid for child in psutil.Process(self.process.pid).children() if works(child)}

    def ask(self, method: str, path: str, **options) -> httpx.Response:
        """Send one request over a connection of its own: any worker may take it."""
        return httpx.request(method, self.address + path, timeout=20, **options)

    def search(self, query: str) -> httpx.Response:
        return self.ask("POST", "/v1/collections/shop/search/text", json={"query": query})

    def end(self) -> tuple[str, str]:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.communicate(timeout=40)


def works(process: psutil.Process) -> bool:
    try:
        return any("spawn_main" in word for word in process.cmdline())
    except psutil.Error:
        return False  # it has just ended


@pytest.fixture
def group(tmp_path):
    group = Group(tmp_path)
    yield group
    group.end()


def wait_for(condition, within=120.0):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_workers_share_writes_counters_and_patches_and_end_together(group):
    workers = group.workers()
    assert len(workers) == 2
    group.ask("PUT", "/v1/collections/shop").raise_for_status()
    for number in range(20):
        document = {"id": f"d{number}", "title": f"red mug {number}"}
        group.ask("POST", "/v1/collections/shop/documents", json={"documents": [document]}).raise_for_status()
        assert group.ask("GET", f"/v1/collections/shop/documents/d{number}").status_code == 200
    assert all(group.ask("GET", "/v1/collections/shop").json()["documents"] == 20 for _ in range(8))

    def add(number):
        body = {"attributes": {f"a{number}": number}}
        group.ask("PATCH", "/v1/collections/shop/documents/d0", json=body).raise_for_status()

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(group.ask("GET", "/v1/collections/shop/documents/d0").json()["attributes"]) == 12
    for _ in range(2):
        page = group.ask("GET", "/metrics").text
        route = re.escape('method="POST",route="/v1/collections/{collection}/documents",status="200"')
        assert re.search(rf"semblance_http_requests_total{{{route}}} 20.0", page)
    output, complaints = group.end()
    assert (output, group.process.returncode) == ("ended\n", 0), complaints
    assert not any(alive(pid) for pid in workers)


def test_hanging_up_replaces_every_worker_and_refuses_nobody(group):
    group.ask("PUT", "/v1/collections/shop").raise_for_status()
    before, answers, over = group.workers(), [], threading.Event()

    def load(query):
        while not over.is_set():
            try:
                answers.append(group.search(query).status_code)
            except httpx.HTTPError as error:
                answers.append(repr(error))

    threads = [threading.Thread(target=load, args=(query,)) for query in ("red", "blue", "slow", "slow")]
    for thread in threads:
        thread.start()
    group.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(group.workers()) == 2 and not group.workers() & before)
    over.set()
    for thread in threads:
        thread.join()
    assert set(answers) == {200}
    assert len(answers) > 20


def test_a_killed_worker_is_replaced(group):
    victim = min(group.workers())
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(group.workers()) == 2 and victim not in group.workers())
    assert all(group.ask("GET", "/healthz").status_code == 200 for _ in range(10))


def test_workers_end_when_their_parent_is_killed(group):
    workers = group.workers()
    group.process.kill()
    group.process.wait()
    wait_for(lambda: not any(alive(pid) for pid in workers))


def test_workers_that_cannot_start_are_given_up_and_a_bad_restart_keeps_the_old_ones(group):
    before = group.workers()
    (group.data / "broken").touch()
    group.process.send_signal(signal.SIGHUP)
    time.sleep(3)
    assert group.ask("GET", "/healthz").status_code == 200
    assert group.workers() & before == before
    os.kill(min(before), signal.SIGKILL)
    wait_for(lambda: group.process.poll() is not None, within=60)
    assert group.process.returncode != 0
    assert "3 workers ended" in group.end()[1]


def test_cores_are_divided_among_workers_unless_threads_are_set():
    cores = len(os.sched_getaffinity(0))
    assert share_of(Settings(workers=2)).threads == max(1, cores // 2)
    assert share_of(Settings(workers=64)).threads == 1
    assert share_of(Settings(workers=2, threads=5)).threads == 5
