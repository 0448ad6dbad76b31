"""Whether the service stays as it is for hours: memory and failures under steady load while somebody writes.

    python -m benchmarks.soak [--seconds 60] [--share 0.6] [--json FILE]

Serves the example shop with `semblance serve`, finds how much it can take (half of the texts are new, half are asked again and
again), and then asks at `--share` of that, open loop, while a writer changes, adds and removes products twenty times a second.
`rss_mb` is the server's resident memory; `slope_mb` what it grows in ten minutes, by least squares over the last two thirds. The
cache is kept small (`SEMBLANCE_CACHE_ENTRIES=500`), as one that fills is no leak.
"""

import argparse
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import orjson

from benchmarks.large import texts
from benchmarks.load import open_loop, quantiles, request, run, saturation
from benchmarks.service import Server, served, shop

WRITES_PER_S = 20
PRODUCTS = 200


def messages(url: str, count: int, seed: int) -> list[bytes]:
    """Write requests down, every other one for a text asked often."""
    often, new = texts(50), texts(min(count, 200_000), seed)
    asked = (new[number % len(new)] if number % 2 else often[number // 2 % 50] for number in range(count))
    return [request(url, "/v1/collections/shop/search/text", orjson.dumps({"query": text})) for text in asked]


@dataclass
class Beside:
    """What goes on beside the load: writes, and looks at the server's memory."""

    server: Server
    writes: int = 0
    failed: list[str] = field(default_factory=list)
    rss_mb: list[tuple[float, float]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def write(self) -> None:
        """Put, change and delete products until the end."""
        address = f"{self.server.url}/v1/collections/shop/documents"
        with httpx.Client(timeout=60) as client:
            while not self.ended.wait(1 / WRITES_PER_S):
                id = f"soak-{self.writes % PRODUCTS}"
                try:
                    if self.writes % 5 == 4:
                        answer = client.delete(f"{address}/{id}")
                    else:
                        document = {"id": id, "title": f"thing {self.writes % 1_000}", "attributes": {"price": self.writes % 97}}
                        answer = client.post(address, json={"documents": [document]})
                    if answer.status_code >= 400 and answer.status_code != 404:
                        self.failed.append(f"{answer.status_code}: {answer.text[:200]}")
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))
                self.writes += 1

    def look(self) -> None:
        """Note the memory once a second until the end."""
        status = Path(f"/proc/{self.server.process}/status")
        began = time.monotonic()
        while not self.ended.wait(1.0):
            resident = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS"))
            self.rss_mb.append((time.monotonic() - began, int(resident.split()[1]) / 1024))

    def slope_mb(self) -> float:
        """Tell how many MB the memory grows in ten minutes."""
        settled = np.array(self.rss_mb[len(self.rss_mb) // 3 :])
        return float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0] * 600) if len(settled) > 2 else 0.0


def soak(server: Server, seconds: float, share: float) -> dict[str, object]:
    """Load a server that has the collection `shop` and report how it fared."""
    tally, took = run(saturation(server.url, messages(server.url, 100_000, 1), min(10.0, seconds / 3), 16))
    most = len(tally.due_ms) / took
    rate = share * most
    beside = Beside(server)
    threads = [threading.Thread(target=work) for work in (beside.write, beside.look)]
    for thread in threads:
        thread.start()
    try:
        tally, took = run(open_loop(server.url, messages(server.url, int(rate * seconds), 2), rate))
    finally:
        beside.ended.set()
        for thread in threads:
            thread.join()
    memory = [megabytes for _, megabytes in beside.rss_mb]
    return {
        "saturation_per_s": round(most, 1),
        "rate": round(rate, 1),
        "seconds": round(took, 1),
        "searches": len(tally.due_ms),
        "failed": tally.failed,
        "writes": beside.writes,
        "failed_writes": beside.failed[:10],
        **quantiles(tally.due_ms),
        "rss_mb": [round(megabytes, 1) for megabytes in memory[:: max(1, len(memory) // 30)]],
        "slope_mb": round(beside.slope_mb(), 2),
    }


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--share", type=float, default=0.6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with shop(None) as data:
        command = ["cli", "serve", "--port", "0", "--data", str(data)]
        with served("semblance", command, SEMBLANCE_CACHE_ENTRIES="500") as server:
            result = soak(server, options.seconds, options.share)
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
