"""How often a cache of a given size hits, on stated traces: memory alone, Redis alone, both, beside LRU and the optimum.

    python -m benchmarks.cache [--requests N] [--keys N] [--json FILE] [--markdown FILE]

No clock is involved: requests are drawn from a Zipf law over a fixed set of keys, and every policy sees the same sequence.

`memory` is `engine.cache.MemoryCache` itself (W-TinyLFU). `redis` is a cache with the eviction of Redis under `allkeys-lfu`, as
documented: a logarithmic counter per key (log factor 10, new keys at 5), five keys sampled at random into a pool of 16,
of which the least used is evicted; its decay by the minute does not occur within a trace. `both` is memory of that size in front of
a Redis of four times the size, and counts a hit in either. `LRU` keeps what was used last. `optimum` is Belady's: it knows the
future, evicts what is used furthest ahead, and may decline to keep what it has just fetched; no real cache can hit more often.
`static` is the best that can be done without knowing the future of independent draws: it holds the most popular keys, for ever.
"""

import argparse
import heapq
import json
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from engine.cache import MemoryCache, cache_key

SHARES = (0.003, 0.01, 0.03, 0.1)
ALPHAS = (0.85, 1.0, 1.1)


def trace(alpha: float, keys: int, requests: int, seed: int = 0) -> list[int]:
    """Draw requests: rank r is asked for with a probability proportional to r ** -alpha."""
    weights = np.arange(1, keys + 1, dtype=np.float64) ** -alpha
    totals = np.cumsum(weights)
    draws = np.random.default_rng(seed).random(requests) * totals[-1]
    return [int(rank) for rank in np.minimum(np.searchsorted(totals, draws, side="right"), keys - 1)]


class Memory:
    """The in-process tier as it is."""

    def __init__(self, size: int) -> None:
        self._cache = MemoryCache(size, ttl_s=1e6)
        self._keys: dict[int, bytes] = {}

    def ask(self, rank: int) -> bool:
        """Look a key up, and remember it if it was not there."""
        key = self._keys.setdefault(rank, cache_key("query", rank))
        if self._cache.get_many([key])[0] is not None:
            return True
        self._cache.set_many({key: b"v"})
        return False

    def close(self) -> None:
        """End the thread that expires entries."""
        self._cache.close()


class Redis:
    """The eviction of Redis under `allkeys-lfu`."""

    LOG_FACTOR, NEW, SAMPLES, POOL = 10, 5, 5, 16

    def __init__(self, size: int) -> None:
        self._size = size
        self._counts: dict[int, int] = {}
        self._slots: list[int] = []
        self._place: dict[int, int] = {}
        self._pool: dict[int, int] = {}
        self._random = random.Random(1)

    def ask(self, rank: int) -> bool:
        """Look a key up, and remember it if it was not there."""
        count = self._counts.get(rank)
        if count is not None:
            odds = 1.0 / (max(0, count - self.NEW) * self.LOG_FACTOR + 1)
            if count < 255 and self._random.random() < odds:
                self._counts[rank] = count + 1
            return True
        if len(self._slots) >= self._size:
            self._evict()
        self._counts[rank] = self.NEW
        self._place[rank] = len(self._slots)
        self._slots.append(rank)
        return False

    def close(self) -> None:
        """Nothing to end."""

    def _evict(self) -> None:
        for _ in range(self.SAMPLES):
            candidate = self._slots[self._random.randrange(len(self._slots))]
            self._pool[candidate] = self._counts[candidate]
        ranked = sorted(self._pool, key=self._pool.__getitem__)[: self.POOL]
        victim = ranked[0]
        self._pool = {rank: self._pool[rank] for rank in ranked[1:]}
        last = self._slots.pop()
        place = self._place.pop(victim)
        if last != victim:
            self._slots[place], self._place[last] = last, place
        del self._counts[victim]


class Both:
    """Memory in front of a Redis of four times its size; what Redis knows is copied into memory."""

    def __init__(self, size: int) -> None:
        self._near, self._far = Memory(size), Redis(4 * size)

    def ask(self, rank: int) -> bool:
        """Look a key up in both."""
        return self._near.ask(rank) or self._far.ask(rank)

    def close(self) -> None:
        """End the thread that expires entries."""
        self._near.close()


class Lru:
    """Keeps what was used last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[int, None] = OrderedDict()

    def ask(self, rank: int) -> bool:
        """Look a key up, and remember it if it was not there."""
        hit = rank in self._held
        self._held[rank] = None
        self._held.move_to_end(rank)
        if len(self._held) > self._size:
            self._held.popitem(last=False)
        return hit

    def close(self) -> None:
        """Nothing to end."""


POLICIES: dict[str, Callable[[int], Memory | Redis | Both | Lru]] = {"memory": Memory, "redis": Redis, "both": Both, "LRU": Lru}


def hit_rate(policy: Memory | Redis | Both | Lru, ranks: Sequence[int], warm_up: int) -> float:
    """Play a trace; the first `warm_up` requests are not counted."""
    for rank in ranks[:warm_up]:
        policy.ask(rank)
    hits = sum(policy.ask(rank) for rank in ranks[warm_up:])
    policy.close()
    return hits / (len(ranks) - warm_up)


def optimum(ranks: Sequence[int], size: int, warm_up: int) -> float:
    """Play Belady's optimum with bypass."""
    never = len(ranks)
    following, seen = [never] * len(ranks), {}
    for number in range(len(ranks) - 1, -1, -1):
        following[number] = seen.get(ranks[number], never)
        seen[ranks[number]] = number
    held: dict[int, int] = {}
    furthest: list[tuple[int, int]] = []
    hits = 0
    for number, rank in enumerate(ranks):
        hits += number >= warm_up and rank in held
        held[rank] = following[number]
        heapq.heappush(furthest, (-following[number], rank))
        while len(held) > size:
            when, victim = heapq.heappop(furthest)
            if held.get(victim) == -when:
                del held[victim]
    return hits / (len(ranks) - warm_up)


def static(ranks: Sequence[int], size: int, warm_up: int) -> float:
    """Hold the most popular keys for ever."""
    return sum(rank < size for rank in ranks[warm_up:]) / (len(ranks) - warm_up)


def measure(keys: int, requests: int) -> list[dict[str, float]]:
    """Play every trace on every policy at every size."""
    rows = []
    for alpha in ALPHAS:
        ranks, warm_up = trace(alpha, keys, requests), requests // 4
        for share in SHARES:
            size = max(1, int(share * keys))
            row = {"alpha": alpha, "share": share, "size": size}
            row |= {name: hit_rate(make(size), ranks, warm_up) for name, make in POLICIES.items()}
            row |= {"static": static(ranks, size, warm_up), "optimum": optimum(ranks, size, warm_up)}
            rows.append(row)
            print(json.dumps({name: round(value, 4) for name, value in row.items()}), flush=True)
    return rows


def table(rows: list[dict[str, float]]) -> str:
    """Write the rows as Markdown, in percent."""
    names = ["memory", "redis", "both", "LRU", "static", "optimum"]
    lines = [f"| alpha | size, share of keys | {' | '.join(names)} |", f"| --- | --- |{' --- |' * len(names)}"]
    for row in rows:
        cells = " | ".join(f"{100 * row[name]:.1f}" for name in names)
        lines.append(f"| {row['alpha']:g} | {row['size']:.0f} ({100 * row['share']:g} %) | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=400_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    rows = measure(options.keys, options.requests)
    if options.json:
        options.json.write_text(json.dumps({"keys": options.keys, "requests": options.requests, "rows": rows}, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(table(rows))


if __name__ == "__main__":
    main()
