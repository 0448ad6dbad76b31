"""The recipe of the default bundle, from a data folder to a finished bundle folder, in one call.

Stages, rates and what each was worth are in `README.md` beside this file. The loop itself is `engine.training.trainer`.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from engine.datatypes import DIMENSIONS, Vectors
from engine.encoders.texts import TextReader
from engine.encoders.towers import Towers
from engine.training.companion import train_companion
from engine.training.corpus import Corpus, prepare, pretrained_towers, with_deeper_states
from engine.training.evaluate import Recall, retrieval_report
from engine.training.export import export_bundle
from engine.training.features import Cut, Progress, digest_of_weights, means_of
from engine.training.pairs import Split
from engine.training.queries import QueryStage, heard, learn_queries, with_vectors
from engine.training.recognise import class_names, recognise
from engine.training.release import release
from engine.training.trainer import Model, Stage, Trainer, embed_pictures, embed_texts
from engine.training.views import CachedView, Views

log = logging.getLogger(__name__)

BLOCK, LAYER = 18, 10
"""Training goes down to the last three of 21 blocks of the image tower and the last two of 12 layers of the text tower."""

HEADS = Stage("heads", steps=400)
TUNE = Stage(
    "tune",
    steps=340,
    head_rate=5e-4,
    image_rate=3e-4,
    text_rate=1.2e-4,
    warmup=25,
    objects=32,
    counts={"flickr8k": 192, "fashion": 128, "emoji": 40},
)
QUERIES = QueryStage()


def train_default(data: Path, output: Path, *, work: Path, seed: int = 0, progress: Progress | None = None) -> Path:
    """Train the default bundle on the data folder and write it to `output`; `work` keeps features and checkpoints.

    An interrupted run goes on from its cached features. `progress(what, done, total)` is called often. Returns `output`.
    """
    report = progress or _quiet
    torch.manual_seed(seed)
    towers, classifier, text_model = pretrained_towers()
    cut = Cut(BLOCK, len(towers.text.layers))
    corpus = prepare(data, work, cut, towers, (classifier, text_model), report)
    model = train_heads(Model(towers, cut, corpus.teacher.shape[1]), corpus, HEADS, seed, report)
    model.cut = Cut(BLOCK, LAYER)
    model = train_from_cut(model, with_deeper_states(corpus, LAYER, work, report), TUNE, seed, report)
    listening = heard(model, corpus, work, seed, report)
    model, paired = train_companion(Towers(model.image, model.text), listening, BLOCK, work, seed, report)
    learn_queries(model, with_vectors(listening, model, paired), QUERIES, seed, report)
    name_what_is_seen(model, paired, work, report)
    torch.save(model.state_dict(), work / f"model-{seed}.pt")
    export_bundle(Towers(model.image, model.text), work, output, name="default", training={"seed": seed})
    return release(output, corpus.pairs.items, {"recipe": "default", "seed": seed}, report)


def name_what_is_seen(model: Model, corpus: Corpus, work: Path, progress: Progress) -> None:
    """Let the finished image head recognise ImageNet's classes by the names the finished text head gives them."""
    reader = TextReader.load(work / "tokenizer.json", work / "tokens.npy", model.text.positions.shape[0])
    names = class_names(model.text, reader, work / f"named-{digest_of_weights(model.text)}", progress)
    train = [row for row, item in enumerate(corpus.pairs.items) if item.split == "train"]
    recognise(model.image.head, corpus.classifier, names, corpus.pooled[train])


def _quiet(_what: str, _done: int, _total: int) -> None:
    """Report nothing."""


def train_heads(model: Model, corpus: Corpus, stage: Stage, seed: int, progress: Progress) -> Model:
    """Train the heads on what the frozen towers make of everything; returns the averaged model."""
    everything = CachedView(corpus.pooled, np.arange(len(corpus.pooled)))
    frozen = replace(corpus, views=Views(everything, {}), states=means_of(corpus.states))
    with torch.no_grad():
        model.image.head.standardise(torch.from_numpy(corpus.pooled))
        model.text.head.standardise(torch.from_numpy(frozen.states.rows.astype(np.float32)))
    return train_from_cut(model, frozen, stage, seed, progress)


def train_from_cut(model: Model, corpus: Corpus, stage: Stage, seed: int, progress: Progress) -> Model:
    """Run one stage on the heads and on what lies behind the model's cut; returns the averaged model."""
    return Trainer(model, corpus, seed, progress).run(stage)


def evaluate(model: Model, corpus: Corpus, split: Split) -> dict[str, dict[str, Recall]]:
    """Evaluate on cached features."""
    rows = np.array([row for row, item in enumerate(corpus.pairs.items) if item.split == split])
    images = np.zeros((len(corpus.pairs.items), DIMENSIONS), np.float32)
    images[rows] = embed_pictures(model, corpus, rows)

    def encode(texts: Sequence[str]) -> Vectors:
        return embed_texts(model, corpus, corpus.rows_of(texts))

    return retrieval_report(corpus.pairs, images, encode, split)
