"""Batches: what meets what in a training step."""

from pathlib import Path

import numpy as np

from engine.training.pairs import Caption, Item, Pairs
from engine.training.sampling import Sampler


def shop(count: int = 40) -> Pairs:
    """Products in four colours; two thirds are for training."""
    items = []
    for n in range(count):
        captions = (
            Caption(f"title {n}", "en", "title", f"title:{n}"),
            Caption(f"colour {n % 4}", "en", "query", f"colour:{n % 4}"),
            Caption(f"颜色 {n % 4}", "zh", "query", f"colour:{n % 4}"),
        )
        items.append(Item(str(n), Path(f"{n}.jpg"), "fashion", "train" if n % 3 else "val", str(n), captions))
    return Pairs.build(items)


def batches(pairs: Pairs, steps: int, seed: int = 0, usable: np.ndarray | None = None):
    allowed = np.ones(len(pairs.captions), bool) if usable is None else usable
    return list(Sampler(pairs, allowed, {"fashion": 10}, seed).batches(steps))


def test_only_training_items_are_drawn_and_each_in_turn() -> None:
    pairs = shop()
    drawn = [int(row) for batch in batches(pairs, 4) for row in batch.pictures]
    assert {pairs.items[row].split for row in drawn} == {"train"}
    train = [row for row, item in enumerate(pairs.items) if item.split == "train"]
    assert set(drawn) == set(train)


def test_positives_are_those_whose_key_the_picture_carries() -> None:
    pairs = shop()
    for batch in batches(pairs, 3):
        for group in batch.groups:
            for row, picture in enumerate(batch.pictures):
                keys = {caption.key for caption in pairs.items[picture].captions}
                assert group.positive[row].tolist() == [pairs.captions[text].key in keys for text in group.texts]
            assert group.positive.any(0).all()
            assert group.positive.any(1).all()


def test_every_picture_brings_its_title_and_one_other_text() -> None:
    pairs = shop()
    (batch,) = batches(pairs, 1)
    titles, queries = batch.groups
    assert len(titles.texts) == len(queries.texts) == len(batch.pictures)
    assert {pairs.captions[text].kind for text in titles.texts} == {"title"}
    assert {pairs.captions[text].kind for text in queries.texts} == {"query"}
    assert titles.naming.all()
    assert not queries.naming.any()
    assert (titles.weights > queries.weights).all()


def test_texts_that_are_not_cached_are_not_drawn() -> None:
    pairs = shop()
    usable = np.array([caption.language == "en" for caption in pairs.captions])
    drawn = [group.texts for batch in batches(pairs, 5, usable=usable) for group in batch.groups]
    assert all(usable[texts].all() for texts in drawn)


def test_a_group_nobody_has_a_text_for_is_left_out() -> None:
    pairs = shop()
    (batch,) = batches(pairs, 1, usable=np.array([caption.kind == "title" for caption in pairs.captions]))
    assert len(batch.groups) == 1


def test_the_same_seed_draws_the_same() -> None:
    one, two, other = batches(shop(), 3), batches(shop(), 3), batches(shop(), 3, seed=1)
    assert all(np.array_equal(a.groups[1].texts, b.groups[1].texts) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a.pictures, b.pictures) for a, b in zip(one, other, strict=True))
