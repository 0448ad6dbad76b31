"""One stage of training: the loop over batches, on cached features, with a moving average of the weights.

What is trained, for how long and at which rates is a `Stage`; the order of stages is the recipe in `engine.training.train`.
"""

import logging
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn

from engine.datatypes import DIMENSIONS, Vectors
from engine.encoders.towers import Towers
from engine.training.corpus import Corpus
from engine.training.features import Cut, Progress
from engine.training.imagenet import PseudoPictures
from engine.training.losses import Softening, Temperature, exact_cosines, prefix_cosines, symmetric_nce, taught_logits
from engine.training.sampling import DEFAULT_COUNTS, Batch, Sampler

log = logging.getLogger(__name__)
ENCODE_BATCH = 256
TEXTS_PER_PART = 192
EVERYDAY_RATE = 4.0
PREFIXES = (64, 128)
AVERAGE_EVERY = 5


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: how many steps, at which rates, what is trained besides the heads."""

    name: str
    steps: int
    head_rate: float = 1e-3
    tower_rate: float = 0.0
    weight_decay: float = 0.1
    warmup: int = 50
    smoothing: float = 0.02
    taught: float = 0.3
    objects: int = 64
    object_weight: float = 0.5
    prefix_weight: float = 0.2
    average: float = 0.97
    hidden_cells: float = 0.25
    hidden_tokens: float = 0.15
    counts: dict[str, int] = field(default_factory=lambda: dict(DEFAULT_COUNTS))


class Model(nn.Module):
    """Both towers from their cuts upwards, with the temperature they are trained with."""

    def __init__(self, towers: Towers, cut: Cut) -> None:
        super().__init__()
        self.image, self.text, self.cut = towers.image, towers.text, cut
        self.temperature = Temperature()

    def pictures(self, cached: Float[Tensor, "b ..."], thinning: float = 0.0) -> Float[Tensor, "b 256"]:
        """Embed cached maps, or cached cells when the cut is behind the last stage; `thinning` hides a share of the cells."""
        stages = len(self.image.stages)
        cells = cached if self.cut.stage > stages else self.image.cells(self.image.run(cached, self.cut.stage, stages))
        embedded: Tensor = self.image.head(cells, thin(torch.ones_like(cells[:, :, 0]), thinning))
        return embedded

    def objects(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b 256"]:
        """Embed pooled features as pictures of one grid cell."""
        return self.image.embed_cells(features[:, None, :])

    def texts(self, states: Float[Tensor, "b t w"], mask: Float[Tensor, "b t"], thinning: float = 0.0) -> Float[Tensor, "b 256"]:
        """Embed cached token states; `thinning` hides a share of the tokens from the head."""
        last = self.text.run(states, mask, self.cut.layer, len(self.text.layers))
        embedded: Tensor = self.text.head(last, thin(mask, thinning))
        return embedded

    def trainable(self, stage: Stage) -> list[dict[str, object]]:
        """Group what a stage trains by its rate; everything else is frozen."""
        heads = [*self.image.head.parameters(), *self.text.head.parameters(), *self.temperature.parameters()]
        towers = [
            *self.image.stages[self.cut.stage :].parameters(),
            *self.image.features.parameters(),
            *self.text.layers[self.cut.layer :].parameters(),
        ]
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        groups: list[dict[str, object]] = [{"params": heads, "lr": stage.head_rate}]
        if stage.tower_rate:
            groups.append({"params": towers, "lr": stage.tower_rate})
        for parameter in heads + (towers if stage.tower_rate else []):
            parameter.requires_grad_(True)
        return groups


def thin(mask: Float[Tensor, "b n"], share: float) -> Float[Tensor, "b n"]:
    """Hide a random share of what a mask shows, never the first cell or token: augmentation of cached features."""
    if not share:
        return mask
    kept = torch.rand_like(mask) >= share
    kept[:, 0] = True
    return mask * kept


class Trainer:
    """Runs stages on one model and corpus. `averaged` is the model to evaluate and to ship."""

    def __init__(self, model: Model, corpus: Corpus, seed: int, progress: Progress) -> None:
        self.model, self.averaged = model, deepcopy(model).eval()
        self._corpus, self._progress, self._seed = corpus, progress, seed
        self._random = np.random.default_rng(seed)
        self._pseudo, self._pooled = self._fit_pseudo_pictures()
        rates = np.array([EVERYDAY_RATE if texts.everyday else 1.0 for texts in corpus.objects])
        self._rates = rates / rates.sum()

    def run(self, stage: Stage) -> Iterator[int]:
        """Train; yields the step number after every step, so the caller decides when to evaluate."""
        torch.manual_seed(self._seed)
        optimizer = torch.optim.AdamW(self.model.trainable(stage), weight_decay=stage.weight_decay, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, stage))
        sampler = Sampler(self._corpus.pairs, self._corpus.usable(), stage.counts, self._seed)
        for step, batch in enumerate(sampler.batches(stage.steps)):
            self.model.train()
            with torch.autocast("cpu", torch.bfloat16):
                loss = self._loss(batch, stage)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], 1.0)
            optimizer.step()
            schedule.step()
            if step % AVERAGE_EVERY == 0 or step + 1 == stage.steps:
                self._average(min(stage.average, (1 + step) / (10 + step)))
            if step % 25 == 0:
                self._progress(f"{stage.name} loss {loss.item():.3f}", step, stage.steps)
            yield step + 1

    def _loss(self, batch: Batch, stage: Stage) -> Tensor:
        text_rows = self._corpus.text_rows[batch.texts]
        images, texts = self._pictures(batch.pictures, stage), self._texts(text_rows, stage)
        positive, weights = torch.from_numpy(batch.positive), torch.from_numpy(batch.weights)
        shown, said = self._corpus.teacher.pictures[batch.pictures], self._corpus.teacher.texts[text_rows]
        if stage.objects:
            classes = self._random.choice(len(self._rates), stage.objects, replace=False, p=self._rates)
            named = self._object_rows(classes)
            images = torch.cat([images, self.model.objects(self._pseudo_features(classes))])
            texts = torch.cat([texts, self._texts(named, stage)])
            positive = _beside(positive, torch.eye(stage.objects, dtype=torch.bool).repeat(1, 2))
            weights = torch.cat([weights, torch.full((2 * stage.objects,), stage.object_weight)])
            shown = np.concatenate([shown, self._corpus.teacher.objects[classes]])
            said = np.concatenate([said, self._corpus.teacher.texts[named]])
        softening = Softening(
            stage.smoothing, stage.taught, taught_logits(torch.from_numpy(shown), torch.from_numpy(said), positive)
        )
        loss = symmetric_nce(self.model.temperature(exact_cosines(images, texts)), positive, weights, softening)
        width = int(self._random.choice(PREFIXES))
        logits = self.model.temperature(prefix_cosines(images, texts, width))
        return loss + stage.prefix_weight * symmetric_nce(logits, positive, weights, softening)

    def _pictures(self, rows: Int64[np.ndarray, " b"], stage: Stage) -> Tensor:
        maps = torch.from_numpy(self._corpus.maps[np.sort(rows)][np.argsort(np.argsort(rows))]).float()
        return self.model.pictures(maps, stage.hidden_cells)

    def _texts(self, rows: Int64[np.ndarray, " b"], stage: Stage) -> Tensor:
        unique, inverse = np.unique(rows, return_inverse=True)
        order = self._corpus.states.by_length(unique)
        parts = []
        for at in range(0, len(order), TEXTS_PER_PART):
            states, mask = self._corpus.states.batch(unique[order[at : at + TEXTS_PER_PART]])
            parts.append(self.model.texts(torch.from_numpy(states), torch.from_numpy(mask), stage.hidden_tokens))
        return torch.cat(parts)[torch.from_numpy(np.argsort(order)[inverse])]

    def _pseudo_features(self, classes: Int64[np.ndarray, " b"]) -> Tensor:
        seeds = self._pooled[self._random.integers(0, len(self._pooled), len(classes))]
        return torch.from_numpy(self._pseudo.make(classes, seeds, self._random)).float()

    def _object_rows(self, classes: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b2"]:
        names = [self._corpus.objects[row] for row in classes]
        drawn = [self._random.choice(texts) for texts in (*(n.english for n in names), *(n.every for n in names))]
        return np.array(drawn, np.int64)

    def _fit_pseudo_pictures(self) -> tuple[PseudoPictures, Float32[np.ndarray, "n f"]]:
        rows = [row for row, item in enumerate(self._corpus.pairs.items) if item.split == "train"]
        chosen = np.sort(np.random.default_rng(0).choice(rows, min(len(rows), 6_000), replace=False))
        with torch.no_grad():
            pooled = [self._pool(chosen[at : at + ENCODE_BATCH]) for at in range(0, len(chosen), ENCODE_BATCH)]
        features = np.concatenate(pooled)
        return PseudoPictures.fit(self._corpus.classifier, features), features

    def _pool(self, rows: Int64[np.ndarray, " b"]) -> Float32[np.ndarray, "b f"]:
        image, stage = self.model.image, self.model.cut.stage
        cached = torch.from_numpy(self._corpus.maps[rows]).float()
        cells = cached if stage > len(image.stages) else image.cells(image.run(cached, stage, len(image.stages)))
        return cells.mean(1).numpy()

    def _average(self, decay: float) -> None:
        for ours, theirs in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
            if theirs.requires_grad:
                ours.data.lerp_(theirs.data, 1.0 - decay)


def _beside(first: Bool[Tensor, "i t"], second: Bool[Tensor, "j u"]) -> Bool[Tensor, "k v"]:
    """Put two masks on the diagonal: pictures of one kind are never right for texts of the other."""
    both = torch.zeros(len(first) + len(second), first.shape[1] + second.shape[1], dtype=torch.bool)
    both[: len(first), : first.shape[1]] = first
    both[len(first) :, first.shape[1] :] = second
    return both


def _rate(step: int, stage: Stage) -> float:
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    done = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def embed_pictures(model: Model, corpus: Corpus, rows: Int64[np.ndarray, " n"]) -> Vectors:
    """Embed cached pictures with a model in evaluation mode; rows that are not asked for are not touched."""
    vectors = np.zeros((len(rows), DIMENSIONS), np.float32)
    with torch.no_grad():
        for at in range(0, len(rows), ENCODE_BATCH):
            maps = torch.from_numpy(corpus.maps[rows[at : at + ENCODE_BATCH]]).float()
            vectors[at : at + ENCODE_BATCH] = model.pictures(maps).numpy()
    return vectors


def embed_texts(model: Model, corpus: Corpus, rows: Int64[np.ndarray, " n"]) -> Vectors:
    """Embed cached texts with a model in evaluation mode."""
    vectors = np.zeros((len(rows), DIMENSIONS), np.float32)
    order = corpus.states.by_length(rows)
    with torch.no_grad():
        for at in range(0, len(rows), ENCODE_BATCH):
            chosen = order[at : at + ENCODE_BATCH]
            states, mask = corpus.states.batch(rows[chosen])
            vectors[chosen] = model.texts(torch.from_numpy(states), torch.from_numpy(mask)).numpy()
    return vectors
