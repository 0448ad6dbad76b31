"""Readers of the data folders, on folders of a few rows in the same layout."""

import json
from pathlib import Path

import pytest

from engine.training.pairs import Pairs
from engine.training.sources import read_emoji, read_fashion, read_flickr8k


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    rows = [
        {
            "id": "a",
            "split": "train",
            "en": ["A dog runs ."] * 5,
            "zh": ["一只狗"],
            "de": ["Ein Hund"],
            "multi30k": {"en": "A dog.", "fr": "Un chien."},
        },
        {
            "id": "b",
            "split": "test",
            "en": ["A cat ."],
            "zh": ["一只猫"],
            "zh_human_translation": ["猫"],
            "ja_mt": ["猫です"],
            "multi30k": {},
        },
        {"id": "c", "split": "unassigned", "en": ["A bird ."], "zh": [], "multi30k": None},
    ]
    lines = (json.dumps(row | {"image_path": f"images/{row['id']}.jpg"}) for row in rows)
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_flickr8k_keeps_its_splits_and_languages(flickr8k: Path) -> None:
    items = {item.id: item for item in read_flickr8k(flickr8k)}
    assert {name: item.split for name, item in items.items()} == {"a": "train", "b": "test", "c": "train"}
    assert items["a"].image == flickr8k / "images" / "a.jpg"
    kinds = {(caption.kind, caption.language) for item in items.values() for caption in item.captions}
    assert kinds == {
        ("caption", "en"), ("caption", "zh"), ("caption", "de"), ("multi30k", "en"), ("multi30k", "fr"),
        ("zh_human_translation", "zh"), ("ja_mt", "ja"),
    }  # fmt: skip
    assert len({caption.key for caption in items["a"].captions}) == 1


def test_fashion_titles_repeat_and_share_a_key(tmp_path: Path) -> None:
    header = "id,image_path,title,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,group,split\n"
    rows = (
        "1,images/1.jpg,Nike Red  Shoe,Men,Footwear,Shoes,Casual Shoes,Red,Fall,2011,Casual,1,train\n"
        "2,images/2.jpg,nike red shoe,Men,Footwear,Shoes,Casual Shoes,Red,Fall,2011,Casual,1,train\n"
    )
    (tmp_path / "metadata.csv").write_text(header + rows, encoding="utf-8")
    pairs = Pairs.build(list(read_fashion(tmp_path)))
    titles = pairs.find(kind="title", language="en")
    assert pairs.relevance(titles).all()
    assert {"red shoes", "红色鞋"} <= {caption.text for caption in pairs.captions}


def test_emoji_that_belong_together_are_held_out_together(tmp_path: Path) -> None:
    names = [f"{n:04X}" for n in range(0x1F400, 0x1F400 + 400)]
    rows = [
        {
            "id": name + tone,
            "group": "animals",
            "image_path": "x.jpg",
            "text": {"en": {"label": name, "tags": ["Paw"]}, "zh": {"label": name}},
        }
        for name in names
        for tone in ("", "-1F3FB")
    ]
    lines = (json.dumps(row | {"image_path": f"images/{row['id']}.jpg"}) for row in rows)
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    items = list(read_emoji(tmp_path))
    Pairs.build(items)
    held_out = [item for item in items if item.split == "val"]
    assert 300 <= len(held_out) <= 303
    assert [item.id for item in held_out] == [item.id for item in read_emoji(tmp_path) if item.split == "val"]
