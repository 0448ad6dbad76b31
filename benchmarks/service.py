"""How fast the HTTP service answers at a stated rate: latency from the moment a request was due, not from when it was sent.

    python -m benchmarks.service [URL] [--collection shop] [--rate 50] [--seconds 10] [--case cached|cold|image]

The server runs in another process (`semblance serve`); this is the load. Open loop: requests leave on a schedule drawn beforehand
(Poisson, seed 0) whatever the server does, so a stall counts against every request that was due meanwhile: no coordinated omission.
`cached` asks the same twenty texts, `cold` a new text each time, `image` sends a
JPEG of 1,000 px that is new each time. Without URL it serves the example shop itself. Whatever
is not answered with 200 is counted as failed. `overhead_ms` is the median of what the client waited beyond the `total` of
`timings_ms`: HTTP, validation, queue, serialisation, and the load generator's own work.
"""

import argparse
import asyncio
import io
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

WORDS = (
    "red",
    "blue",
    "light",
    "warm",
    "small",
    "wooden",
    "steel",
    "shoe",
    "lamp",
    "bag",
    "chair",
    "camera",
    "mug",
    "bike",
    "coat",
)
Ask = Callable[[httpx.AsyncClient, int], Any]


def text(number: int) -> str:
    """Make a text that no earlier number has."""
    return f"{WORDS[number % 15]} {WORDS[number // 15 % 15]} {number}"


def pictures(path: Path, count: int) -> list[bytes]:
    """Make JPEGs of 1,000 px that differ in a patch, so that no cache knows them."""
    picture = Image.open(path).convert("RGB").resize((1000, 1000))
    made = []
    for number in range(count):
        colour = tuple(int(part) for part in np.random.default_rng(number).integers(0, 256, 3))
        picture.paste(colour, (number * 37 % 900, number * 91 % 900, number * 37 % 900 + 100, number * 91 % 900 + 100))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=85)
        made.append(file.getvalue())
    return made


def asker(case: str, collection: str, images: list[bytes]) -> Ask:
    """Choose what one request is."""
    path = f"/v1/collections/{collection}/search"
    if case == "image":
        return lambda client, n: client.post(f"{path}/image", files={"image": ("q.jpg", images[n], "image/jpeg")})
    return lambda client, n: client.post(f"{path}/text", json={"query": text(n % 20 if case == "cached" else n + 1_000)})


@contextmanager
def served(url: str | None) -> Iterator[str]:
    """Give the address of a server: the one named, or one of our own over the example shop."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as data:
        semblance = [sys.executable, "-m", "cli"]
        subprocess.run([*semblance, "index", "examples/shop/products.csv", "--collection", "shop", "--data", data], check=True)
        command = [*semblance, "serve", "--port", "0", "--data", data]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            yield next(line.split()[3] for line in process.stderr if line.startswith("Semblance is at "))
        finally:
            process.terminate()
            process.communicate()


async def load(url: str, ask: Ask, rate: float, seconds: float) -> dict[str, object]:
    """Send requests on schedule and report what came of them."""
    due = np.cumsum(np.random.default_rng(0).exponential(1 / rate, int(rate * seconds)))
    waited: list[float] = []
    overhead: list[float] = []
    failed = 0
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        for number in range(20):
            (await ask(client, number)).raise_for_status()
        began = time.perf_counter()

        async def one(number: int, at: float) -> None:
            nonlocal failed
            await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
            sent = time.perf_counter()
            try:
                answer = await ask(client, number + 20)
            except httpx.HTTPError:
                failed += 1
                return
            now = time.perf_counter()
            waited.append(1000 * (now - began - at))
            if answer.status_code == 200:
                overhead.append(1000 * (now - sent) - answer.json()["timings_ms"]["total"])
            else:
                failed += 1

        await asyncio.gather(*(one(number, float(at)) for number, at in enumerate(due)))
        took = time.perf_counter() - began
    return summary(waited, overhead) | {"asked": len(due), "failed": failed, "rate": rate, "answered_per_s": len(waited) / took}


def summary(waited: list[float], overhead: list[float]) -> dict[str, object]:
    """Reduce latencies in milliseconds to quantiles."""
    if not waited:
        return {}
    quantiles = {f"p{q:g}_ms": round(float(np.percentile(waited, q)), 2) for q in (50, 95, 99, 99.9)}
    return quantiles | {"overhead_ms": round(float(np.median(overhead)), 2) if overhead else None}


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?")
    parser.add_argument("--collection", default="shop")
    parser.add_argument("--rate", type=float, nargs="+", default=[50.0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--case", choices=("cached", "cold", "image"), default="cold")
    parser.add_argument("--image", type=Path, default=Path("examples/shop/images/road-bike.jpg"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    most = int(max(options.rate) * options.seconds) + 20
    ask = asker(options.case, options.collection, pictures(options.image, most) if options.case == "image" else [])
    rows = []
    with served(options.url) as url:
        for rate in options.rate:
            rows.append({"case": options.case} | asyncio.run(load(url, ask, rate, options.seconds)))
            print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": platform.processor(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
