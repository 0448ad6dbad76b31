"""A training run, small enough for every test run: what it learns, and that it is the same run twice."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.encoders.heads import HeadShape
from engine.encoders.towers import ImageShape, ImageTower, StageShape, TextShape, TextTower, Towers
from engine.training.corpus import Corpus, ObjectTexts
from engine.training.evaluate import recall
from engine.training.features import Cut, States
from engine.training.pairs import Caption, Item, Pairs
from engine.training.pretrained import Classifier
from engine.training.trainer import Model, Stage, Trainer, embed_pictures, embed_texts
from engine.training.views import CachedView, Views

PAIRS, UNSEEN, TOKENS, FEATURES, WIDTH, TAUGHT = 200, 1_000, 5, 48, 32, 12


def towers() -> Towers:
    stages = (StageShape(3, 2, 1, 8, 1),)
    image = ImageShape(size=8, stem=8, stages=stages, features=FEATURES, head=HeadShape(FEATURES, hidden=64, dropout=0.1))
    text = TextShape(width=WIDTH, layers=1, heads=4, hidden=32, positions=8, head=HeadShape(WIDTH, hidden=64, dropout=0.1))
    return Towers(ImageTower(image), TextTower(text))


def corpus() -> Corpus:
    """Pictures and texts that show the same 12 hidden numbers through different random maps and noise."""
    random = np.random.default_rng(0)
    count = PAIRS + UNSEEN
    hidden = random.normal(size=(count, 12))
    seen = hidden @ random.normal(size=(12, FEATURES))
    said = hidden @ random.normal(size=(12, WIDTH))
    pooled = (seen + random.normal(size=(count, FEATURES)) / 2).astype(np.float32)
    states = said[:, None, :] + random.normal(size=(count, TOKENS, WIDTH))
    items = [
        Item(
            str(n), Path(f"{n}.jpg"), "fashion", "train" if n < PAIRS else "val", str(n), (Caption(str(n), "en", "title", str(n)),)
        )
        for n in range(count)
    ]
    cached = States(states.reshape(-1, WIDTH).astype(np.float16), np.arange(count + 1) * TOKENS, count)
    classifier = Classifier(random.normal(size=(4, FEATURES)).astype(np.float32), np.zeros(4, np.float32))
    objects = tuple(ObjectTexts(np.array([row]), np.array([row])) for row in range(4))
    texts = tuple(str(n) for n in range(count))
    teacher = np.concatenate([hidden, random.normal(size=(4, TAUGHT))]).astype(np.float32)
    teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
    views = Views(CachedView(pooled, np.arange(count)), {})
    return Corpus(Pairs.build(items), texts, np.arange(count), objects, views, pooled, cached, classifier, teacher)


def train(steps: int, seed: int = 0, objects: int = 3) -> tuple[Model, Corpus]:
    torch.manual_seed(seed)
    data = corpus()
    trainer = Trainer(Model(towers(), Cut(1, 1), TAUGHT), data, seed, lambda *_: None)
    stage = Stage("heads", steps, head_rate=3e-3, warmup=5, objects=objects, average=0.9, counts={"fashion": 100})
    return trainer.run(stage), data


def unseen_recall(model: Model, data: Corpus) -> float:
    rows = np.arange(PAIRS, PAIRS + UNSEEN)
    scores = embed_texts(model, data, rows) @ embed_pictures(model, data, rows).T
    return recall(scores, np.eye(UNSEEN, dtype=bool)).r10


def test_200_pairs_teach_20_times_chance() -> None:
    chance = 100.0 * 10 / UNSEEN
    untrained, data = train(0)
    assert unseen_recall(untrained, data) < 5 * chance
    assert unseen_recall(*train(120)) >= 20 * chance


def test_the_same_seed_gives_the_same_model() -> None:
    (one, data), (two, _), (other, _) = train(5), train(5), train(5, seed=1)
    rows = np.arange(20)
    assert np.array_equal(embed_texts(one, data, rows), embed_texts(two, data, rows))
    assert not np.allclose(embed_texts(one, data, rows), embed_texts(other, data, rows))


def test_without_objects_pictures_are_trained_alone() -> None:
    model, data = train(5, objects=0)
    assert np.isfinite(embed_pictures(model, data, np.arange(20))).all()


def test_vectors_are_unit_rows_in_the_order_asked() -> None:
    model, data = train(2)
    rows = np.array([7, 3, 7])
    vectors = embed_texts(model, data, rows)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert np.allclose(vectors[0], vectors[2], atol=1e-6)
    assert not np.allclose(vectors[0], vectors[1])


def test_frozen_towers_stay_as_they_are() -> None:
    before = {name: value.clone() for name, value in towers().text.layers.state_dict().items()}
    model, _ = train(3)
    torch.manual_seed(0)
    fresh = towers()
    assert set(before) == set(model.text.layers.state_dict())
    assert all(torch.equal(value, fresh.text.layers.state_dict()[name]) for name, value in model.text.layers.state_dict().items())
