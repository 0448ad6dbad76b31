"""Prompts: emphasis in two languages, weights, styles, templates."""

import pytest

from engine.cache import MemoryCache, TieredCache
from engine.config import Settings
from engine.datatypes import Document, Query
from engine.errors import InvalidInput, InvalidQuery
from engine.generation.prompts import STYLES, TEMPLATES, WEIGHTS, category_of, parse_prompt, sentence, styled, terms_of
from engine.search import SearchEngine
from engine.testing import COLOURS, FakeEncoder, tiny_catalogue


def parts(text: str) -> list[tuple[str, str]]:
    return [(part.role, part.text) for part in parse_prompt(text).parts]


def test_words_without_emphasis_are_one_term_as_typed():
    (term,) = terms_of("red  running [shoes]")
    assert (term.content, term.weight) == ("red  running [shoes]", 1.0)


def test_emphasis_in_english():
    assert parts("[focus:gold-rimmed glasses][style:retro][scene:cafe]") == [
        ("focus", "gold-rimmed glasses"),
        ("style", "retro"),
        ("scene", "cafe"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[重点:金丝眼镜][风格:复古][场景:巴黎咖啡馆]",
        "[重点：金丝眼镜][风格：复古][场景：巴黎咖啡馆]",
        "【重點：金丝眼镜】［風格: 复古 ］[ 場景 :巴黎咖啡馆]",
    ],
)
def test_emphasis_in_chinese_with_either_colon(text):
    assert parts(text) == [("focus", "金丝眼镜"), ("style", "复古"), ("scene", "巴黎咖啡馆")]


def test_the_words_around_emphasis_are_the_subject_and_come_first():
    assert parts("a [STYLE: retro ] red\n dress [avoid:sleeves]") == [
        ("subject", "a red dress"),
        ("style", "retro"),
        ("avoid", "sleeves"),
    ]


@pytest.mark.parametrize("text", ["size [2:1]", "[style:]", "[style: ]", "[colour:red]", "[focus", "focus:red]"])
def test_what_is_no_emphasis_stays_words(text):
    assert parts(text) == [("subject", text)]


def test_weights_follow_the_role():
    terms = terms_of("dress [focus:red][style:retro][scene:cafe][avoid:sleeves]")
    assert [term.weight for term in terms] == [WEIGHTS[role] for role in ("subject", "focus", "style", "scene", "avoid")]


def test_only_avoiding_is_no_request():
    with pytest.raises(InvalidQuery, match="only says what to avoid"):
        parse_prompt("[avoid:red]")


def test_emphasis_steers_a_search(tmp_path):
    """What is stressed and what is avoided decide the order of the hits."""
    tiny_catalogue(tmp_path)
    mugs = [Document(colour, f"{colour} mug", images=(f"{colour}.png",)) for colour in COLOURS]
    settings = Settings(data=tmp_path / "data")
    with SearchEngine(settings, FakeEncoder(), TieredCache(MemoryCache(100, ttl_s=60), None)) as engine:
        engine.index("shop", mugs, base=tmp_path)

        def best(text: str) -> str:
            answer = engine.search_many("shop", [Query(terms_of(text), k=6)])[0]
            return answer.hits[0].title

        assert best("mug [focus:green]") == "green mug"
        assert best("red blue mug [avoid:blue]") == "red mug"
        assert best("mug [style:yellow][focus:black]") == "black mug"
        assert engine.search("shop", "mug [重点:green]").hits[0].title == "green mug"


def test_a_style_preset_is_one_more_part():
    assert styled(parse_prompt("a red dress"), "retro").of("style") == STYLES["retro"]
    assert styled(parse_prompt("a red dress"), None) == parse_prompt("a red dress")
    with pytest.raises(InvalidInput, match=r"no style 'baroque'.*modern"):
        styled(parse_prompt("a red dress"), "baroque")


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("red running shoes", "shoes"),
        ("a dressing table", "furniture"),
        ("blue kurta", "clothing"),
        ("[重点:金丝眼镜]", "accessory"),
        ("快速充电器", "electronics"),
        ("something", "product"),
    ],
)
def test_the_category_is_read_off_the_subject(text, category):
    assert category_of(parse_prompt(text)) == category


def test_the_sentence_holds_every_part_but_what_is_avoided():
    prompt = styled(parse_prompt("red shoes [focus:gold laces][scene:a cafe][avoid:mud]"), "retro")
    assert sentence(prompt) == "a photo of red shoes, gold laces, in a cafe, retro vintage style"
    assert sentence(parse_prompt("red shoes")) == "a product photo of red shoes, side view, white background"
    assert sentence(parse_prompt("red shoes"), "food").startswith("a food photo of red shoes")
    assert sentence(parse_prompt("[scene:cafe]")) == "a photo of cafe"
    with pytest.raises(InvalidInput, match="no category"):
        sentence(parse_prompt("x"), "spaceships")


@pytest.mark.parametrize("category", TEMPLATES)
def test_every_template_shows_the_subject(category):
    assert "red thing" in sentence(parse_prompt("red thing"), category)


def test_two_spellings_of_one_prompt_are_one():
    assert parse_prompt("[重点:眼镜]").parts == parse_prompt("【重点：眼镜 】").parts
