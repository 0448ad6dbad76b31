"""Words and inverted lists against a count by hand, in memory and from files."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from engine.index import lexical
from engine.index.lexical import LENGTH_SHARE, SATURATION, Lexical, LexicalWriter
from engine.index.matches import contenders
from engine.index.wording import EXACT, Statistics, Wording
from engine.index.words import MAX_COUNT, MAX_WORDS, _in_any_script, asked, counted, digest, fold, whole, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red Shoes", ["red", "shoes"]),
        ("WH-1000XM4", ["wh", "1000xm4", "wh1000xm4"]),
        ("Café d'Été", ["cafe", "d", "ete", "dete"]),
        ("ＡＢＣ１２", ["abc12"]),
        ("连衣裙", ["连", "衣", "裙", "连衣", "衣裙"]),
        ("nike鞋2号", ["nike", "鞋", "2", "号"]),
        ("プロ", ["プ", "ロ", "プロ"]),
        ("हिन्दी", ["हिन्दी"]),
        ("_ - !", []),
    ],
)
def test_texts_are_cut_into_words(text, expected):
    assert list(words(text)) == expected


@given(st.text("aBz09-./_'&+ \t\x1c,;é’ß鞋", max_size=20))
def test_plain_words_are_cut_by_the_rule_of_any_script(text):
    assert words(text) == list(_in_any_script(fold(text), single=True))


@given(st.text(st.characters(codec="ascii"), max_size=20))
def test_the_short_way_of_plain_text_folds_and_digests_as_the_long_way(text):
    assert f"{fold(text)}e" == fold(f"{text}é")
    assert whole(text) == whole(f"{text}🛍")  # of which only letters and digits count


def test_a_query_asks_for_pairs_where_there_are_pairs_and_for_each_word_once():
    assert asked(["连衣裙", "red RED"]) == ["连衣", "衣裙", "red"]
    assert asked(["鞋"]) == ["鞋"]


def test_kana_keep_their_marks_when_accents_are_folded():
    assert fold("ガラスÉ") == "ガラスe"


def test_an_id_is_one_however_it_is_spelled():
    assert whole("SKU-1001") == whole("sku 1001") == whole("Sku_1001") != whole("sku 1002")


def test_no_document_has_more_words_than_the_limit():
    found, counts = counted("a", "x " * 1000, " ".join(f"w{n}" for n in range(10 * MAX_WORDS)), {})
    assert len(found) <= MAX_WORDS + 1
    assert counts.max() == MAX_COUNT


def test_numbers_long_enough_to_be_barcodes_are_words():
    found, _ = counted("a", "", "", {"ean": 4006381333931, "price": 30, "new": True, "tags": ("big", "red")})
    assert digest("4006381333931") in found
    assert digest("30") not in found
    assert {digest("big"), digest("red")} <= set(found.tolist())


TEXTS = st.lists(st.lists(st.sampled_from(["red", "blue", "shoe", "nike", "x1"]), max_size=6).map(" ".join), max_size=8)


@settings(deadline=None, max_examples=30)
@given(texts=TEXTS, block=st.integers(1, 12))
def test_what_is_written_block_by_block_is_what_was_counted(tmp_path_factory, texts, block):
    folder = tmp_path_factory.mktemp("lexical")
    every = [counted(f"d{n}", text, "", {}) for n, text in enumerate(texts)]
    writer = LexicalWriter(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lexical, "BLOCK", block)
        for one in every:
            writer.add(one)
        writer.finish()
    assert len(list(folder.iterdir())) == 5
    for found in (Lexical.open(folder), Lexical.of(every)):
        assert found.lengths.tolist() == [int(counts.sum()) for _, counts in every]
        for word in ["red", "blue", "shoe", "nike", "x1", "d0", "nobody"]:
            expected = {n: 2 * Counter(f"d{n} {text}".split())[word] for n, text in enumerate(texts)}
            documents, counts = found.having(digest(word))
            assert dict(zip(documents.tolist(), counts.tolist(), strict=True)) == {n: c for n, c in expected.items() if c}


class Shelf:
    """A part of the index of which only the words matter."""

    def __init__(self, *titles: str) -> None:
        self.keys = np.arange(len(titles))
        self.lexical = Lexical.of([counted(f"id{n}", title, "", {}) for n, title in enumerate(titles)])

    def __len__(self) -> int:
        return len(self.lexical.lengths)


def test_scores_are_bm25_over_the_information_of_the_query():
    shelf = Shelf("nike red shoe", "red shoe", "blue hat")
    statistics = Statistics([shelf], [BitMap()])
    wording = statistics.wording(["nike red car"])
    rarity = {"nike": 1, "red": 2, "car": 0}
    information = {word: math.log(1 + (3 - n + 0.5) / (n + 0.5)) for word, n in rarity.items()}
    assert wording.information == pytest.approx([information[word] for word in ("nike", "red", "car")])
    lengths = [10, 8, 8]  # the id and the whole id count too, each word of a name twice
    gain = [(1 + SATURATION) / (1 + SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * n / (sum(lengths) / 3))) for n in lengths]
    total = sum(information.values())
    numbers, scores = wording.scores(shelf)
    assert numbers.tolist() == [0, 1]
    assert scores == pytest.approx(
        [gain[0] * (information["nike"] + information["red"]) / total, gain[1] * information["red"] / total]
    )


def test_what_is_dead_neither_counts_nor_lengthens_and_parts_do_not_matter():
    one = Statistics([Shelf("nike red shoe", "red hat", "red long long long car")], [BitMap([2])])
    two = Statistics([Shelf("nike red shoe"), Shelf("gone", "red hat")], [BitMap(), BitMap([0])])
    assert one.documents == two.documents == 2
    assert one.average == two.average
    assert one.wording(["nike red"]).information == two.wording(["nike red"]).information


def test_a_typed_id_lifts_its_document_alone_almost_to_one():
    shelf = Shelf("red shoe", "id0 red", "blue")
    statistics = Statistics([shelf], [BitMap()])
    wording = statistics.wording(["ID-0"])
    assert wording.whole == whole("id0")
    shares, lifts = Wording(**{**_fields(wording), "weight": 0.5}).at(shelf, np.arange(3))
    assert (shares[0], lifts[0]) == (1.0, pytest.approx(EXACT))
    assert max(lifts[1:]) <= 0.5
    assert statistics.wording(["red shoe"]).whole is None
    assert statistics.wording(["id0", "red"]).whole is None


def _fields(wording: Wording) -> dict[str, object]:
    return {name: getattr(wording, name) for name in ("words", "information", "average", "whole")}


@given(
    st.lists(st.text("abcde ", max_size=12), min_size=1, max_size=40), st.text("abcde ", max_size=20), st.integers(1, 9), st.data()
)
def test_the_best_documents_are_found_without_scoring_the_others(titles, query, k, data):
    shelf = Shelf(*titles)
    admitted = np.array(data.draw(st.lists(st.booleans(), min_size=len(titles), max_size=len(titles))))
    asked = Wording(**{**_fields(Statistics([shelf], [BitMap()]).wording([query])), "weight": 0.5})
    numbers, shares = asked.scores(shelf)
    here, shares = numbers[admitted[numbers]], shares[admitted[numbers]]
    expected = here[contenders(asked.at(shelf, here)[1], k)]
    assert asked.best(shelf, k, admitted).tolist() == expected.tolist()
    assert asked.most(shelf, admitted) == max([0.0, *shares.tolist()])


def test_an_unknown_word_is_tried_cut_where_letters_meet_digits():
    statistics = Statistics([Shelf("iPhone 15 Pro", "Galaxy S24")], [BitMap()])
    assert statistics.wording(["iphone15"]).words == ("iphone", "15")
    assert statistics.wording(["s24"]).words == ("s24",)
    assert statistics.wording(["qqq77"]).words == ("qqq77",)


def test_nothing_scores_where_nothing_is():
    assert Statistics([], []).wording(["red"]).average == 0
    shelf = Shelf("blue")
    numbers, scores = Statistics([shelf], [BitMap()]).wording(["red", "!"]).scores(shelf)
    assert (len(numbers), scores.dtype) == (0, np.float32)
    empty = Lexical.of([])
    assert len(empty.having(digest("x"))[0]) == 0


def test_a_file_that_is_empty_opens(tmp_path: Path):
    writer = LexicalWriter(tmp_path)
    writer.finish()
    assert len(Lexical.open(tmp_path).having(digest("x"))[0]) == 0
