"""The confidence of a result list."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.confidence import FEATURES, Calibration, Calibrator, features, fit
from engine.errors import BundleError


def results(count: int, best: float, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    lists = [np.sort(random.normal(0.2, 0.03, 10))[::-1] for _ in range(count)]
    return np.stack([features(np.concatenate([[best + random.normal(0, 0.02)], row[1:]]).astype(np.float32)) for row in lists])


@pytest.fixture
def calibrator() -> Calibrator:
    described = np.concatenate([results(200, 0.6, 1), results(200, 0.28, 2)])
    return fit(described, np.arange(400) < 200)


def test_a_clear_winner_is_likelier_than_a_flat_list(calibrator: Calibrator) -> None:
    clear = calibrator.probability(np.array([0.6, 0.2, 0.19, 0.18, 0.17, 0.16, 0.15, 0.14, 0.13, 0.12], np.float32))
    flat = calibrator.probability(np.linspace(0.26, 0.17, 10, dtype=np.float32))
    assert clear > 0.9
    assert flat < 0.1
    assert calibrator.decide(clear) == "answer"
    assert calibrator.decide(flat) == "abstain"
    assert calibrator.decide(flat, filtered=True) == "broaden"


def test_the_stated_probability_is_the_observed_rate() -> None:
    random = np.random.default_rng(3)
    lists = np.sort(random.uniform(0, 1, (4_000, 10)).astype(np.float32), axis=1)[:, ::-1]
    described = np.stack([features(row) for row in lists])
    truth = random.random(4_000) < 1 / (1 + np.exp(-8 * (described[:, 0] - 0.9)))
    calibrator = fit(described, truth)
    stated = np.array([calibrator.probability(row) for row in lists])
    for low, high in ((0.3, 0.5), (0.5, 0.7)):
        chosen = (stated >= low) & (stated < high)
        assert abs(stated[chosen].mean() - truth[chosen].mean()) < 0.06


def test_no_result_has_no_probability(calibrator: Calibrator) -> None:
    assert calibrator.probability(np.zeros(0, np.float32)) == 0.0
    assert calibrator.probability(np.full(3, -np.inf, np.float32)) == 0.0


@given(st.lists(st.floats(-1, 1, width=32), max_size=40))
def test_any_number_of_scores_gives_a_probability(scores: list[float]) -> None:
    calibrator = Calibrator((1.0,) * len(FEATURES), 0.0, (0.0,) * len(FEATURES), (1.0,) * len(FEATURES))
    assert 0.0 <= calibrator.probability(np.array(scores, np.float32)) <= 1.0


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=15), st.randoms())
def test_order_does_not_matter(scores: list[float], random: object) -> None:
    shuffled = list(scores)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert np.allclose(features(np.array(scores, np.float32)), features(np.array(shuffled, np.float32)))


def test_saved_and_loaded_it_says_the_same(calibrator: Calibrator, tmp_path: Path) -> None:
    calibration = Calibration(calibrator, replace(calibrator, bias=1.0))
    calibration.save(tmp_path / "calibrator.json")
    assert Calibration.load(tmp_path / "calibrator.json") == calibration


ONE_FEATURE = {"weights": [1], "means": [1], "deviations": [1], "bias": 0, "threshold": 1}


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"titled": ONE_FEATURE, "untitled": ONE_FEATURE})])
def test_a_damaged_file_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "calibrator.json"
    path.write_text(content)
    with pytest.raises(BundleError, match=r"calibrator\.json"):
        Calibration.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        Calibration.load(tmp_path / "none.json")


def test_one_kind_of_result_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="with and without"):
        fit(results(10, 0.5, 0), np.ones(10, bool))


def test_a_prior_moves_the_odds_by_what_it_says() -> None:
    described = np.concatenate([results(100, 0.4, 1), results(300, 0.36, 2)])
    truth = np.arange(400) < 100
    as_seen, evened = fit(described, truth), fit(described, truth, prior=0.5)
    assert evened.bias - as_seen.bias == pytest.approx(np.log(3))
    assert evened.weights == as_seen.weights
