"""How long drawings take, few steps beside many, and what a search notices of a drawing beside it.

    python -m benchmarks.drawing [--json FILE]

Everything runs as it ships: the bundle's decoder, best of four by re-embedding, every core for a drawing alone, the server's own
process and priority for the drawings beside a search. How good the drawings are stands in the decoder's model card.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from engine import open_engine
from engine.build import open_studio
from engine.config import Settings
from engine.datatypes import Query, Term
from engine.drawings import GenerationRequest
from engine.generation.process import StudioProcess
from engine.search import SearchEngine
from indexer.job import IndexRequest, index_catalogue

SHOP = Path(__file__).resolve().parent.parent / "examples/shop/products.csv"
COLOURS = ("red", "blue", "green", "black", "white", "brown", "grey", "pink", "yellow", "purple")
THINGS = ("shirt", "dress", "shoe", "handbag", "watch", "jeans", "belt", "sandal", "jacket", "cap")
PROMPTS = [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]
MANY_STEPS = 50


def p50_ms(work: Callable[[int], object], times: int) -> float:
    """Time calls and give their median."""
    taken = []
    for number in range(times):
        start = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - start)
    return 1000 * float(np.median(taken))


def drawings(engine: SearchEngine, settings: Settings) -> dict[str, float]:
    """Time the best of four, a hundred of them, and one drawing in few steps and in many."""
    studio, vectors = open_studio(settings), engine.embed_texts(PROMPTS)

    def draw(number: int) -> None:
        studio.draw(GenerationRequest(vectors[number % 100][None], count=4, seed=number))

    def one(number: int, steps: int | None) -> None:
        studio.generator.generate(GenerationRequest(vectors[number % 100][None], seed=number, steps=steps))

    p50_ms(draw, 3)
    start = time.perf_counter()
    best_of_four = p50_ms(draw, 100)
    hundred = time.perf_counter() - start
    few, many = (p50_ms(partial(one, steps=steps), 20) for steps in (None, MANY_STEPS))
    return {
        "best_of_4_p50_ms": best_of_four,
        "100_posters_s": hundred,
        "one_p50_ms": few,
        f"one_{MANY_STEPS}_steps_p50_ms": many,
        "less_time_percent": 100 * (1 - few / many),
    }


def searches(engine: SearchEngine, settings: Settings, times: int = 300) -> dict[str, float]:
    """Time searches that no cache answers: alone, beside drawings without a pause, and alone again."""
    numbers = count()

    def search(_: int) -> None:
        engine.search_many("shop", [Query((Term(f"{PROMPTS[next(numbers) % 100]} {next(numbers)}"),))])

    studio, vectors, ended = StudioProcess(partial(open_studio, settings)), engine.embed_texts(PROMPTS), threading.Event()
    drawn = 0

    def keep_drawing() -> None:
        nonlocal drawn
        while not ended.is_set():
            studio.draw(GenerationRequest(vectors[drawn % 100][None], count=4, seed=drawn))
            drawn += 1

    studio.draw(GenerationRequest(vectors[:1]))
    p50_ms(search, 50)
    before = p50_ms(search, times)
    drawing = threading.Thread(target=keep_drawing)
    drawing.start()
    beside = p50_ms(search, times)
    ended.set()
    drawing.join()
    studio.close()
    after = p50_ms(search, times)
    alone = (before + after) / 2
    slower = 100 * (beside / alone - 1)
    return {"search_p50_ms": alone, "search_beside_drawings_p50_ms": beside, "slower_percent": slower, "drawn": drawn}


def main() -> None:
    """Measure and report."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--json", type=Path, help="write the figures here too")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_engine(folder) as engine:
        index_catalogue(engine, IndexRequest(SHOP, "shop"))
        settings = engine.settings
        figures = searches(engine, settings) | drawings(
            engine, settings.model_copy(update={"drawing_threads": os.cpu_count() or 1})
        )
    for name, value in figures.items():
        sys.stdout.write(f"{name:32} {value:10.2f}\n")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
