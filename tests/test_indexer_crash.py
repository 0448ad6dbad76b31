"""A job killed at any moment loses nothing that was committed and encodes none of it again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

JOB = """
import sys, time
from pathlib import Path
from engine.cache import MemoryCache, TieredCache
from engine.config import load_settings
from engine.search import SearchEngine
from engine.testing import FakeEncoder
from indexer.job import IndexRequest, index_catalogue

class Slow(FakeEncoder):
    def encode_images(self, images):
        time.sleep(float(sys.argv[3]))
        print(len(images), flush=True)
        return super().encode_images(images)

if __name__ == "__main__":
    encoder = Slow()
    with SearchEngine(load_settings(data=sys.argv[1]), encoder, TieredCache(MemoryCache(10, ttl_s=10), None)) as engine:
        report = index_catalogue(engine, IndexRequest(Path(sys.argv[2]), "shop"))
        print("done", report.created, report.unchanged, encoder.images_encoded, encoder.texts_encoded, flush=True)
"""
ROWS = 1000


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    lines = ["id,title,image"]
    for number in range(ROWS):
        Image.new("RGB", (8, 8), (number % 256, number // 256, 9)).save(folder / f"{number}.png")
        lines.append(f"p{number},mug {number},{number}.png")
    (folder / "feed.csv").write_text("\n".join(lines) + "\n")
    return folder / "feed.csv"


def _start(data: Path, catalogue: Path, pause: float) -> "subprocess.Popen[str]":
    root = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", JOB, str(data), str(catalogue), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ, "PYTHONPATH": root})


def _committed(data: Path) -> int:
    import sqlite3
    from contextlib import closing

    path = data / "shop" / "documents.sqlite"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT COUNT(*) FROM documents").fetchone()[0])


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_committed_is_encoded_again_after_kill_9(tmp_path, catalogue, seed):
    chance = random.Random(seed)
    for _ in range(2):
        job = _start(tmp_path, catalogue, 0.15)
        for _ in range(chance.randint(2, 4)):
            job.stdout.readline()
        time.sleep(chance.uniform(0, 0.1))
        job.send_signal(signal.SIGKILL)
        job.communicate()
    kept = _committed(tmp_path)
    assert 0 < kept < ROWS
    output, _ = _start(tmp_path, catalogue, 0).communicate(timeout=120)
    created, unchanged, images, texts = map(int, output.splitlines()[-1].split()[1:])
    assert (created, unchanged, images, texts) == (ROWS - kept, kept, ROWS - kept, ROWS - kept)
    output, _ = _start(tmp_path, catalogue, 0).communicate(timeout=120)
    assert output.split() == ["done", "0", str(ROWS), "0", "0"]


def test_ctrl_c_keeps_what_was_committed_and_leaves_no_process(tmp_path, catalogue):
    job = _start(tmp_path, catalogue, 0.15)
    for _ in range(3):
        job.stdout.readline()
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=30)
    assert job.returncode in (1, 130, -signal.SIGINT)
    assert _committed(tmp_path) >= 128
    assert len(list(tmp_path.glob("_jobs/*/report.json"))) == 1
