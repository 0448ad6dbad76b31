"""The teacher: who is taught by what."""

from pathlib import Path

import numpy as np
import pytest

from engine.training.pairs import Caption
from engine.training.teacher import english, sentence_vectors, teach

CAPTIONS = (
    Caption("a dog", "en", "caption", "photo:1"),
    Caption("a puppy", "en", "caption", "photo:1"),
    Caption("一只狗", "zh", "caption", "photo:1"),
    Caption("犬", "ja", "caption", "photo:unknown"),
)


@pytest.fixture
def vectors() -> dict[str, np.ndarray]:
    rows = np.eye(384, dtype=np.float32)
    return {"a dog": rows[0], "a puppy": rows[1], "laptop": rows[2]}


def test_other_languages_are_taught_by_the_english_of_their_key(vectors: dict[str, np.ndarray]) -> None:
    objects = (Caption("laptop", "en", "object", "imagenet:0"), Caption("笔记本电脑", "zh", "object", "imagenet:0"))
    captions = (*CAPTIONS, *objects)
    taught = teach(captions, {caption.text: row for row, caption in enumerate(captions)}, vectors)
    assert taught[0].tolist() == vectors["a dog"].tolist()
    assert taught[2][:3].tolist() == pytest.approx([0.5**0.5, 0.5**0.5, 0.0])
    assert not taught[3].any()
    assert taught[5].tolist() == vectors["laptop"].tolist()


def test_english_texts_are_listed_once() -> None:
    assert english([*CAPTIONS, *CAPTIONS]) == ["a dog", "a puppy"]


@pytest.mark.slow
def test_the_teacher_knows_what_means_the_same(tmp_path: Path) -> None:
    texts = ["a dog leaps over a log", "a puppy jumps a tree trunk", "two men repair a car"]
    found = sentence_vectors(texts, tmp_path, 1, lambda *_: None)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(3), abs=1e-2)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.2
    assert np.array_equal(found, sentence_vectors(texts, tmp_path, 1, lambda *_: None))
