"""What drawings are worth: the judge learns what it is shown, and the figures say what they claim."""

import numpy as np
import pytest

from engine.training.drawing.card import decoder_card, figures_table
from engine.training.drawing.evaluate import Wanted, nearness, round_trip
from engine.training.drawing.release import contact_sheet
from engine.training.drawing.scorer import Judge, Products, train_judge

COLOURS, TYPES = ("red", "green", "blue", "black"), ("shirt", "shoe", "bag")


@pytest.fixture(scope="module")
def world() -> tuple[Judge, Products]:
    """Twelve products that features and sentences tell apart, twenty times each with noise."""
    random = np.random.default_rng(0)
    centres, meanings = random.normal(size=(12, 40)), random.normal(size=(12, 24))
    titles = np.tile(np.arange(12), 20)
    features = (centres[titles] + 0.1 * random.normal(size=(240, 40))).astype(np.float32)
    sentences = (meanings[titles] + 0.1 * random.normal(size=(240, 24))).astype(np.float32)
    labels = {"articleType": [TYPES[t % 3] for t in titles], "baseColour": [COLOURS[t % 4] for t in titles]}
    products = Products(features, sentences, titles, labels)
    return train_judge(products, 0, epochs=600), products


def test_right_pictures_are_found_and_wrong_ones_are_not(world: tuple[Judge, Products]) -> None:
    judge, products = world
    first = slice(0, 12)
    wanted = Wanted(products.titles[first], {name: names[first] for name, names in products.labels.items()})
    right = round_trip(judge, products.features[first], products.sentences[first], wanted)
    assert right == {"R@1": 100.0, "R@10": 100.0, "articleType": 100.0, "baseColour": 100.0}
    shifted = np.roll(products.features[first], 1, 0)
    wrong = round_trip(judge, shifted, products.sentences[first], wanted)
    assert wrong["R@1"] == 0.0
    assert wrong["articleType"] == 0.0
    assert wrong["baseColour"] == 0.0


def test_a_picture_the_judge_cannot_see_earns_nothing(world: tuple[Judge, Products]) -> None:
    judge, products = world
    same = np.repeat(products.features.mean(0, keepdims=True), 12, 0)
    wanted = Wanted(products.titles[:12], {name: names[:12] for name, names in products.labels.items()})
    assert round_trip(judge, same, products.sentences[:12], wanted)["R@1"] <= 100 / 12 + 0.1


def test_a_copy_is_at_distance_nothing(world: tuple[Judge, Products]) -> None:
    _, products = world
    known = products.features[:100]
    assert nearness(known[:5], known) == pytest.approx(np.ones(5), abs=1e-5)
    assert nearness(-known[:5], known).max() < 0.9


def test_a_contact_sheet_has_its_pictures_in_reading_order() -> None:
    pictures = [np.full((4, 4, 3), number, np.uint8) for number in range(6)]
    sheet = contact_sheet(pictures, 3)
    assert sheet.shape == (8, 12, 3)
    assert sheet[::4, ::4, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_card_shows_the_figures_and_says_when_there_are_none() -> None:
    figures = {"drawing": {"R@10": 12.34}, "a random product's photo": {"R@10": 1.5}}
    assert "| drawing | 12.3 |" in figures_table(figures)
    assert "Not measured." in decoder_card({}, 1_000_000)
    assert "| a random product's photo | 1.5 |" in decoder_card({"figures": figures}, 1_000_000)
