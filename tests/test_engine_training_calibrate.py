"""Queries with and without an answer, and the curves fitted on them, in a world where a text is the direction of its thing."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.confidence import FILE, Calibration
from engine.datatypes import Image as Picture
from engine.evidence import FEATURES, Background
from engine.training.asked import CONDITIONS, Asker, Case, Shop, nonsense, word_cases
from engine.training.calibrate import calibrate, fit
from engine.training.pairs import Caption, Item
from engine.training.reliability import auroc, brier, expected_calibration_error, held_risk, risk_coverage

KIND = {"fashion": "title", "emoji": "label", "flickr8k": "caption"}
TYPES = 6


def direction(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
    return np.random.default_rng(seed).normal(size=256)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class World:
    """Embeds "thing/language" as the thing, and a picture as what its first pixel says."""

    name, fingerprint, image_size = "fake:world", "world", 8

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return unit(np.stack([direction(t.split("/")[0]) for t in texts])) if texts else np.zeros((0, 256), np.float32)

    def encode_images(self, images: Sequence[Picture]) -> np.ndarray:
        return unit(np.stack([direction(f"picture {image.convert('RGB').getpixel((0, 0))}") for image in images]))


def items(folder: Path, per_source: int = 120) -> list[Item]:
    found = []
    for source, kind in KIND.items():
        for n in range(per_source):
            path = folder / f"{source}-{n % 7}.png"
            if not path.exists():
                Image.new("RGB", (8, 8), (n % 7 * 30, len(source) * 9, 7)).save(path)
            thing = f"{source} {n}"
            captions = [Caption(f"{thing}/{language}", language, kind, thing) for language in ("en", "zh")]
            group = f"{'objects' if source == 'emoji' else 'g'}:{n}"
            if source == "fashion":
                captions.append(Caption(f"type {n % TYPES}/en", "en", "query", f"query:type:{n % TYPES}||"))
            found.append(Item(f"{source}-{n}", path, source, "train" if n % 3 == 2 else "val", group, tuple(captions)))
    return found


def pictures(shop: Sequence[Item]) -> np.ndarray:
    """A picture looks like its thing and like its type, through noise."""
    rows = [
        direction(f"{i.source} {i.id.split('-')[1]}")
        + 0.7 * direction(f"type {int(i.id.split('-')[1]) % TYPES}")
        + direction(i.id + "x")
        for i in shop
    ]
    return unit(np.stack(rows))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    shop = items(tmp_path_factory.mktemp("pictures"))
    return calibrate(World(), shop, pictures(shop))


def test_every_curve_is_fitted_and_measured(fitted: Calibration) -> None:
    assert set(fitted.curves) == {"titled", "untitled", "picture"}
    assert fitted.fingerprint == "world"
    for name in fitted.curves:
        assert {"ece", "brier", "held", "auroc", "risk by coverage"} <= set(fitted.figures[name])


def test_what_is_there_is_told_from_what_is_not(fitted: Calibration) -> None:
    rows = [row for row in fitted.figures["untitled"]["auroc"] if row["source"] == "fashion" and row["kind"] == "title"]
    assert {row["against"] for row in rows} >= {"out of catalogue", "nonsense"}
    assert all(row["confidence"] > 0.95 for row in rows if row["against"] in ("out of catalogue", "nonsense"))


def test_it_survives_its_file(fitted: Calibration, tmp_path: Path) -> None:
    fitted.save(tmp_path / FILE)
    assert Calibration.load(tmp_path / FILE).curves == fitted.curves


def test_taking_products_out_leaves_no_right_answer(tmp_path: Path) -> None:
    chosen = [item for item in items(tmp_path) if (item.source, item.split) == ("fashion", "val")]
    shop = Shop.open("fashion", chosen, pictures(chosen), None)
    bank = unit(np.random.default_rng(0).normal(size=(80, 256)))
    cases = list(word_cases(Asker(shop, Background(bank, bank, bank, bank), np.random.default_rng(0)), World().encode_texts))
    assert {case.condition for case in cases} == {"answerable", "type removed", "item removed"}
    assert not any(case.answered for case in cases if case.condition != "answerable")
    assert np.mean([case.answered for case in cases if case.condition == "answerable"]) > 0.9
    for kind in ("title", "query"):
        folds = {case.fold for case in cases if case.kind == kind}
        assert len(folds) > 1


def case(condition: str, answered: bool, best: float, fold: int) -> Case:
    row = np.zeros(len(FEATURES))
    row[FEATURES.index("best")] = best
    return Case("fashion", "en", "title", condition, fold, row, answered)  # type: ignore[arg-type]


def test_one_kind_of_result_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="with and without"):
        fit([case("answerable", True, 0.5, fold % 4) for fold in range(20)], 0.1)


def test_the_mix_decides_how_likely_an_answer_is() -> None:
    """Of ten times as many unanswerable ones only the stated share counts."""
    random = np.random.default_rng(0)
    cases = [case("answerable", True, random.normal(0.5, 0.1), n % 4) for n in range(100)]
    cases += [case("nonsense", False, random.normal(0.5, 0.1), n % 4) for n in range(1_000)]
    curve = fit(cases, 0.1)
    assert float(curve.probability(cases[0].described)) > 0.5


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    assert auroc(np.array([0.9, 0.8]), np.array([0.1, 0.2])) == 1.0
    assert auroc(np.array([0.5]), np.array([0.5])) == 0.5
    assert auroc(np.array([0.3, 0.6]), np.array([0.4])) == 0.5


def test_calibration_error_is_the_gap_between_said_and_so() -> None:
    said, true, weights = np.full(10, 0.9), np.array([True] * 9 + [False]), np.ones(10)
    assert expected_calibration_error(said, true, weights) == pytest.approx(0.0, abs=1e-9)
    assert expected_calibration_error(said, np.zeros(10, bool), weights) == pytest.approx(0.9)
    assert brier(said, true, weights) == pytest.approx(0.09)


def test_the_surest_are_answered_first() -> None:
    said = np.linspace(1, 0, 100)
    curve = dict(risk_coverage(said, said > 0.5, np.ones(100)))
    assert curve[0.5] == 0.0
    assert curve[1.0] == pytest.approx(0.5)


def test_the_stated_risk_is_held_on_other_halves() -> None:
    random = np.random.default_rng(0)
    said = random.random(3_000)
    held = held_risk(said, random.random(3_000) < said, np.ones(3_000), 0.2)
    assert held["risk"] <= 0.2
    assert held["above"] <= 0.2  # the half looked at is as noisy as the half it was set on: 12 % are expected
    assert held["coverage"] > 0.2


def test_nonsense_is_of_several_kinds() -> None:
    random = np.random.default_rng(0)
    made = [nonsense(random) for _ in range(100)]
    assert len(set(made)) > 95
    assert any(ord(text[0]) > 0x4E00 for text in made)
    assert any(" " in text for text in made)
    assert CONDITIONS[-1] == "nonsense"
