"""Heads on stored vectors: what one minute on 200 pairs is worth, and what may not be trained on."""

from pathlib import Path

import numpy as np
import pytest

from engine.encoders.adapted import ABOUT, AdaptedEncoder, Heads, read_heads, write_heads
from engine.errors import InvalidInput, ModelError
from engine.testing import FakeEncoder
from engine.training.adapt import Pairings, judge_heads, train_heads
from engine.training.evaluate import ranks
from engine.training.pairs import SplitLeak


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def turned(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Texts and their pictures in two spaces that know nothing of each other, seen through noise."""
    spaces = np.random.default_rng(99).normal(size=(2, 24, 256))
    random = np.random.default_rng(seed)
    thoughts = random.normal(size=(count, 24))
    return unit(thoughts @ spaces[0]), unit(thoughts @ spaces[1] + 0.2 * random.normal(size=(count, 256)))


def names(count: int) -> list[str]:
    return [f"product {number}" for number in range(count)]


def test_200_pairs_find_more_than_20_times_what_chance_finds() -> None:
    texts, images = turned(200)
    heads = train_heads(Pairings.build(texts, images, names(200), names(200)), steps=300)
    unseen_texts, unseen_images = turned(1_000, seed=1)
    rank = ranks(heads.texts(unseen_texts) @ heads.images(unseen_images).T, np.eye(1_000, dtype=bool))
    untrained = ranks(unseen_texts @ unseen_images.T, np.eye(1_000, dtype=bool))
    assert np.mean(untrained <= 10) < 0.03
    assert np.mean(rank <= 10) > 20 * 10 / 1_000


def test_the_same_seed_gives_the_same_heads() -> None:
    pairs = Pairings.build(*turned(120), names(120), names(120))
    assert train_heads(pairs, seed=3, steps=20).digest == train_heads(pairs, seed=3, steps=20).digest
    assert train_heads(pairs, seed=3, steps=20).digest != train_heads(pairs, seed=4, steps=20).digest


def test_a_leaked_split_is_caught() -> None:
    texts, images = turned(120)
    splits = ["train"] * 80 + ["val"] * 40
    groups = names(120)
    groups[100] = groups[3]
    with pytest.raises(SplitLeak, match="product 3"):
        Pairings.build(texts, images, groups, groups, splits)  # type: ignore[arg-type]


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 50"):
        Pairings.build(*turned(20), names(20), names(20))


def test_heads_that_change_nothing_do_not_pass_the_gate() -> None:
    pairs = Pairings.build(*turned(120), names(120), names(120))
    verdict = judge_heads(pairs, Heads.identity())
    assert not verdict.better
    assert (verdict.gain, verdict.low, verdict.high) == (0.0, 0.0, 0.0)
    assert judge_heads(pairs, train_heads(pairs, steps=60)).better


def test_noise_does_not_pass_the_gate() -> None:
    random = np.random.default_rng(5)
    texts, images = (unit(random.normal(size=(200, 256))) for _ in range(2))
    pairs = Pairings.build(texts, images, names(200), names(200))
    assert not judge_heads(pairs, train_heads(pairs, steps=40)).better


def heads() -> Heads:
    return Heads(*np.random.default_rng(0).normal(size=(2, 256, 256)).astype(np.float32))


def test_heads_are_read_back_with_their_encoder(tmp_path: Path) -> None:
    write_heads(tmp_path, heads(), FakeEncoder(), {"seed": 0})
    encoder = AdaptedEncoder.load(tmp_path, lambda spec: FakeEncoder())
    assert encoder.fingerprint != FakeEncoder.fingerprint
    plain = FakeEncoder().encode_texts(["red mug"])
    assert np.allclose(encoder.encode_texts(["red mug"]), heads().texts(plain))
    assert np.allclose(np.linalg.norm(encoder.encode_texts(["red mug"]), axis=1), 1.0)


def test_altered_heads_are_refused(tmp_path: Path) -> None:
    write_heads(tmp_path, heads(), FakeEncoder(), {})
    np.savez(tmp_path / "heads.npz", text=heads().text + 1, image=heads().image)
    with pytest.raises(ModelError, match="train them again"):
        read_heads(tmp_path)
    (tmp_path / ABOUT).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        read_heads(tmp_path)


def test_heads_of_another_encoder_are_refused(tmp_path: Path) -> None:
    class Other(FakeEncoder):
        fingerprint = "other"

    write_heads(tmp_path, heads(), FakeEncoder(), {})
    with pytest.raises(ModelError, match="train them again"):
        AdaptedEncoder.load(tmp_path, lambda spec: Other())
