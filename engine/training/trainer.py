"""One stage of training: the loop over batches, on cached features, with a moving average of the weights.

What is trained, for how long and at which rates is a `Stage`; the order of stages is the recipe in `engine.training.train`.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from engine.datatypes import DIMENSIONS, Vectors
from engine.encoders.towers import Backbone, Towers
from engine.training.averaging import Averaged
from engine.training.corpus import Corpus
from engine.training.features import Cut, Progress
from engine.training.imagenet import PseudoPictures
from engine.training.losses import Temperature, distance_to_teacher, exact_cosines, prefix_cosines, symmetric_nce
from engine.training.sampling import DEFAULT_COUNTS, DEFAULT_SLOTS, Batch, Group, Sampler, Slots

log = logging.getLogger(__name__)
ENCODE_BATCH = 256
TEXTS_PER_PART = 192
EVERYDAY_RATE = 4.0
PREFIXES = (64, 128)
AVERAGE_EVERY = 5
PSEUDO_SEEDS = 6_000


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: how many steps, at which rates, what is trained besides the heads; a rate of 0 leaves a tower as it is.

    `text_head_rate` is the text head's where it differs. `alone` is the share of the loss in which a companion works alone.
    """

    name: str
    steps: int
    head_rate: float = 1e-3
    image_rate: float = 0.0
    text_rate: float = 0.0
    text_head_rate: float | None = None
    weight_decay: float = 0.05
    warmup: int = 50
    smoothing: float = 0.03
    taught: float = 0.5
    objects: int = 48
    object_weight: float = 0.3
    prefix_weight: float = 0.2
    average: float = 0.95
    alone: float = 0.0
    counts: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_COUNTS))
    slots: Mapping[str, Slots] = field(default_factory=lambda: dict(DEFAULT_SLOTS))


class Model(nn.Module):
    """Both towers from their cuts upwards, with the temperature they are trained with and the map to the teacher's space."""

    def __init__(self, towers: Towers, cut: Cut, teacher_width: int) -> None:
        super().__init__()
        self.image, self.text, self.cut = towers.image, towers.text, cut
        self.temperature = Temperature()
        self.to_teacher = nn.Linear(towers.text.positions.shape[1], teacher_width)

    def pictures(self, cached: Float[Tensor, "b ..."]) -> Float[Tensor, "b 256"]:
        """Embed cached maps, or features: see `seen`."""
        embedded: Tensor = self.image.head(self.seen(cached))
        return embedded

    def seen(self, cached: Float[Tensor, "b ..."]) -> Float[Tensor, "b f"]:
        """Turn cached maps into features; features stay as they are; rows of `Beside` are features and maps in one."""
        if cached.ndim > 2:
            return self.image.pool(self.image.run(cached, self.cut.block, len(self.image.blocks)))
        if self.cut.companion is None or cached.shape[1] == self.image.head.direct.in_features:
            return cached
        return torch.cat([cached[:, : self._width()], self._companion_features(cached[:, self._width() :])], dim=1)

    def _companion_features(self, maps: Float[Tensor, "b m"]) -> Float[Tensor, "b f"]:
        if self.image.companion is None or self.cut.companion is None:
            raise ValueError("the model has no companion: its cached pictures must be maps or features of one network")
        network, block = self.image.companion, self.cut.companion
        with torch.autocast("cpu", torch.bfloat16):
            features = network.pool(network.run(maps.reshape(-1, *network.map_shape(block)), block, len(network.blocks)))
        return features.float()

    def _width(self) -> int:
        return self.image.features.out_channels

    def embeddings(self, features: Float[Tensor, "b f"], stage: "Stage") -> list[tuple[float, Float[Tensor, "b 256"]]]:
        """Embed features, with shares of the loss; a companion also has to find texts alone, the first network at its mean."""
        if self.cut.companion is None:
            return [(1.0, self.image.head(features))]
        alone = torch.cat([self.image.head.mean()[: self._width()].expand(len(features), -1), features[:, self._width() :]], dim=1)
        return [(1.0 - stage.alone, self.image.head(features)), (stage.alone, self.image.head(alone))]

    def text_features(self, states: Float[Tensor, "b t w"], mask: Float[Tensor, "b t"]) -> Float[Tensor, "b w"]:
        """Run cached token states to the end of the text tower and average them."""
        return self.text.pool(self.text.run(states, mask, self.cut.layer, len(self.text.layers)), mask)

    def trainable(self, stage: Stage) -> list[dict[str, object]]:
        """Group what a stage trains by its rate; everything else is frozen."""
        network: Backbone = self.image
        first = self.cut.block
        if self.image.companion is not None and self.cut.companion is not None:
            network, first = self.image.companion, self.cut.companion
        image = [*(p for block in network.blocks[first:] for p in block.parameters()), *network.features.parameters()]
        heads = [*self.image.head.weights(), *self.to_teacher.parameters()]
        words = [*self.text.head.weights()]
        words_rate = stage.head_rate if stage.text_head_rate is None else stage.text_head_rate
        text = [*self.text.layers[self.cut.layer :].parameters()]
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        groups: list[dict[str, object]] = [{"params": [*self.temperature.parameters()], "lr": 1e-3, "weight_decay": 0.0}]
        for parameters, rate in (
            (heads, stage.head_rate),
            (words, words_rate),
            (image, stage.image_rate),
            (text, stage.text_rate),
        ):
            if rate and parameters:
                groups.append({"params": parameters, "lr": rate})
        for group in groups:
            for parameter in group["params"]:  # type: ignore[attr-defined]
                parameter.requires_grad_(True)
        return groups


class Trainer:
    """Runs stages on one model and corpus."""

    def __init__(self, model: Model, corpus: Corpus, seed: int, progress: Progress) -> None:
        self.model, self._corpus, self._progress, self._seed = model, corpus, progress, seed
        self._random = np.random.default_rng(seed)
        rows = [row for row, item in enumerate(corpus.pairs.items) if item.split == "train"]
        chosen = np.sort(self._random.choice(rows, min(len(rows), PSEUDO_SEEDS), replace=False))
        self._pooled = corpus.pooled[chosen]
        self._pseudo = PseudoPictures.fit(corpus.classifier, self._pooled)
        rates = np.array([EVERYDAY_RATE if texts.everyday else 1.0 for texts in corpus.objects])
        self._rates = rates / rates.sum()

    def run(self, stage: Stage) -> Model:
        """Train; returns the averaged model, which is the one to evaluate and to ship."""
        torch.manual_seed(self._seed)
        averaged = Averaged(self.model, stage.average)
        optimizer = torch.optim.AdamW(self.model.trainable(stage), weight_decay=stage.weight_decay, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_rate(step, stage.steps, stage.warmup))
        sampler = Sampler(self._corpus.pairs, self._corpus.usable(), stage.counts, self._seed, stage.slots)
        for step, batch in enumerate(sampler.batches(stage.steps)):
            self.model.train()
            loss = self._loss(batch, stage)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], 1.0)
            optimizer.step()
            schedule.step()
            if step % AVERAGE_EVERY == AVERAGE_EVERY - 1 or step + 1 == stage.steps:
                averaged.update(self.model, step)
            if step % 25 == 0:
                self._progress(f"{stage.name} loss {loss.item():.3f}", step, stage.steps)
        return averaged.module

    def _loss(self, batch: Batch, stage: Stage) -> Tensor:
        """Average the groups' losses by what their texts are worth, and keep the texts near the teacher."""
        classes = self._random.choice(len(self._rates), stage.objects, replace=False, p=self._rates)
        rows = [*(self._corpus.text_rows[group.texts] for group in batch.groups), self._names_of(classes)]
        features = self._text_features(np.concatenate(rows))
        *texts, names = self.model.text.head(features).split([len(part) for part in rows])
        total = torch.zeros(())
        worth = [float(group.weights.sum()) for group in batch.groups]
        for counted, pictures in self.model.embeddings(self._seen(batch.pictures, classes), stage):
            for group, embedded, share in zip(batch.groups, texts, worth, strict=True):
                nce = self._contrast(pictures, torch.cat([embedded, names]), group, stage)
                total = total + counted * share / sum(worth) * nce
        taught = torch.from_numpy(self._corpus.teacher[np.concatenate(rows)])
        return total + stage.taught * distance_to_teacher(self.model.to_teacher(features), taught)

    def _contrast(self, pictures: Tensor, texts: Tensor, group: Group, stage: Stage) -> Tensor:
        """Compare one group's texts with all pictures, at full width and at one prefix; objects stand beside the group."""
        count = stage.objects
        positive = _beside(torch.from_numpy(group.positive), torch.eye(count, dtype=torch.bool))
        weights = torch.cat([torch.from_numpy(group.weights), torch.full((count,), stage.object_weight)])
        naming = torch.cat([torch.from_numpy(group.naming), torch.ones(count, dtype=torch.bool)])
        whole = self.model.temperature(exact_cosines(pictures, texts))
        prefix = self.model.temperature(prefix_cosines(pictures, texts, int(self._random.choice(PREFIXES))))
        full, short = (symmetric_nce(logits, positive, weights, naming, stage.smoothing) for logits in (whole, prefix))
        return full + stage.prefix_weight * short

    def _seen(self, rows: Int64[np.ndarray, " b"], classes: Int64[np.ndarray, " c"]) -> Tensor:
        """Turn pictures in one of their views into features, and after them pseudo-pictures of the classes."""
        cached = torch.from_numpy(self._corpus.views.draw(rows, self._random))
        with torch.autocast("cpu", torch.bfloat16, enabled=cached.ndim > 2):
            features = self.model.seen(cached)
        seeds = self._pooled[self._random.integers(0, len(self._pooled), len(classes))]
        made = torch.from_numpy(self._pseudo.make(classes, seeds, self._random)).float()
        return torch.cat([features.float(), made])

    def _text_features(self, rows: Int64[np.ndarray, " b"]) -> Tensor:
        unique, inverse = np.unique(rows, return_inverse=True)
        order = self._corpus.states.by_length(unique)
        parts = []
        for at in range(0, len(order), TEXTS_PER_PART):
            states, mask = self._corpus.states.batch(unique[order[at : at + TEXTS_PER_PART]])
            with torch.autocast("cpu", torch.bfloat16, enabled=states.shape[1] > 1):
                parts.append(self.model.text_features(torch.from_numpy(states), torch.from_numpy(mask)))
        return torch.cat(parts)[torch.from_numpy(np.argsort(order)[inverse])]

    def _names_of(self, classes: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """Draw one name of every class, in English half of the time."""
        names = (self._corpus.objects[row] for row in classes)
        return np.array([self._random.choice(n.english if self._random.random() < 0.5 else n.every) for n in names], np.int64)


def _beside(first: Bool[Tensor, "i t"], second: Bool[Tensor, "j u"]) -> Bool[Tensor, "k v"]:
    """Put two masks on the diagonal: pictures of one kind are never right for texts of the other."""
    both = torch.zeros(len(first) + len(second), first.shape[1] + second.shape[1], dtype=torch.bool)
    both[: len(first), : first.shape[1]] = first
    both[len(first) :, first.shape[1] :] = second
    return both


def share_of_rate(step: int, steps: int, warmup: int) -> float:
    """Say which share of the peak rate a step takes: a linear rise, then half a cosine down to nothing."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def embed_pictures(model: Model, corpus: Corpus, rows: Int64[np.ndarray, " n"]) -> Vectors:
    """Embed cached pictures, as they are, with a model in evaluation mode; rows that are not asked for are not touched."""
    vectors = np.zeros((len(rows), DIMENSIONS), np.float32)
    with torch.no_grad():
        for at in range(0, len(rows), ENCODE_BATCH):
            seen = torch.from_numpy(corpus.views.at(rows[at : at + ENCODE_BATCH]))
            vectors[at : at + ENCODE_BATCH] = model.pictures(seen).numpy()
    return vectors


def embed_texts(model: Model, corpus: Corpus, rows: Int64[np.ndarray, " n"]) -> Vectors:
    """Embed cached texts with a model in evaluation mode."""
    vectors = np.zeros((len(rows), DIMENSIONS), np.float32)
    order = corpus.states.by_length(rows)
    with torch.no_grad():
        for at in range(0, len(rows), ENCODE_BATCH):
            chosen = order[at : at + ENCODE_BATCH]
            states, mask = corpus.states.batch(rows[chosen])
            features = model.text_features(torch.from_numpy(states), torch.from_numpy(mask))
            vectors[chosen] = model.text.head(features).numpy()
    return vectors
