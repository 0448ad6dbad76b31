"""The last steps of a decoder: measure what was exported, on validation products, and write its card and manifest anew."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from engine.datatypes import Vectors
from engine.generation.decoder import Decoder, read_manifest
from engine.protocols import Encoder
from engine.training.drawing.evaluate import LABELS, Sampling, Wanted, draw_best, nearness, round_trip
from engine.training.drawing.export import Trained, finish_decoder
from engine.training.drawing.gallery import pixels_of
from engine.training.drawing.scorer import Features, Judge, Products, features_of, sentences_of, train_judge
from engine.training.features import Progress
from engine.training.pairs import Item
from engine.training.sources import read_fashion

MANY_STEPS = 50


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything a measurement needs: the judge, the validation products, and what training saw."""

    judge: Judge
    wanted: Wanted
    titles: tuple[str, ...]
    sentences: Float32[np.ndarray, "t w"]
    features: Float32[np.ndarray, "n f"]
    known: Float32[np.ndarray, "m f"]


def build_bench(data: Path, work: Path, seed: int, progress: Progress) -> Bench:
    """Look at the shop with the judge's eyes and train it on the training products."""
    items = list(read_fashion(data / "fashion"))
    labels = _labels(data / "fashion" / "metadata.csv")
    train, val = (np.array([row for row, item in enumerate(items) if item.split == split]) for split in ("train", "val"))
    features = features_of("fashion", pixels_of(items, work, progress), work, progress)
    titles = [_title(item) for item in items]
    sentences = sentences_of(titles, work, progress)
    numbers = np.unique([_key(item) for item in items], return_inverse=True)[1]
    known = {label: [labels[label][row] for row in train] for label in LABELS}
    judge = train_judge(Products(features[train], sentences[train], numbers[train], known), seed)
    _, first, own = np.unique(numbers[val], return_index=True, return_inverse=True)
    wanted = Wanted(own, {label: [labels[label][row] for row in val] for label in LABELS})
    return Bench(judge, wanted, tuple(titles[row] for row in val), sentences[val[first]], features[val], features[train])


def _labels(metadata: Path) -> dict[str, list[str]]:
    with metadata.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {label: [row[label] for row in rows] for label in LABELS}


def _title(item: Item) -> str:
    return next(caption.text for caption in item.captions if caption.kind == "title")


def _key(item: Item) -> str:
    return next(caption.key for caption in item.captions if caption.kind == "title")


def measure(
    bench: Bench, decoder: Decoder, encoder: Encoder, training_pictures: Vectors, progress: Progress
) -> dict[str, dict[str, float]]:
    """Run the round trip for drawings and for what they are compared with."""
    asked = encoder.encode_texts(bench.titles)
    nearest = bench.known[(asked @ training_pictures.T).argmax(1)]
    order = np.random.default_rng(0).permutation(len(bench.features))
    looks = {
        "the product's own photo": bench.features,
        "nearest training picture": nearest,
        "a random product's photo": bench.features[order],
    }
    for name, sampling in drawings_of(decoder).items():
        looks[name] = _seen(draw_best(decoder, encoder, asked, sampling, progress), progress)
    return {name: _row(bench, features) for name, features in looks.items()}


def drawings_of(decoder: Decoder) -> dict[str, Sampling]:
    """List the ways of drawing that are compared: few steps and many, one drawing and the best of four."""
    few, fewest = decoder.manifest.steps, decoder.manifest.shortcuts
    return {
        f"drawing, {few} steps, best of 4": Sampling(4),
        f"drawing, {few} steps": Sampling(1),
        f"drawing, {fewest} shortcuts": Sampling(1, fewest),
        f"drawing, {MANY_STEPS} steps": Sampling(1, MANY_STEPS),
    }


def _seen(pixels: UInt8[np.ndarray, "n s s 3"], progress: Progress) -> Float32[np.ndarray, "n f"]:
    return Features()(pixels, progress)


def _row(bench: Bench, features: Float32[np.ndarray, "n f"]) -> dict[str, float]:
    near = nearness(features, bench.known)
    return (
        {"queries": float(len(features))}
        | round_trip(bench.judge, features, bench.sentences, bench.wanted)
        | {
            "nearest training picture, median cosine x 100": 100.0 * float(np.median(near)),
            "closer than 0.98, %": 100.0 * float(np.mean(near > 0.98)),
        }
    )


def release_decoder(
    folder: Path, bench: Bench, encoder: Encoder, training_pictures: Vectors, progress: Progress
) -> dict[str, dict[str, float]]:
    """Measure an exported decoder and write the figures into its card and manifest."""
    manifest = read_manifest(folder)
    figures = measure(bench, Decoder.load(folder), encoder, training_pictures, progress)
    training = manifest.training | {"figures": figures}
    kept = {name: getattr(manifest, name) for name in ("name", "encoder", "steps", "guidance", "shortcuts", "temperature")}
    trained = Trained(training=training, **kept)
    finish_decoder(folder, (manifest.size, manifest.channels), trained)
    return figures


def contact_sheet(pictures: Sequence[UInt8[np.ndarray, "s s 3"]], columns: int) -> UInt8[np.ndarray, "h w 3"]:
    """Lay pictures of one size out in rows, for people to look at; a last row that is not full is left out."""
    rows = [np.concatenate(pictures[start : start + columns], 1) for start in range(0, len(pictures) - columns + 1, columns)]
    return np.concatenate(rows)
