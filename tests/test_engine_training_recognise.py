"""Objects that no training picture showed are found by the names of a classifier's classes."""

import numpy as np
import pytest
import torch

from engine.datatypes import Vectors
from engine.encoders.heads import HeadShape, ProjectionHead
from engine.training.pretrained import Classifier
from engine.training.recognise import FAMILIAR, UNSEEN, recognise

CLASSES, WIDTH = 6, 24


def unit(rows: np.ndarray) -> Vectors:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def classifier(random: np.random.Generator) -> Classifier:
    return Classifier(10.0 * unit(random.normal(size=(CLASSES, WIDTH))), np.zeros(CLASSES, np.float32))


@pytest.fixture
def names(random: np.random.Generator) -> Vectors:
    return unit(random.normal(size=(CLASSES, 256)))


@pytest.fixture
def head() -> ProjectionHead:
    torch.manual_seed(0)
    return ProjectionHead(HeadShape(WIDTH, hidden=16, classes=CLASSES)).eval().requires_grad_(False)


def test_a_head_that_knows_no_names_yet_embeds_as_if_it_recognised_nothing(head: ProjectionHead) -> None:
    features = torch.randn(5, WIDTH)
    with_names = head(features)
    head.recognition = None
    assert torch.allclose(head(features), with_names, atol=1e-6)


def test_pictures_of_every_class_come_nearest_to_its_name(
    head: ProjectionHead, classifier: Classifier, names: Vectors, random: np.random.Generator
) -> None:
    pictures = torch.from_numpy(0.1 * classifier.weight + 0.02 * random.normal(size=(CLASSES, WIDTH))).float()
    before = head(pictures).numpy() @ names.T
    recognise(head, classifier, names, np.zeros((0, WIDTH), np.float32))
    after = head(pictures).numpy() @ names.T
    assert (before.argmax(1) == np.arange(CLASSES)).mean() < 0.7
    assert (after.argmax(1) == np.arange(CLASSES)).all()


def test_names_of_classes_seen_in_training_are_worth_less(head: ProjectionHead, classifier: Classifier, names: Vectors) -> None:
    seen = np.repeat(classifier.weight[:1], 400, axis=0)
    recognise(head, classifier, names, seen)
    assert head.recognition is not None
    worth = head.recognition.names.weight.norm(dim=0).numpy() / np.linalg.norm(names - names.mean(0), axis=1)
    assert worth[0] == pytest.approx(FAMILIAR, abs=0.02)
    assert worth[1:] == pytest.approx(np.full(CLASSES - 1, UNSEEN), abs=0.05)


def test_gradients_leave_recognition_alone(head: ProjectionHead, classifier: Classifier, names: Vectors) -> None:
    head.requires_grad_(False)
    for parameter in head.weights():
        parameter.requires_grad_(True)
    recognise(head, classifier, names, np.zeros((0, WIDTH), np.float32))
    head(torch.randn(3, WIDTH)).sum().backward()
    assert head.recognition is not None
    assert all(parameter.grad is None for parameter in head.recognition.parameters())
