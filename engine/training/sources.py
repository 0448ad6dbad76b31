"""Readers of the data folders the default recipe learns from: Flickr8k, a fashion shop, emoji.

Each reader turns a folder into `Item`s with every text it offers, in every language. What the texts are worth in
training is decided in `engine.training.train`, not here.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from zlib import crc32

from engine.training.lexicon import Lexicon
from engine.training.pairs import Caption, Item, Split

EMOJI_HELD_OUT = 300
CAPTION_FIELDS = {"en": "en", "zh": "zh", "de": "de", "ja_mt": "ja", "zh_human_translation": "zh"}


def read_default(data: Path) -> list[Item]:
    """Read the three sources of the default recipe."""
    return [*read_flickr8k(data / "flickr8k"), *read_fashion(data / "fashion"), *read_emoji(data / "emoji")]


def read_flickr8k(folder: Path) -> Iterator[Item]:
    """Read Flickr8k with its captions in en, zh, de, ja (machine translation) and Multi30k's en, de, fr, cs.

    The 91 photos without an official split are used for training.
    """
    for row in _read_jsonl(folder / "metadata.jsonl"):
        split = row["split"] if row["split"] in ("train", "val", "test") else "train"
        captions = tuple(_flickr8k_captions(row))
        yield Item(row["id"], folder / row["image_path"], "flickr8k", cast(Split, split), row["id"], captions)


def _flickr8k_captions(row: dict[str, Any]) -> Iterator[Caption]:
    key = f"flickr8k:{row['id']}"
    for field, language in CAPTION_FIELDS.items():
        for text in row.get(field) or ():
            yield Caption(text, language, {"en": "caption", "zh": "caption", "de": "caption"}.get(field, field), key)
    for language, text in (row.get("multi30k") or {}).items():
        yield Caption(text, language, "multi30k", key)


def read_fashion(folder: Path) -> Iterator[Item]:
    """Read the shop: titles, and short everyday queries in several languages made from type, colour and gender."""
    lexicon = Lexicon.load()
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            title = Caption(row["title"], "en", "title", f"title:{' '.join(row['title'].lower().split())}")
            queries = (Caption(q.text, q.language, "query", q.key) for q in lexicon.queries(row))
            split = cast(Split, row["split"])
            yield Item(row["id"], folder / row["image_path"], "fashion", split, row["group"], (title, *queries))


def read_emoji(folder: Path) -> Iterator[Item]:
    """Read the emoji: label and tags in 28 languages; 300, chosen by a digest of their id, are held out for validation.

    Skin tones and genders of one emoji share a group by their first code point, so they are held out together.
    """
    rows = list(_read_jsonl(folder / "metadata.jsonl"))
    order = sorted({_emoji_group(row) for row in rows}, key=lambda group: crc32(group.encode()))
    held_out: set[str] = set()
    sizes = {group: sum(_emoji_group(row) == group for row in rows) for group in order}
    for group in order:
        if sum(sizes[g] for g in held_out) < EMOJI_HELD_OUT and sizes[group] <= 4:
            held_out.add(group)
    for row in rows:
        split: Split = "val" if _emoji_group(row) in held_out else "train"
        captions = tuple(_emoji_captions(row))
        yield Item(row["id"], folder / row["image_path"], "emoji", split, _emoji_group(row), captions)


def _emoji_group(row: dict[str, Any]) -> str:
    return f"{row['group']}:{row['id'].split('-')[0]}"


def _emoji_captions(row: dict[str, Any]) -> Iterator[Caption]:
    for language, texts in row["text"].items():
        yield Caption(texts["label"], language, "label", f"emoji:{row['id']}")
        for tag in texts.get("tags", ()):
            yield Caption(tag, language, "tag", f"emoji-tag:{language}:{tag.lower()}")


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
