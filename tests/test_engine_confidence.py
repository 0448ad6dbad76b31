"""Curves, thresholds and decisions, and the file they travel in."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.confidence import CURVES, Calibration, Calibrator, Sense, threshold_for
from engine.errors import BundleError
from engine.evidence import FEATURES

BEST = FEATURES.index("best")


def curve(**changes: object) -> Calibrator:
    """A logistic curve of the best score alone, steepest at 0.4."""
    weights = tuple(1.0 if place == BEST else 0.0 for place in range(len(FEATURES)))
    means = tuple(0.4 if place == BEST else 0.0 for place in range(len(FEATURES)))
    plain = Calibrator(weights, 0.0, means, (0.1,) * len(FEATURES))
    return replace(plain, **changes)  # type: ignore[arg-type]


def described(best: float) -> np.ndarray:
    row = np.zeros(len(FEATURES))
    row[BEST] = best
    return row


def unit(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 256)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def calibration() -> Calibration:
    sense = Sense(np.eye(256, dtype=np.float32)[0] * 8, 0.0)
    beside = (unit(3), unit(2, 1), unit(4, 2), unit(5, 3))
    return Calibration("f" * 16, {name: curve() for name in CURVES}, sense, *beside, {"ece": 0.01})


def test_a_higher_score_is_likelier_to_hold_an_answer() -> None:
    low, middle, high = (float(curve().probability(described(best))) for best in (0.2, 0.4, 0.7))
    assert low < middle < high
    assert middle == pytest.approx(0.5)


def test_an_outlier_moves_the_curve_no_further_than_five_deviations() -> None:
    assert float(curve().probability(described(9.0))) == float(curve().probability(described(0.9)))


def test_decisions_follow_the_threshold_and_the_sense(calibration: Calibration) -> None:
    meaningful, nonsense = np.eye(256, dtype=np.float32)[0], -np.eye(256, dtype=np.float32)[0]
    assert calibration.decide("titled", 0.9, nonsense) == "answer"
    assert calibration.decide("titled", 0.1, meaningful) == "generate"
    assert calibration.decide("titled", 0.1, nonsense) == "abstain"
    assert calibration.decide("picture", 0.1) == "generate"


def test_a_picture_is_compared_with_pictures_and_words_with_words(calibration: Calibration) -> None:
    assert calibration.background("picture").queries is calibration.pictures
    assert calibration.background("titled").queries is calibration.words
    assert calibration.background("untitled").titles is calibration.titles


def test_saved_and_loaded_it_says_the_same(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(tmp_path / "calibrator.json")
    loaded = Calibration.load(tmp_path / "calibrator.json")
    assert (loaded.fingerprint, loaded.curves, loaded.figures) == (calibration.fingerprint, calibration.curves, calibration.figures)
    for name in ("words", "pictures", "titles", "concepts"):
        assert np.abs(getattr(loaded, name) - getattr(calibration, name)).max() < 0.005
    assert loaded.sense is not None
    assert loaded.sense.probability(np.eye(256, dtype=np.float32)[0]) > 0.99


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"format": 1}'])
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    (tmp_path / "calibrator.json").write_text(damage)
    with pytest.raises(BundleError, match=r"calibrator\.json.*calibrate again"):
        Calibration.load(tmp_path / "calibrator.json")


def test_a_file_for_other_features_is_refused(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "calibrator.json"
    calibration.save(path)
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"features": fields["features"][1:]}))
    with pytest.raises(BundleError, match="features"):
        Calibration.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        Calibration.load(tmp_path / "none.json")


def results(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and whether each answer is wrong: the likelier right the surer."""
    random = np.random.default_rng(seed)
    confidence = random.random(count)
    return confidence, (random.random(count) > confidence).astype(np.float64)


def test_the_stated_risk_holds_on_unseen_queries() -> None:
    """Over 100 fresh draws the error among the answered is on average no more than was stated, and little is given away."""
    rates = []
    for seed in range(100):
        confidence, wrong = results(2_000, seed)
        level = threshold_for(confidence, wrong, np.ones(2_000), 0.2)
        unseen, failed = results(2_000, 1_000 + seed)
        rates.append(failed[unseen >= level].mean())
    assert 0.1 < np.mean(rates) <= 0.2
    assert np.mean(np.array(rates) > 0.2) < 0.15


def test_without_a_threshold_that_will_do_nothing_is_answered() -> None:
    assert threshold_for(np.array([0.9, 0.8]), np.array([1.0, 1.0]), np.ones(2), 0.1) > 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.floats(0.05, 0.9))
def test_what_a_threshold_admits_was_wrong_no_oftener_than_stated(pairs: list[tuple[float, bool]], risk: float) -> None:
    confidence, wrong = (np.array(list(column), np.float64) for column in zip(*pairs, strict=True))
    level = threshold_for(confidence, wrong, np.ones(len(pairs)), risk)
    admitted = confidence >= level
    assert not admitted.any() or wrong[admitted].mean() <= risk


def test_tilts_count_by_how_well_the_words_suit_pictures_in_general() -> None:
    tilted = curve(tilts=tuple(1.0 if place == BEST else 0.0 for place in range(len(FEATURES))))
    rows = np.stack([described(0.5)] * 3)
    rows[:, FEATURES.index("elsewhere")] = (-0.5, 0.0, 0.5)
    unsuited, between, suited = tilted.probability(rows)
    assert unsuited == pytest.approx(0.5, abs=1e-3)
    assert between == pytest.approx(float(curve().probability(described(0.5))))
    assert suited == pytest.approx(1 / (1 + np.exp(-2.0)), abs=1e-3)


def test_tilts_are_kept_and_a_wrong_number_of_them_is_refused(calibration: Calibration, tmp_path: Path) -> None:
    tilts = tuple(float(place) for place in range(len(FEATURES)))
    replace(calibration, curves={"untitled": curve(tilts=tilts), "titled": curve()}).save(tmp_path / "c.json")
    read = Calibration.load(tmp_path / "c.json")
    assert read.curves["untitled"].tilts == tilts
    assert read.curves["titled"].tilts == ()
    replace(calibration, curves={"titled": curve(tilts=(1.0, 2.0))}).save(tmp_path / "c.json")
    with pytest.raises(BundleError, match="2 tilts"):
        Calibration.load(tmp_path / "c.json")
