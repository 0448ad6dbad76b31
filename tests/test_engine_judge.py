"""Judging results of a small shop: with and without a calibration, and what is proposed when nothing is found."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.cache import MemoryCache, TieredCache
from engine.confidence import FILE, Calibration, Calibrator, Sense
from engine.config import load_settings
from engine.datatypes import Document, Query, SearchResult, Term
from engine.evidence import FEATURES
from engine.search import SearchEngine
from engine.testing import COLOURS, FakeEncoder, tiny_catalogue

BEST = FEATURES.index("best")


def calibration(threshold: float = 0.5) -> Calibration:
    """Confident from a best score of 0.6 on; the word "qwrt" is nonsense."""
    weights = tuple(40.0 if place == BEST else 0.0 for place in range(len(FEATURES)))
    means = tuple(0.6 if place == BEST else 0.0 for place in range(len(FEATURES)))
    curve = Calibrator(weights, 0.0, means, (1.0,) * len(FEATURES), threshold, 0.1)
    encoder = FakeEncoder()
    sense = Sense(-9.0 * encoder.encode_texts(["qwrt"])[0], 3.0)
    bank = encoder.encode_texts(["sofa", "lamp", "tent", "drone"])
    return Calibration(encoder.fingerprint, {"titled": curve, "untitled": curve, "picture": curve}, sense, bank, bank, bank, bank)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[SearchEngine]:
    tiny_catalogue(tmp_path / "feed")
    cache = TieredCache(MemoryCache(1_000, ttl_s=60), None)
    with SearchEngine(load_settings(data=tmp_path / "data"), FakeEncoder(), cache, calibration()) as engine:
        documents = [
            Document(f"p{n}", f"{colour} mug", images=(f"{colour}.png",), attributes={"price": n * 10, "colour": colour})
            for n, colour in enumerate(COLOURS, start=1)
        ]
        engine.index("shop", documents, base=tmp_path / "feed")
        yield engine


def ask(engine: SearchEngine, *terms: Term, k: int = 10, where: str | None = None) -> SearchResult:
    (answer,) = engine.search_many("shop", [Query(terms, k=k, where=where)])
    assert isinstance(answer, SearchResult)
    return answer


def test_what_is_there_is_an_answer(shop: SearchEngine) -> None:
    result = ask(shop, Term("red mug"))
    assert result.decision == "answer"
    assert (result.confidence or 0) > 0.9
    assert result.broaden == ()


def test_what_is_not_there_is_drawn_and_nonsense_is_not(shop: SearchEngine) -> None:
    assert ask(shop, Term("wedding dress")).decision == "generate"
    assert ask(shop, Term("qwrt")).decision == "abstain"


def test_what_is_refused_and_what_says_nothing_is_not_drawn(shop: SearchEngine) -> None:
    assert ask(shop, Term("naked woman")).decision == "abstain"
    assert ask(shop, Term("儿童色情")).decision == "abstain"
    assert ask(shop, Term("!!! ???")).decision == "abstain"
    assert ask(shop, Term("wedding dress"), Term("naked woman", -0.5)).decision == "generate"
    assert ask(shop, Term("🎸")).decision == "generate"


def test_confidence_does_not_depend_on_how_many_hits_are_asked_for(shop: SearchEngine) -> None:
    assert ask(shop, Term("red"), k=1).confidence == ask(shop, Term("red"), k=6).confidence


def test_pictures_have_a_confidence_of_their_own(shop: SearchEngine, tmp_path: Path) -> None:
    result = shop.search("shop", image=tmp_path / "feed" / "red.png")
    assert (result.confidence or 0) > 0.9
    assert result.decision == "answer"


def test_a_filter_that_is_to_blame_is_named_with_what_would_match(shop: SearchEngine) -> None:
    result = ask(shop, Term("red mug"), where="price > 15 and price < 45")
    assert result.decision == "broaden"
    named = {(step.kind, step.without): step.matches for step in result.broaden}
    assert named["filter", "price > 15"] == 4
    assert ("filter", "price < 45") not in named  # without it there is still no red mug
    assert named["filter", "price > 15 and price < 45"] == 6


def test_a_filter_that_admits_nothing_is_broadened_even_without_a_calibration(shop: SearchEngine, tmp_path: Path) -> None:
    cache = TieredCache(MemoryCache(0, ttl_s=60), None)
    with SearchEngine(load_settings(data=tmp_path / "data"), FakeEncoder(), cache) as plain:
        result = ask(plain, Term("red mug"), where="price > 1000")
        assert (result.confidence, result.decision, result.hits) == (0.0, "broaden", ())
        assert [(step.without, step.matches) for step in result.broaden] == [("price > 1000", 6)]
        assert ask(plain, Term("red mug")).confidence is None


def test_a_term_that_is_to_blame_is_named(shop: SearchEngine) -> None:
    result = ask(shop, Term("red"), Term("wedding dress", 2.0))
    assert result.decision == "broaden"
    assert [step.without for step in result.broaden] == ["wedding dress"]


def test_the_collections_own_calibration_is_used_as_soon_as_it_is_there(shop: SearchEngine) -> None:
    strict = replace(calibration(), curves={name: replace(c, threshold=1.01) for name, c in calibration().curves.items()})
    folder = shop.collection("shop").path
    strict.save(folder / FILE)
    assert ask(shop, Term(FakeEncoder().encode_texts(["red mug"])[0])).decision == "generate"
    (folder / FILE).unlink()
    assert ask(shop, Term(FakeEncoder().encode_texts(["red mug"])[0])).decision == "answer"


def test_a_damaged_calibration_of_a_collection_costs_no_answer(shop: SearchEngine) -> None:
    (shop.collection("shop").path / FILE).write_text("{")
    assert ask(shop, Term("red mug")).decision == "answer"


def test_a_calibration_of_another_encoder_is_not_used(tmp_path: Path) -> None:
    other = replace(calibration(), fingerprint="another")
    cache = TieredCache(MemoryCache(0, ttl_s=60), None)
    with SearchEngine(load_settings(data=tmp_path / "data"), FakeEncoder(), cache, other) as engine:
        tiny_catalogue(tmp_path / "feed")
        engine.index("shop", [Document("p1", "red mug", images=("red.png",))], base=tmp_path / "feed")
        assert engine.search("shop", "red").confidence is None


def test_vectors_at_give_the_scores(shop: SearchEngine) -> None:
    collection = shop.collection("shop")
    query = FakeEncoder().encode_texts(["red mug"])[0]
    weights = np.array([0.4, 0.6], np.float32)
    found = collection.search(query[None], 6, weights=weights[None])[0]
    vectors = collection.vectors_at([candidate.key for candidate in found] + [12345], query, weights)
    assert np.allclose(vectors[:-1] @ query, [candidate.score for candidate in found], atol=2e-3)
    assert not vectors[-1].any()
