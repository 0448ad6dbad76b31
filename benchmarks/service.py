"""How fast the HTTP service answers: text from memory, text that nobody has asked before, pictures; and the usual way beside it.

    python -m benchmarks.service [--data DIR] [--collection shop] [--cases cached cold image] [--seconds 10]
                                 [--servers semblance usual] [--json FILE]
    python -m benchmarks.service --table FILE       writes the rows of a JSON file as the table of `docs/performance.md`
    python -m benchmarks.service --data DIR --collection large --cases cold     after `python -m benchmarks.large DATA`

The server is a process of its own (`semblance serve`), and so is this load, on the same cores: what the load itself takes is
missing from the server (`load_cpu_us` a request, beside `server_cpu_us`). Two loads a case, both of `benchmarks.load`: an open
loop at a stated rate, whose latency counts from the moment a request was due (no coordinated omission), and saturation by 32
connections. `cached` asks ten texts again and again, `cold` a new text each time, `image` sends a JPEG of 1,000 px that is new each
time. Whatever is not answered with 200 is counted as failed. `engine_ms` is the median of `timings_ms.total`, `overhead_ms` that of
what the client waited beyond it: HTTP, validation, queue, serialisation and the load's own work. Nothing is drawn and no request
is logged meanwhile (`SEMBLANCE_GENERATOR=none`, `SEMBLANCE_LOG_LEVEL=warning`). Without `--data` it serves the example shop.

`--servers usual` puts the same requests to `benchmarks.usual_way`, the job done as one writes it first, over the same documents.
"""

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from PIL import Image

from benchmarks.large import texts
from benchmarks.load import Tally, open_loop, quantiles, request, run, saturation

PHOTO = Path("examples/shop/images/road-bike.jpg")
CONNECTIONS = 32
RATES = {"cached": 250.0, "cold": 50.0, "image": 20.0}
BOUNDARY = "benchmark"
TICK = os.sysconf("SC_CLK_TCK")


def pictures(count: int, seed: int, path: Path = PHOTO) -> list[bytes]:
    """Make JPEGs of 1,000 px that differ in their patches, so that no cache knows them; another seed makes others."""
    photo = Image.open(path).convert("RGB").resize((1000, 1000))
    made = []
    for number in range(count):
        colour = tuple(int(part) for part in np.random.default_rng([seed, number]).integers(0, 256, 3))
        photo.paste(colour, (number * 37 % 900, number * 91 % 900, number * 37 % 900 + 100, number * 91 % 900 + 100))
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=85)
        made.append(file.getvalue())
    return made


def messages(url: str, collection: str, case: str, count: int, seed: int) -> list[bytes]:
    """Write `count` requests of a case down; another `seed` makes others."""
    path = f"/v1/collections/{collection}/search"
    if case == "image":
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="q.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        kind, tail = f"multipart/form-data; boundary={BOUNDARY}", f"\r\n--{BOUNDARY}--\r\n".encode()
        return [request(url, f"{path}/image", head.encode() + picture + tail, kind) for picture in pictures(count, seed)]
    asked = texts(10) * (count // 10 + 1) if case == "cached" else texts(count, seed)
    return [request(url, f"{path}/text", orjson.dumps({"query": text})) for text in asked[:count]]


@dataclass(frozen=True)
class Server:
    """A server under load."""

    name: str
    url: str
    process: int | None = None

    def cpu_s(self) -> float:
        """Tell the processor time it and its workers have used; 0 for one that is not ours."""
        if self.process is None:
            return 0.0
        listed = Path(f"/proc/{self.process}/task/{self.process}/children").read_text(encoding="ascii").split()
        return sum(map(_cpu_s, (self.process, *map(int, listed))))


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


@contextmanager
def served(name: str, command: list[str], **environment: str) -> Iterator[Server]:
    """Start a server that says where it is, and end it."""
    environment = {**os.environ, "SEMBLANCE_LOG_LEVEL": "warning", "SEMBLANCE_GENERATOR": "none", **environment}
    process = subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        url = next(line for line in process.stderr if " is at http" in line).split()[3]
        yield Server(name, url, process.pid)
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def shop(data: Path | None) -> Iterator[Path]:
    """Give the data folder named, or one of our own with the example shop."""
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cli", "index", "examples/shop/products.csv", "--collection", "shop", "--data", folder]
        subprocess.run(command, check=True)
        yield Path(folder)


def loaded(server: Server, kind: str, load: object, count_as: str) -> dict[str, object]:
    """Run a load and report what came of it."""
    server_s, own_s = server.cpu_s(), time.process_time()
    tally, took = run(load)
    server_s, own_s = server.cpu_s() - server_s, time.process_time() - own_s
    asked = max(1, len(tally.due_ms))
    return {
        "load": kind,
        "answered_per_s": round(len(tally.due_ms) / took, 1),
        **quantiles(tally.due_ms if count_as == "due" else tally.sent_ms),
        **split(tally),
        "failed": tally.failed,
        "server_cpu_us": round(1e6 * server_s / asked),
        "load_cpu_us": round(1e6 * own_s / asked),
    }


def split(tally: Tally) -> dict[str, float]:
    """Part what the client waited into the engine's share and the rest, by medians."""
    parts = tally.engine_ms()
    if not parts:
        return {}
    engine, rest = (float(np.median(values)) for values in zip(*((e, sent - e) for sent, e in parts), strict=True))
    return {"engine_ms": round(engine, 3), "overhead_ms": round(rest, 3)}


def measure(server: Server, collection: str, case: str, seconds: float, rate: float) -> Iterator[dict[str, object]]:
    """Warm up, then put both loads of a case on a server."""
    count = int(rate * seconds)
    most = {"cached": 6_000, "cold": 1_000, "image": 100}[case]  # a second, so that saturation does not run out of requests
    warm, timed = messages(server.url, collection, case, 40, 1), messages(server.url, collection, case, count, 2)
    run(open_loop(server.url, warm, 20))
    about = {"server": server.name, "collection": collection, "case": case}
    yield about | {"rate": rate} | loaded(server, "open loop", open_loop(server.url, timed, rate), "due")
    many = messages(server.url, collection, case, int(most * seconds), 3)
    yield about | loaded(server, f"{CONNECTIONS} connections", saturation(server.url, many, seconds, CONNECTIONS), "sent")


def table(path: Path) -> str:
    """Lay the rows of a JSON file out as a table."""
    heads = "server, documents, case, load, answered /s, p50 ms, p95, p99, engine ms, overhead ms, server CPU µs".split(", ")
    lines = [heads, ["---"] * len(heads)]
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        load = f"{row['rate']:g} /s, open" if "rate" in row else row["load"]
        documents = {"shop": "54", "large": "1,000,000"}.get(row["collection"], row["collection"])
        times = [f"{row[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms")]
        times += [f"{row[name]:.2f}" for name in ("engine_ms", "overhead_ms")]
        lines.append(
            [row["server"], documents, row["case"], load, f"{row['answered_per_s']:,}", *times, f"{row['server_cpu_us']:,}"]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--collection", default="shop")
    parser.add_argument("--cases", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--rate", type=float, help="of the open loop, instead of each case's own")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", default="1")
    parser.add_argument("--servers", nargs="+", choices=("semblance", "usual"), default=["semblance"])
    parser.add_argument("--json", type=Path, help="where the rows are added")
    parser.add_argument("--table", type=Path, help="print the rows of this file and measure nothing")
    options = parser.parse_args()
    if options.table:
        print(table(options.table))
        return
    rows: list[dict[str, object]] = []
    with shop(options.data) as data:
        commands = {
            "semblance": ["cli", "serve", "--port", "0", "--data", str(data), "--workers", options.workers],
            "usual": ["benchmarks.usual_way", str(data), options.collection],
        }
        for name in options.servers:
            with served(name, commands[name]) as server:
                for case in options.cases:
                    for row in measure(server, options.collection, case, options.seconds, options.rate or RATES[case]):
                        rows.append(row)
                        print(json.dumps(row), flush=True)
    if options.json:
        held = json.loads(options.json.read_text())["rows"] if options.json.exists() else []
        options.json.write_text(
            json.dumps({"machine": f"{os.cpu_count()} cores, {platform.machine()}", "rows": held + rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
