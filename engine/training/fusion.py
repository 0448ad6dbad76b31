"""Fitting how much titles and words weigh in a query: the model of `engine.ranking`, from validation data.

    python -m engine.training.fusion DATA     writes engine/ranking.json and prints what it does to retrieval

The queries are of the kinds a shop gets: everyday words and their translations, brands, words out of names, article numbers. Half
of the products are fitted on, the other half is only measured.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64
from pyroaring import BitMap

from engine.datatypes import Vectors
from engine.encoders.openvino import OpenVINOEncoder
from engine.index.lexical import Lexical
from engine.index.wording import EXACT, Statistics, Wording
from engine.index.words import asked, counted
from engine.ranking import FEATURES, TITLE_SHARE, Weighing
from engine.training.embedding import encode_pictures
from engine.training.evaluate import EncodeTexts, recall
from engine.training.pairs import Item, Pairs
from engine.training.sources import read_emoji, read_fashion

TARGET = Path(__file__).parent.parent / "ranking.json"
QUERIES_PER_KIND = 120
SHARPNESS = 20.0  # of the softmax over documents: a score 0.05 higher is 2.7 times likelier
STEPS, RATE, RIDGE = 200, 0.1, 0.004
SHRINK = 8.0  # a word seen in so many queries counts half of what they say of it
GENDERS = frozenset({"men", "women", "boys", "girls", "unisex", "kids", "men's", "women's"})


@dataclass(frozen=True)
class Words:
    """The words of some documents, as a part of an index."""

    lexical: Lexical
    keys: np.ndarray

    def __len__(self) -> int:
        return len(self.lexical.lengths)


@dataclass(frozen=True)
class Asked:
    """Queries of one kind against one half of one shop: cosines, shares of the words, and what is right."""

    kind: str
    texts: tuple[str, ...]
    image: Float32[np.ndarray, "q n"]
    title: Float32[np.ndarray, "q n"]
    words: Float32[np.ndarray, "q n"]
    exact: Bool[np.ndarray, "q n"]
    wordings: tuple[Wording, ...]
    relevant: Bool[np.ndarray, "q n"]


def shop_queries(pairs: Pairs, random: np.random.Generator) -> Iterator[tuple[str, list[str], Bool[np.ndarray, "q n"]]]:
    """Make queries of every kind with the documents that are right for each."""
    for kind in ("query", "tag"):
        for language in ("en", "zh", "de"):
            found = pairs.find(kind=kind, language=language)
            if len(found):
                chosen = random.choice(found, min(QUERIES_PER_KIND, len(found)), replace=False)
                yield f"{kind}-{language}", [pairs.captions[c].text for c in chosen], pairs.relevance(chosen)
    titles = [_title(item) for item in pairs.items]
    yield "id", [item.id for item in pairs.items[:QUERIES_PER_KIND]], np.eye(QUERIES_PER_KIND, len(titles), dtype=bool)
    if pairs.items[0].source == "fashion":
        yield ("brand", *_holding(titles, sorted({_brand(title) for title in titles})))
        yield ("name", *_holding(titles, [_excerpt(titles[i], random) for i in random.permutation(len(titles))[:QUERIES_PER_KIND]]))


def _title(item: Item) -> str:
    return next(c.text for c in item.captions if c.kind in {"title", "label"} and c.language == "en")


def _brand(title: str) -> str:
    """Take the words before the gender, up to two: shops of this kind write the brand first."""
    tokens = title.split()
    until = next((n for n, token in enumerate(tokens) if token.lower() in GENDERS), 1)
    return " ".join(tokens[: max(1, min(until, 2))])


def _excerpt(title: str, random: np.random.Generator) -> str:
    tokens = [token for token in title.split() if token.lower() not in GENDERS]
    kept = sorted(random.choice(len(tokens), min(3, len(tokens)), replace=False))
    return " ".join(tokens[n] for n in kept)


def _holding(titles: Sequence[str], queries: Sequence[str]) -> tuple[list[str], Bool[np.ndarray, "q n"]]:
    held = [set(asked([title])) for title in titles]
    return list(queries), np.array([[set(asked([query])) <= words for words in held] for query in queries])


def ask(items: Sequence[Item], images: Vectors, encode: EncodeTexts, seed: int) -> Iterator[Asked]:
    """Ask one half of a shop everything and keep the evidence of each view."""
    random, pairs = np.random.default_rng(seed), Pairs.build(items)
    titles = [_title(item) for item in items]
    vectors = encode(titles)
    part = Words(
        Lexical.of([counted(item.id, title, "", {}) for item, title in zip(items, titles, strict=True)]), np.arange(len(items))
    )
    statistics = Statistics([part], [BitMap()])
    for kind, made, right in shop_queries(pairs, random):
        kept = np.logical_or.reduce(right, axis=1)
        texts, relevant = [text for text, keep in zip(made, kept, strict=True) if keep], right[kept]
        queries, wordings = encode(texts), [statistics.wording([text]) for text in texts]
        words = np.zeros(relevant.shape, np.float32)
        exact = np.zeros(relevant.shape, bool)
        for row, wording in enumerate(wordings):
            numbers, scores = wording.scores(part)
            words[row, numbers] = scores
            exact[row, [] if wording.whole is None else part.lexical.having(wording.whole)[0]] = True
        name = f"{items[0].source} {kind}"
        yield Asked(name, tuple(texts), queries @ images.T, queries @ vectors.T, words, exact, tuple(wordings), relevant)


def visual_words(asked_of: Sequence[Asked]) -> dict[str, float]:
    """Tell of every word how much better pictures than titles rank what it asks for, in reciprocal ranks, shrunk towards 0."""
    gains: dict[str, list[float]] = defaultdict(list)
    for one in asked_of:
        if one.kind.endswith((" id", " name", " brand")):
            continue
        by_picture, by_title = (_reciprocal(scores, one.relevant) for scores in (one.image, one.title))
        for text, gain in zip(one.texts, by_picture - by_title, strict=True):
            for word in asked([text]):
                gains[word].append(float(gain))
    found = {word: sum(every) / (len(every) + SHRINK) for word, every in gains.items() if len(every) >= 3}
    return {word: round(value, 3) for word, value in sorted(found.items()) if abs(value) >= 0.02}


def _reciprocal(scores: Float32[np.ndarray, "q n"], relevant: Bool[np.ndarray, "q n"]) -> Float64[np.ndarray, " q"]:
    best = np.where(relevant, scores, -np.inf).max(1, keepdims=True)
    reciprocal: Float64[np.ndarray, " q"] = 1.0 / (((scores >= best) & ~relevant).sum(1) + 1)
    return reciprocal


def describe(model: Weighing, one: Asked) -> Float64[np.ndarray, "q f"]:
    """Describe queries as serving does."""
    rows = zip(one.wordings, one.words.max(1), strict=True)
    return np.stack([model.describe(wording.words, wording.information, float(best)) for wording, best in rows])


def scores(one: Asked, share: Float64[np.ndarray, " q"], lift: Float64[np.ndarray, " q"]) -> Float64[np.ndarray, "q n"]:
    """Score all documents as `engine.ranking` does."""
    cosines = (1 - share[:, None]) * one.image + share[:, None] * one.title
    lifts = np.where(one.exact, EXACT, lift[:, None] * one.words)
    found: Float64[np.ndarray, "q n"] = cosines + lifts * (1 - cosines)
    return found


def fit(asked_of: Sequence[Asked], visual: dict[str, float]) -> Weighing:
    """Fit both curves by Adam on the log-likelihood that a right document is on top, each kind of query counting alike."""
    start = [float(np.log(TITLE_SHARE / (1 - TITLE_SHARE))), *[0.0] * (len(FEATURES) - 1)]
    theta = np.array([start, [-3.0, *[0.0] * (len(FEATURES) - 1)]])
    origin, first, second = theta.copy(), np.zeros_like(theta), np.zeros_like(theta)
    model = Weighing((), (), visual)
    described = [describe(model, one) for one in asked_of]
    for step in range(1, STEPS + 1):
        gradient = sum(_gradient(one, rows, theta) for one, rows in zip(asked_of, described, strict=True)) / len(asked_of)
        gradient = gradient + RIDGE * (theta - origin)
        # What titles weigh where nothing is known of the words was measured on more shops (docs/decisions/0004), and how many
        # and how rare the words are says nothing about pictures.
        gradient[0, : FEATURES.index("digits")] = 0.0
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        theta = theta - RATE * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-9)
    return Weighing(tuple(theta[0].tolist()), tuple(theta[1].tolist()), visual)


def _gradient(one: Asked, described: Float64[np.ndarray, "q f"], theta: Float64[np.ndarray, "2 f"]) -> Float64[np.ndarray, "2 f"]:
    share, lift = 1.0 / (1.0 + np.exp(-described @ theta.T)).T
    logits = SHARPNESS * scores(one, share, lift)
    everyone = _softmax(logits)
    right = _softmax(np.where(one.relevant, logits, -np.inf))
    slope = SHARPNESS * (everyone - right) / len(logits)
    free = np.where(one.exact, 0.0, 1.0)
    lifts = np.where(one.exact, EXACT, lift[:, None] * one.words)
    cosines = (1 - share[:, None]) * one.image + share[:, None] * one.title
    by_share = (slope * (one.title - one.image) * (1 - lifts)).sum(1) * share * (1 - share)
    by_lift = (slope * free * one.words * (1 - cosines)).sum(1) * lift * (1 - lift)
    return np.stack([by_share @ described, by_lift @ described])


def _softmax(logits: Float64[np.ndarray, "q n"]) -> Float64[np.ndarray, "q n"]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: Float64[np.ndarray, "q n"] = powers / powers.sum(1, keepdims=True)
    return shares


def report(asked_of: Sequence[Asked], model: Weighing) -> dict[str, dict[str, float]]:
    """Measure each kind of query: recall@1 and precision@10 with constant weights and with the model's, and its mean weights."""
    found = {}
    for one in asked_of:
        constant = (1 - TITLE_SHARE) * one.image + TITLE_SHARE * one.title
        weights = np.array([model.weigh(row) for row in describe(model, one)])
        fused = scores(one, weights[:, 0], weights[:, 1])
        figures = {"queries": float(len(one.texts)), "title": weights[:, 0].mean(), "words": weights[:, 1].mean()}
        for name, matrix in (("before", constant), ("after", fused)):
            figures |= {f"recall@1 {name}": recall(matrix, one.relevant).r1, f"precision@10 {name}": _precision(matrix, one)}
        found[one.kind] = {name: round(float(value), 3) for name, value in figures.items()}
    return found


def _precision(matrix: Float64[np.ndarray, "q n"], one: Asked) -> float:
    best = np.argsort(-matrix, axis=1)[:, :10]
    held = np.take_along_axis(one.relevant, best, 1).sum(1)
    return 100.0 * float(np.mean(held / np.minimum(one.relevant.sum(1), 10)))


def main(data: Path) -> None:
    """Fit the model on the first half of every validation shop and write it with the figures of the second half."""
    encoder = OpenVINOEncoder.load(Path(__file__).parent.parent / "bundles" / "default")
    halves: tuple[list[Asked], list[Asked]] = ([], [])
    for items in (list(read_fashion(data / "fashion")), list(read_emoji(data / "emoji"))):
        held = [item for item in items if item.split == "val"]
        images = encode_pictures(encoder, held, {"val"}, lambda *_: None)
        for number, half in enumerate(halves):
            chosen = [row for row, item in enumerate(held) if hash_half(item.group) == number]
            half.extend(ask([held[row] for row in chosen], images[chosen], encoder.encode_texts, number))
    model = fit(halves[0], visual_words(halves[0]))
    figures = report(halves[1], model)
    provenance = {"command": "python -m engine.training.fusion DATA", "encoder": encoder.fingerprint, "held out": figures}
    curves = {name: dict(zip(FEATURES, np.round(getattr(model, name), 4).tolist(), strict=True)) for name in ("share", "lift")}
    text = json.dumps({"provenance": provenance, **curves, "visual": model.visual}, indent=1, ensure_ascii=False)
    TARGET.write_text(text + "\n", encoding="utf-8")


def hash_half(group: str) -> int:
    """Divide groups in two, the same way every time."""
    return sum(group.encode()) % 2


if __name__ == "__main__":
    main(Path(sys.argv[1]))
