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
from engine.encoders.towers import Towers
from engine.training.corpus import Corpus, prepare, pretrained_towers, with_deeper_states
from engine.training.evaluate import Recall, retrieval_report
from engine.training.export import export_bundle
from engine.training.features import Cut, Progress, cells_of
from engine.training.pairs import Split
from engine.training.release import release
from engine.training.trainer import Model, Stage, Trainer, embed_pictures, embed_texts

log = logging.getLogger(__name__)

CACHED = Cut(stage=6, layer=12)
DEEPER = Cut(stage=6, layer=10)
HEADS = Stage("heads", steps=900)
TUNE_IMAGE = Stage(
    "tune image",
    steps=150,
    head_rate=5e-4,
    tower_rate=3e-4,
    warmup=10,
    taught=0.0,
    hidden_cells=0.1,
    hidden_tokens=0.1,
    objects=32,
    average=0.9,
    counts={"flickr8k": 256, "fashion": 96, "emoji": 32},
)
TUNE_BOTH = Stage(
    "tune both",
    steps=200,
    head_rate=4e-4,
    tower_rate=1.5e-4,
    warmup=15,
    taught=0.0,
    hidden_cells=0.15,
    hidden_tokens=0.1,
    objects=32,
    average=0.93,
    counts={"flickr8k": 320, "fashion": 128, "emoji": 32},
)


def train_default(data: Path, output: Path, *, work: Path, seed: int = 0, progress: Progress | None = None) -> Path:
    """Train the default bundle on the data folder and write it to `output`; `work` keeps features and checkpoints.

    An interrupted run goes on from its cached features. `progress(what, done, total)` is called often. Returns `output`.
    """
    report = progress or _quiet
    torch.manual_seed(seed)
    towers, classifier, text_model = pretrained_towers()
    corpus = prepare(data, work, CACHED, towers, (classifier, text_model), report)
    model = train_heads(towers, corpus, HEADS, seed, report)
    model = train_from_cut(model, corpus, TUNE_IMAGE, seed, report)
    model.cut = DEEPER
    model = train_from_cut(model, with_deeper_states(corpus, DEEPER.layer, work, report), TUNE_BOTH, seed, report)
    torch.save(model.state_dict(), work / f"model-{seed}.pt")
    export_bundle(Towers(model.image, model.text), work, output, name="default", training={"seed": seed})
    return release(output, corpus.pairs.items, {"recipe": "default", "seed": seed}, report)


def _quiet(_what: str, _done: int, _total: int) -> None:
    """Report nothing."""


def train_heads(towers: Towers, corpus: Corpus, stage: Stage, seed: int, progress: Progress) -> Model:
    """Train the heads on frozen towers; returns the averaged model, cut where the corpus is."""
    behind = Cut(len(towers.image.stages) + 1, len(towers.text.layers))
    frozen = replace(corpus, maps=cells_of(towers.image, corpus.maps, CACHED.stage))
    model = train_from_cut(Model(towers, behind), frozen, stage, seed, progress)
    model.cut = CACHED
    return model


def train_from_cut(model: Model, corpus: Corpus, stage: Stage, seed: int, progress: Progress) -> Model:
    """Run one stage on the heads and on what lies behind the model's cut; returns the averaged model."""
    trainer = Trainer(model, corpus, seed, progress)
    for _ in trainer.run(stage):
        pass
    return trainer.averaged


def evaluate(model: Model, corpus: Corpus, split: Split) -> dict[str, dict[str, Recall]]:
    """Evaluate on cached features."""
    rows = np.array([row for row, item in enumerate(corpus.pairs.items) if item.split == split])
    images = np.zeros((len(corpus.pairs.items), DIMENSIONS), np.float32)
    images[rows] = embed_pictures(model, corpus, rows)

    def encode(texts: Sequence[str]) -> Vectors:
        return embed_texts(model, corpus, corpus.rows_of(texts))

    return retrieval_report(corpus.pairs, images, encode, split)
