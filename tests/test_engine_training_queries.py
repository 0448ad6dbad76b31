"""The stage that teaches queries: they come near what they ask for, and pictures do not move."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine.encoders.heads import HeadShape
from engine.encoders.towers import ImageShape, ImageTower, StageShape, TextShape, TextTower, Towers
from engine.training.corpus import Corpus
from engine.training.features import Cut, States
from engine.training.pairs import Caption, Item, Pairs
from engine.training.pretrained import Classifier
from engine.training.queries import QueryStage, learn_queries
from engine.training.trainer import Model
from engine.training.views import CachedView, Views

COUNT, COLOURS, WIDTH = 60, 5, 24
STAGE = QueryStage(steps=60, rate=3e-3, warmup=5, average=0.9, counts={"fashion": 30})


def captions(n: int) -> tuple[Caption, ...]:
    colour = n % COLOURS
    return Caption(f"title {n}", "en", "title", f"title:{n}"), Caption(f"colour {colour}", "en", "query", f"colour:{colour}")


def shop() -> tuple[Model, Corpus]:
    """Products of five colours: their pictures, titles and a query for the colour, each a noisy random code."""
    random = np.random.default_rng(0)
    items = [Item(str(n), Path(f"{n}.jpg"), "fashion", "train", str(n), captions(n)) for n in range(COUNT)]
    colours = random.normal(size=(2, COLOURS, WIDTH))
    rows = np.repeat(np.arange(COUNT) % COLOURS, 2)
    states = colours[np.tile([0, 1], COUNT), rows] + 0.3 * random.normal(size=(2 * COUNT, WIDTH))
    pictures = random.normal(size=(COLOURS, 256))[np.arange(COUNT) % COLOURS] + random.normal(size=(COUNT, 256))
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    views = Views(CachedView(pictures.astype(np.float32), np.arange(COUNT)), {})
    kept = States(states.astype(np.float16), np.arange(2 * COUNT + 1), 2 * COUNT)
    texts = tuple(str(n) for n in range(2 * COUNT))
    classifier = Classifier(np.zeros((1, 8), np.float32), np.zeros(1, np.float32))
    corpus = Corpus(
        Pairs.build(items),
        texts,
        np.arange(2 * COUNT),
        (),
        views,
        np.zeros((COUNT, 8), np.float32),
        kept,
        classifier,
        np.zeros((2 * COUNT, 4), np.float32),
    )
    torch.manual_seed(0)
    image = ImageTower(ImageShape(size=8, stem=8, stages=(StageShape(3, 2, 1, 8, 1),), features=8, head=HeadShape(8, hidden=8)))
    text = TextTower(TextShape(width=WIDTH, layers=1, heads=4, hidden=16, positions=8, head=HeadShape(WIDTH, hidden=32)))
    return Model(Towers(image, text), Cut(1, 1), 4), corpus


def nearness(model: Model, corpus: Corpus) -> float:
    """How much nearer queries are to titles of their colour than to others."""
    with torch.no_grad():
        vectors = model.text.head.eval()(torch.from_numpy(corpus.states.rows.astype(np.float32))).numpy()
    cosines = vectors[1::2] @ vectors[0::2].T
    same = (np.arange(COUNT)[:, None] - np.arange(COUNT)) % COLOURS == 0
    return float(cosines[same].mean() - cosines[~same].mean())


def test_queries_come_near_the_titles_of_what_they_ask_for() -> None:
    model, corpus = shop()
    before, pictures = nearness(model, corpus), {n: p.clone() for n, p in model.image.named_parameters()}
    learn_queries(model, corpus, STAGE, 0, lambda *_: None)
    assert nearness(model, corpus) > before + 0.2
    assert all(torch.equal(pictures[name], parameter) for name, parameter in model.image.named_parameters())


def test_texts_are_held_near_where_they_were() -> None:
    moved = []
    for near in (0.0, 20.0):
        model, corpus = shop()
        states = torch.from_numpy(corpus.states.rows.astype(np.float32))
        with torch.no_grad():
            before = model.text.head.eval()(states)
        learn_queries(
            model, corpus, QueryStage(60, 3e-3, warmup=5, near=near, average=0.9, counts={"fashion": 30}), 0, lambda *_: None
        )
        with torch.no_grad():
            moved.append(1.0 - functional.cosine_similarity(before, model.text.head(states)).mean().item())
    assert moved[1] < 0.5 * moved[0]


def test_the_same_seed_gives_the_same_head() -> None:
    (one, corpus), (two, _) = shop(), shop()
    for model in (one, two):
        learn_queries(model, corpus, QueryStage(5, counts={"fashion": 30}), 3, lambda *_: None)
    assert nearness(one, corpus) == pytest.approx(nearness(two, corpus), abs=1e-6)
