"""Heads for one's own catalogue: a linear map a tower, trained on stored vectors, and kept only if they find more.

Needs no torch and no pictures: a collection's vectors are the cached features. The default bundle's own heads, which are trained
on features of the towers, are in `engine.training.train`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
from jaxtyping import Bool, Float32, Int64

from engine.datatypes import Vectors
from engine.encoders.adapted import Heads
from engine.errors import InvalidInput
from engine.training.evaluate import Recall, ranks, recall
from engine.training.pairs import Split, SplitLeak

LEAST_PAIRS = 50
STEPS = 600
BATCH = 256
RATE = 2e-3
TEMPERATURE = 0.05
TOWARDS_IDENTITY = 1e-3
CHECKS = 12
VALIDATION = 5  # every fifth group
RESAMPLES = 1_000

Report: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Pairings:
    """Vectors that belong together, row by row. Rows of one `key` are right for one another; a `group` is in one split."""

    texts: Vectors
    images: Vectors
    keys: Int64[np.ndarray, " n"]
    splits: tuple[Split, ...]

    @classmethod
    def build(
        cls, texts: Vectors, images: Vectors, keys: Sequence[str], groups: Sequence[str], splits: Sequence[Split] | None = None
    ) -> "Pairings":
        """Give every key a number and deal the groups into splits, unless they are given.

        Raises `SplitLeak` when a group crosses them, `InvalidInput` for too few pairs.
        """
        chosen = tuple(splits) if splits is not None else tuple(split_of(group) for group in groups)
        seen: dict[str, Split] = {}
        for group, split in zip(groups, chosen, strict=True):
            if seen.setdefault(group, split) != split:
                raise SplitLeak(f"group {group!r} is in the splits {seen[group]} and {split}: put all of it into one")
        if min(chosen.count("train"), len(chosen)) < LEAST_PAIRS or not chosen.count("val"):
            raise InvalidInput(
                f"{chosen.count('train')} pairs to train on and {chosen.count('val')} to validate: give products with title and "
                f"picture, at least {LEAST_PAIRS} and better 1,000"
            )
        numbers: dict[str, int] = {}
        return cls(texts, images, np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64), chosen)

    def part(self, split: Split) -> Int64[np.ndarray, " m"]:
        """List the rows of a split."""
        return np.flatnonzero([other == split for other in self.splits])


def split_of(group: str) -> Split:
    """Deal a group to training or validation by its name, the same on every machine."""
    return "val" if crc32(group.encode("utf-8", "surrogatepass")) % VALIDATION == 0 else "train"


def train_heads(pairs: Pairings, *, seed: int = 0, steps: int = STEPS, report: Report | None = None) -> Heads:
    """Train from the identity by symmetric InfoNCE in which every row of the same key is right; keep the best by validation.

    Same seed, same heads. `report(done, total)` is called now and then.
    """
    random = np.random.default_rng(seed)
    rows, best = pairs.part("train"), Heads.identity()
    best_score, moments = _score(pairs, best), _Moments.zero()
    heads = best
    for step in range(1, steps + 1):
        batch = random.choice(rows, min(BATCH, len(rows)), replace=False)
        rate = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
        heads, moments = moments.stepped(heads, _gradients(pairs, batch, heads), rate, step)
        if step % max(1, steps // CHECKS) == 0:
            score = _score(pairs, heads)
            if score > best_score:
                best, best_score = heads, score
            if report is not None:
                report(step, steps)
    return best


def _score(pairs: Pairings, heads: Heads) -> float:
    rows = pairs.part("val")
    relevant = pairs.keys[rows][:, None] == pairs.keys[rows][None, :]
    scores = heads.texts(pairs.texts[rows]) @ heads.images(pairs.images[rows]).T
    return float(np.mean(1.0 / ranks(scores, relevant)) + np.mean(1.0 / ranks(scores.T, relevant.T)))


def _gradients(pairs: Pairings, batch: Int64[np.ndarray, " b"], heads: Heads) -> Iterator[Float32[np.ndarray, "256 256"]]:
    x, y = pairs.texts[batch], pairs.images[batch]
    same = pairs.keys[batch][:, None] == pairs.keys[batch][None, :]
    target = (same / same.sum(1, keepdims=True)).astype(np.float32)
    (u, long_u), (v, long_v) = _normalised(x @ heads.text), _normalised(y @ heads.image)
    logits = u @ v.T / TEMPERATURE
    wrong = (_softmax(logits) + _softmax(logits.T).T) / 2 - (target + target.T) / 2
    for inputs, towards, own, length, head in (
        (x, wrong @ v, u, long_u, heads.text),
        (y, wrong.T @ u, v, long_v, heads.image),
    ):
        turned = (towards - (towards * own).sum(1, keepdims=True) * own) / length / TEMPERATURE
        yield inputs.T @ turned / len(batch) + TOWARDS_IDENTITY * (head - np.eye(len(head), dtype=np.float32))


def _normalised(rows: Float32[np.ndarray, "b d"]) -> tuple[Float32[np.ndarray, "b d"], Float32[np.ndarray, "b 1"]]:
    length = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return rows / length, length


def _softmax(logits: Float32[np.ndarray, "b c"]) -> Float32[np.ndarray, "b c"]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: Float32[np.ndarray, "b c"] = powers / powers.sum(1, keepdims=True)
    return shares


@dataclass(frozen=True, slots=True)
class _Moments:
    """Running moments of Adam (Kingma and Ba, ICLR 2015), for both heads."""

    first: tuple[np.ndarray, ...]
    second: tuple[np.ndarray, ...]

    @classmethod
    def zero(cls) -> "_Moments":
        zeros = tuple(np.zeros((256, 256), np.float32) for _ in range(2))
        return cls(zeros, zeros)

    def stepped(self, heads: Heads, gradients: Iterator[np.ndarray], rate: float, step: int) -> tuple[Heads, "_Moments"]:
        first, second, moved = [], [], []
        for gradient, m, v, head in zip(gradients, self.first, self.second, (heads.text, heads.image), strict=True):
            first.append(0.9 * m + 0.1 * gradient)
            second.append(0.98 * v + 0.02 * gradient**2)
            change = (first[-1] / (1 - 0.9**step)) / (np.sqrt(second[-1] / (1 - 0.98**step)) + 1e-8)
            moved.append((head - rate * change).astype(np.float32))
        return Heads(*moved), _Moments(tuple(first), tuple(second))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The heads beside the encoder alone on validation pairs, text -> image; `gain` is that of MRR with its 95 % interval."""

    before: Recall
    after: Recall
    gain: float
    low: float
    high: float

    @property
    def better(self) -> bool:
        """Whether the heads may be used: they find more, by more than noise."""
        return self.low > 0

    def as_dict(self) -> dict[str, Any]:
        """Lay it out as JSON."""
        interval = {"gain": round(self.gain, 4), "low": round(self.low, 4), "high": round(self.high, 4)}
        return {"before": self.before.as_dict(), "after": self.after.as_dict(), "mrr": interval}


def judge_heads(pairs: Pairings, heads: Heads, *, seed: int = 0) -> Verdict:
    """Compare heads with none on the validation pairs, question by question (paired bootstrap)."""
    rows = pairs.part("val")
    plain, adapted = (chosen.texts(pairs.texts[rows]) @ chosen.images(pairs.images[rows]).T for chosen in (Heads.identity(), heads))
    return verdict_on(pairs, plain, adapted, seed=seed)


def verdict_on(pairs: Pairings, before: Float32[np.ndarray, "v v"], after: Float32[np.ndarray, "v v"], *, seed: int = 0) -> Verdict:
    """Compare two rankings of the validation pictures for the validation titles, question by question (paired bootstrap)."""
    rows = pairs.part("val")
    relevant: Bool[np.ndarray, "v v"] = pairs.keys[rows][:, None] == pairs.keys[rows][None, :]
    gained = 1.0 / ranks(after, relevant) - 1.0 / ranks(before, relevant)
    drawn = np.random.default_rng(seed).integers(0, len(rows), (RESAMPLES, len(rows)))
    low, high = np.percentile(gained[drawn].mean(axis=1), (2.5, 97.5))
    return Verdict(recall(before, relevant), recall(after, relevant), float(gained.mean()), float(low), float(high))
