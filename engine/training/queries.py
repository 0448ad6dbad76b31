"""The last stage: the text head alone learns what shops are asked, in every language; pictures and towers stay as they are.

Training on titles and captions leaves everyday queries ("red shoes", 红色鞋子) far from the titles of what they ask for. Here
a query must find the pictures that suit it and the texts that name them, while every text is held near where it was. Because
pictures keep their vectors, whatever was built on them stays valid.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from engine.datatypes import DIMENSIONS
from engine.encoders.heads import ProjectionHead
from engine.encoders.texts import TextReader
from engine.training.averaging import Averaged
from engine.training.corpus import Corpus, ObjectTexts
from engine.training.features import Progress, StateJob, cache_states, digest_of_weights, means_of
from engine.training.losses import exact_cosines, multi_positive_nce, symmetric_nce
from engine.training.pairs import Pairs
from engine.training.sampling import Batch, Sampler, Slots, slot
from engine.training.trainer import Model, embed_pictures, share_of_rate
from engine.training.views import CachedView, Views

KEPT: Mapping[str, float] = {
    "query": 1.0,
    "title": 1.0,
    "caption": 1.0,
    "multi30k": 0.05,
    "ja_mt": 0.03,
    "label": 0.25,
    "tag": 0.03,
}
"""Share of the texts of each kind that these stages look at: the whole text tower must run over them."""

SLOTS = {
    "flickr8k": Slots(slot("caption", "en"), (slot("caption", "zh", 0.8), slot("caption", "de", 0.4)), (0.7, 0.3)),
    "fashion": Slots(slot("title"), (slot("query", "en zh de"), slot("query", weight=0.7)), (0.5, 0.5)),
    "emoji": Slots(slot("label", "en zh de", 0.7), (slot("label", weight=0.6), slot("tag", weight=0.4)), (0.6, 0.4)),
}


@dataclass(frozen=True, slots=True)
class QueryStage:
    """How long and at which rate; `naming` weighs that queries find texts, `near` that texts stay where they are."""

    steps: int = 600
    rate: float = 4e-4
    weight_decay: float = 0.05
    warmup: int = 20
    naming: float = 0.7
    near: float = 1.0
    smoothing: float = 0.03
    average: float = 0.98
    counts: dict[str, int] = field(default_factory=lambda: {"flickr8k": 256, "fashion": 384, "emoji": 96})


def heard(model: Model, corpus: Corpus, work: Path, seed: int, progress: Progress) -> Corpus:
    """Swap the token states of a corpus for what the text head sees: those of some texts at the tower's end, averaged."""
    kept = _kept(corpus.pairs, np.random.default_rng(seed))
    named = np.concatenate([names.every for names in corpus.objects]) if corpus.objects else np.zeros(0, np.int64)
    chosen = np.unique(np.concatenate([corpus.text_rows[kept], named]))
    reader = TextReader.load(work / "tokenizer.json", work / "tokens.npy", model.text.positions.shape[0])
    job = StateJob(reader, [corpus.texts[row] for row in chosen], len(model.text.layers))
    with torch.no_grad():
        states = means_of(cache_states(model.text, job, work / f"heard-{digest_of_weights(model.text)}", 0, progress))
    text_rows = np.full(len(corpus.text_rows), states.done)
    text_rows[kept] = np.searchsorted(chosen, corpus.text_rows[kept])
    objects = tuple(ObjectTexts(*(np.searchsorted(chosen, rows) for rows in (o.english, o.every))) for o in corpus.objects)
    teacher = corpus.teacher[chosen]
    return replace(corpus, states=states, text_rows=text_rows, objects=objects, teacher=teacher)


def with_vectors(corpus: Corpus, model: Model, seen: Corpus) -> Corpus:
    """Swap the pictures of a corpus for the vectors a finished model gives those of training, which `seen` has cached."""
    rows = np.array([row for row, item in enumerate(corpus.pairs.items) if item.split == "train"])
    vectors = np.zeros((len(corpus.pairs.items), DIMENSIONS), np.float32)
    vectors[rows] = embed_pictures(model, seen, rows)
    return replace(corpus, views=Views(CachedView(vectors, np.arange(len(vectors))), {}))


def _kept(pairs: Pairs, random: np.random.Generator) -> Bool[np.ndarray, " n"]:
    """Draw which captions of training items are looked at."""
    shares = np.array([KEPT.get(caption.kind, 0.0) for caption in pairs.captions])
    train = np.array([item.split == "train" for item in pairs.items])[pairs.owner]
    return np.asarray(train & (random.random(len(shares)) < shares))


def learn_queries(model: Model, corpus: Corpus, stage: QueryStage, seed: int, progress: Progress) -> None:
    """Train the text head of `model` on what `heard` made; its weights become their moving average."""
    head, before, averaged = model.text.head, deepcopy(model.text.head).eval(), Averaged(model.text.head, stage.average)
    torch.manual_seed(seed)
    for parameter in head.weights():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.weights(), lr=stage.rate, weight_decay=stage.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_rate(step, stage.steps, stage.warmup))
    sampler = Sampler(corpus.pairs, corpus.usable(), stage.counts, seed, SLOTS)
    head.train()
    for step, batch in enumerate(sampler.batches(stage.steps)):
        loss = _loss(model, (head, before), corpus, batch, stage)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        averaged.update(head, step)
        if step % 25 == 0:
            progress(f"queries loss {loss.item():.3f}", step, stage.steps)
    head.load_state_dict(averaged.module.state_dict())
    head.eval()


def _loss(model: Model, heads: tuple[ProjectionHead, ProjectionHead], corpus: Corpus, batch: Batch, stage: QueryStage) -> Tensor:
    head, before = heads
    pictures = torch.from_numpy(corpus.views.at(batch.pictures))
    features = [_features(corpus, group.texts) for group in batch.groups]
    embedded = [head(states) for states in features]
    with torch.no_grad():
        earlier = [before(states) for states in features]
    worth = [float(group.weights.sum()) for group in batch.groups]
    total = torch.zeros(())
    for group, texts, share in zip(batch.groups, embedded, worth, strict=True):
        positive, weights, naming = (torch.from_numpy(array) for array in (group.positive, group.weights, group.naming))
        nce = symmetric_nce(_logits(model, pictures, texts), positive, weights, naming, stage.smoothing)
        total = total + share / sum(worth) * nce
    moved = torch.stack([(1.0 - (now * then).sum(1)).mean() for now, then in zip(embedded, earlier, strict=True)])
    return total + stage.near * moved.mean() + stage.naming * _finding_names(model, corpus.pairs, batch, embedded)


def _logits(model: Model, left: Tensor, right: Tensor) -> Tensor:
    """Sharpen cosines at the temperature training ended with."""
    return exact_cosines(left, right) * model.temperature.log_scale.detach().exp()


def _finding_names(model: Model, pairs: Pairs, batch: Batch, embedded: list[Tensor]) -> Tensor:
    """Ask texts that only suit a picture for the texts that name it."""
    if len(batch.groups) < 2:
        return torch.zeros(())
    names, others = batch.groups
    asking = torch.from_numpy(~others.naming)
    place = {int(item): row for row, item in enumerate(batch.pictures)}
    owners = [place[int(item)] for item in pairs.owner[names.texts]]
    right = torch.from_numpy(others.positive[owners][:, ~others.naming].T)
    logits = _logits(model, embedded[1][asking], embedded[0])
    return multi_positive_nce(logits, right, torch.ones(len(logits))) if len(logits) else torch.zeros(())


def _features(corpus: Corpus, captions: Int64[np.ndarray, " t"]) -> Tensor:
    return torch.from_numpy(corpus.states.rows[corpus.text_rows[captions]].astype(np.float32))
