"""The confidence of one collection, fitted to it."""

from pathlib import Path

import pytest
from PIL import Image

from engine.cache import MemoryCache, TieredCache
from engine.confidence import FILE, Calibration
from engine.config import load_settings
from engine.datatypes import Document
from engine.errors import InvalidInput
from engine.evaluation.calibration import calibrate_collection
from engine.search import SearchEngine
from engine.testing import COLOURS, FakeEncoder

THINGS = ("lamp", *(f"thing{number}" for number in range(35)))


@pytest.fixture
def engine(tmp_path: Path):  # type: ignore[no-untyped-def]
    for name, colour in COLOURS.items():
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"{name}.png")
    with SearchEngine(load_settings(data=tmp_path / "data"), FakeEncoder(), TieredCache(MemoryCache(0, ttl_s=60), None)) as engine:
        yield engine


def fill(engine: SearchEngine, folder: Path, things: tuple[str, ...]) -> None:
    documents = [
        Document(f"{colour}-{thing}", f"{colour} {thing}", images=(f"{colour}.png",), attributes={"kind": thing, "colour": colour})
        for thing in things
        for colour in COLOURS
    ]
    engine.index("shop", documents, base=folder)


def test_a_collection_of_any_encoder_gets_a_confidence(
    engine: SearchEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("MOST_ASKED", "FOREIGN", "NONSENSE"):
        monkeypatch.setattr(f"engine.evaluation.calibration.{limit}", 60)
    fill(engine, tmp_path, THINGS)
    assert engine.search("shop", "violin").confidence is None
    figures = calibrate_collection(engine, "shop")
    assert set(figures) == {"titled", "untitled"}
    assert figures["titled"]["ece"] < 0.2
    stored = Calibration.load(engine.collection("shop").path / FILE)
    assert stored.fingerprint == FakeEncoder.fingerprint
    there, absent = engine.search("shop", "red lamp").confidence, engine.search("shop", "violin").confidence
    assert there is not None
    assert absent is not None
    assert there > absent + 0.3


def test_a_small_collection_is_told_to_use_the_encoders(engine: SearchEngine, tmp_path: Path) -> None:
    fill(engine, tmp_path, THINGS[:3])
    with pytest.raises(InvalidInput, match="needs 200"):
        calibrate_collection(engine, "shop")
