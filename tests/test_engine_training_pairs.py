"""Pairs, their splits, and which text is right for which picture."""

from pathlib import Path

import numpy as np
import pytest

from engine.training.pairs import Caption, Item, Pairs, SplitLeak


def item(name: str, *keys: str, split: str = "train", group: str | None = None, image: str | None = None) -> Item:
    captions = tuple(Caption(f"{name} {key}", "en", "title", key) for key in keys)
    return Item(name, Path(image or f"{name}.jpg"), "shop", split, group or name, captions)  # type: ignore[arg-type]


def test_a_group_in_two_splits_is_refused() -> None:
    with pytest.raises(SplitLeak, match=r"'shoe-1'.*'a' in train.*'b' in val"):
        Pairs.build([item("a", "x", group="shoe-1"), item("b", "y", group="shoe-1", split="val")])


def test_a_picture_in_two_splits_is_refused() -> None:
    with pytest.raises(SplitLeak, match="picture"):
        Pairs.build([item("a", "x", image="same.jpg"), item("b", "y", image="same.jpg", split="test")])


def test_a_group_within_one_split_is_fine() -> None:
    assert len(Pairs.build([item("a", "x", group="g"), item("b", "y", group="g")]).items) == 2


def test_equal_keys_are_right_for_every_holder() -> None:
    pairs = Pairs.build([item("a", "red", "own-a"), item("b", "red"), item("c", "blue")])
    assert pairs.relevance(np.array([0, 1, 3])).tolist() == [[True, True, False], [True, False, False], [False, False, True]]


def test_captions_belong_to_their_items() -> None:
    pairs = Pairs.build([item("a", "x", "y"), item("b"), item("c", "z")])
    assert pairs.owner.tolist() == [0, 0, 2]
    assert [caption.key for caption in pairs.captions] == ["x", "y", "z"]
    assert pairs.find(kind="title", language="en").tolist() == [0, 1, 2]
    assert pairs.find(kind="title", language="zh").tolist() == []


def test_selection_renumbers() -> None:
    pairs = Pairs.build([item("a", "x"), item("b", "y", split="val")]).select(source="shop", split="val")
    assert [i.id for i in pairs.items] == ["b"]
    assert pairs.owner.tolist() == [0]
