"""Retrieval figures on vectors: recall at k and median rank, aware of several right answers.

Functions here take vectors or ranks and know nothing of encoders. Which queries make up a benchmark is said by
`retrieval_report`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int64

from engine.datatypes import Vectors
from engine.training.pairs import Pairs, Split

EncodeTexts: TypeAlias = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True, slots=True)
class Recall:
    """Figures of one query set; recalls in percent, the rank counts from 1."""

    queries: int
    r1: float
    r5: float
    r10: float
    median_rank: float

    def as_dict(self) -> dict[str, float]:
        """Give the figures as plain numbers, rounded to what is worth reading."""
        return {name: round(float(value), 2) for name, value in asdict(self).items()}


def ranks(scores: Float32[np.ndarray, "q n"], relevant: Bool[np.ndarray, "q n"]) -> Int64[np.ndarray, " q"]:
    """Rank of the best right answer, from 1; ties count against the model, so equal vectors earn nothing."""
    best = np.where(relevant, scores, -np.inf).max(1, keepdims=True)
    rivals = (scores >= best) & ~relevant
    counted: Int64[np.ndarray, " q"] = rivals.sum(1) + 1
    return counted


def recall(scores: Float32[np.ndarray, "q n"], relevant: Bool[np.ndarray, "q n"]) -> Recall:
    """Summarise the ranks of the best right answers."""
    found = ranks(scores, relevant)
    r1, r5, r10 = (100.0 * float(np.mean(found <= k)) for k in (1, 5, 10))
    return Recall(len(found), r1, r5, r10, float(np.median(found)))


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Texts of one kind and language against all pictures of one source and split."""

    name: str
    source: str
    split: Split
    kind: str
    language: str
    unique: bool = False


def benchmarks(split: Split) -> tuple[Benchmark, ...]:
    """List the query sets of a split: `val` chooses, `test` is run once."""
    flickr = [("caption", "en"), ("caption", "zh"), ("caption", "de"), ("zh_human_translation", "zh")]
    names = [Benchmark(f"flickr8k-{kind}-{language}", "flickr8k", split, kind, language) for kind, language in flickr]
    if split == "val":
        names += [Benchmark("fashion-title-en", "fashion", split, "title", "en", unique=True)]
        names += [Benchmark(f"emoji-label-{language}", "emoji", split, "label", language) for language in ("en", "zh", "de")]
    return tuple(names)


def retrieval_report(pairs: Pairs, images: Vectors, encode: EncodeTexts, split: Split) -> dict[str, dict[str, Recall]]:
    """Run every benchmark of a split in both directions; `images` holds one row an item of `pairs`."""
    report: dict[str, dict[str, Recall]] = {}
    for benchmark in benchmarks(split):
        rows = [i for i, item in enumerate(pairs.items) if (item.source, item.split) == (benchmark.source, split)]
        subset = Pairs.build([pairs.items[row] for row in rows])
        queries = subset.find(kind=benchmark.kind, language=benchmark.language)
        if benchmark.unique:
            _, first = np.unique(subset.keys[queries], return_index=True)
            queries = queries[np.sort(first)]
        if len(queries):
            report[f"{split}/{benchmark.name}"] = _both_directions(subset, queries, images[rows], encode)
    return report


def _both_directions(subset: Pairs, queries: Int64[np.ndarray, " q"], images: Vectors, encode: EncodeTexts) -> dict[str, Recall]:
    scores = encode([subset.captions[query].text for query in queries]) @ images.T
    relevant = subset.relevance(queries)
    described = relevant.any(0)
    return {
        "text_to_image": recall(scores, relevant),
        "image_to_text": recall(scores.T[described], relevant.T[described]),
    }
