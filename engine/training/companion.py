"""A second, smaller network beside the image tower: what it is joined to, and what training it reads.

EfficientNet-Lite0 looks at every picture too; its features stand beside those of Lite2 and one head reads both. The first
network, which earlier stages have tuned, and the text tower below its head stay as they are, so both run once; the companion's
last blocks and both heads learn. A companion that is trained only beside features which already explain the training photos
learns little, so a share of the loss is taken without them (`Stage.alone`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray

from engine.encoders.heads import ProjectionHead
from engine.encoders.towers import PAIRED, ImageTower, Towers
from engine.training.corpus import Corpus, cache_views
from engine.training.features import Cut, Progress, pooled_of
from engine.training.pretrained import Classifier, load_image_weights
from engine.training.sampling import DEFAULT_SLOTS, Slots, slot
from engine.training.trainer import Model, Stage, Trainer
from engine.training.views import CachedView, Lookup, View, Views

BLOCK = 13
"""Training goes down to the last three of the companion's 16 blocks."""

SLOTS: Mapping[str, Slots] = DEFAULT_SLOTS | {
    "flickr8k": Slots(
        slot("caption multi30k", "en"),
        (slot("caption", "zh", 0.8), slot("caption multi30k ja_mt", "de fr cs ja", 0.4)),
        (0.65, 0.35),
    )
}

TEMPERATURE = 35.0
"""Inverse temperature this stage starts with: where the stage before it ends."""

COMPANION = Stage(
    "companion",
    steps=330,
    head_rate=6e-4,
    text_head_rate=2e-4,
    image_rate=4e-4,
    warmup=25,
    objects=32,
    taught=0.0,
    alone=0.4,
    counts={"flickr8k": 192, "fashion": 128, "emoji": 40},
    slots=SLOTS,
)


@dataclass(frozen=True, slots=True)
class Beside:
    """Features of the first network beside maps of the companion, laid flat, row by row."""

    features: NDArray[np.floating[Any]]
    maps: Lookup

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Int64[np.ndarray, " b"]) -> NDArray[np.floating[Any]]:
        return np.concatenate([self.features[rows], self.maps[rows].reshape(len(rows), -1)], axis=1)


def join(tower: ImageTower) -> tuple[ImageTower, Classifier]:
    """Put an untrained companion beside a tower: pictures keep the vectors they had. Also returns the companion's classifier."""
    joined = ImageTower(PAIRED).eval()
    if joined.companion is None:
        raise ValueError("the paired tower has no companion: its shape must name one")
    classifier = load_image_weights(joined.companion, 0)
    for part in ("stem", "stages", "features"):
        getattr(joined, part).load_state_dict(getattr(tower, part).state_dict())
    with torch.no_grad():
        _widen(joined.head, tower.head)
    return joined, classifier


def _widen(head: ProjectionHead, narrow: ProjectionHead) -> None:
    """Give a head the outputs of a narrower one; what reads the new features only starts at nothing."""
    inputs, hidden = narrow.direct.in_features, narrow.widen.out_features
    fresh = head.widen.weight[hidden:, inputs:] * 2**0.5
    for weight in (head.direct.weight, head.widen.weight, head.widen.bias, head.narrow.weight):
        weight.zero_()
    head.widen.weight[hidden:, inputs:] = fresh
    head.scale[:inputs], head.offset[:inputs] = narrow.scale, narrow.offset
    head.direct.weight[:, :inputs] = narrow.direct.weight
    head.widen.weight[:hidden, :inputs] = narrow.widen.weight
    head.widen.bias[:hidden] = narrow.widen.bias
    head.narrow.weight[:, :hidden] = narrow.narrow.weight
    for layer, earlier in ((head.direct, narrow.direct), (head.narrow, narrow.narrow)):
        layer.bias.copy_(earlier.bias)


def train_companion(towers: Towers, corpus: Corpus, block: int, work: Path, seed: int, progress: Progress) -> tuple[Model, Corpus]:
    """Join a companion to tuned towers and train it; returns the averaged model and the corpus with features of both networks.

    `corpus` holds averaged token states of the finished text tower (`engine.training.queries.heard`) and what the untrained first
    network makes of every picture; `block` is where that network was cut.
    """
    joined, classifier = join(towers.image)
    paired = _with_companion(joined, classifier, corpus, (block, work), progress)
    with torch.no_grad():
        train = [row for row, item in enumerate(corpus.pairs.items) if item.split == "train"]
        _standardise(joined.head, torch.from_numpy(paired.pooled[train]), towers.image.head.direct.in_features)
    model = Model(Towers(joined, towers.text), Cut(block, len(towers.text.layers), BLOCK), corpus.teacher.shape[1])
    with torch.no_grad():
        model.temperature.log_scale.fill_(float(np.log(TEMPERATURE)))
    return Trainer(model, paired, seed, progress).run(COMPANION), paired


def _standardise(head: ProjectionHead, features: torch.Tensor, first: int) -> None:
    """Learn mean and spread of the features from the column `first` on; those before keep theirs."""
    scale, offset = head.scale[:first].clone(), head.offset[:first].clone()
    head.standardise(features)
    head.scale[:first], head.offset[:first] = scale, offset


def _with_companion(
    tower: ImageTower, classifier: Classifier, corpus: Corpus, place: tuple[int, Path], progress: Progress
) -> Corpus:
    """Put the companion's maps beside the tuned network's features in every view.

    Pseudo-pictures are made of what both networks see untrained.
    """
    if tower.companion is None:
        raise ValueError("the tower has no companion: see `join`")
    block, work = place
    maps = cache_views(tower.companion, corpus.pairs, BLOCK, work / "companion", progress)
    first = cache_views(tower, corpus.pairs, block, work, progress)
    with torch.no_grad():
        plain = Beside(pooled_of(tower, first.plain.features, block), maps.plain.features)
        others: dict[View, CachedView] = {
            view: CachedView(Beside(pooled_of(tower, first.others[view].features, block), cached.features), cached.rows)
            for view, cached in maps.others.items()
        }
        pooled = np.concatenate([corpus.pooled, pooled_of(tower.companion, maps.plain.features, BLOCK)], axis=1)
    both = Classifier(
        np.concatenate([corpus.classifier.weight, classifier.weight], axis=1) / 2.0,
        (corpus.classifier.bias + classifier.bias) / 2.0,
    )
    return replace(corpus, views=Views(CachedView(plain, maps.plain.rows), others), pooled=pooled, classifier=both)
