"""Pictures of classes nobody has a photo of."""

import numpy as np

from engine.training.imagenet import PseudoPictures, class_captions
from engine.training.pretrained import Classifier


def test_a_made_feature_is_of_its_class() -> None:
    random = np.random.default_rng(0)
    classifier = Classifier(random.normal(size=(30, 400)).astype(np.float32), random.normal(size=30).astype(np.float32))
    real = np.abs(random.normal(size=(900, 400))).astype(np.float32)
    pseudo = PseudoPictures.fit(classifier, real)
    classes = np.arange(30)
    made = pseudo.make(classes, real[:30], random)
    assert (made >= 0).all()
    decided = (made @ classifier.weight.T + classifier.bias).argmax(1)
    assert (decided == classes).mean() >= 0.85


def test_every_class_has_names_and_everyday_ones_in_three_languages() -> None:
    captions = class_captions()
    assert len(captions) == 1000
    assert all(any(c.language == "en" for c in names) for names in captions)
    laptop = {(c.language, c.text) for c in captions[620]}
    assert {("en", "laptop"), ("zh", "笔记本电脑"), ("zh", "一张笔记本电脑的照片"), ("de", "Laptop")} <= laptop
    assert sum(any(c.language == "zh" for c in names) for names in captions) > 300
