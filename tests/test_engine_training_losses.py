"""Contrastive losses, against the formula for one right answer and against what several must do."""

import pytest
import torch
from torch.nn import functional

from engine.training.losses import (
    MAX_LOGIT_SCALE,
    Temperature,
    distance_to_teacher,
    multi_positive_nce,
    prefix_cosines,
    symmetric_nce,
)


def test_with_one_right_answer_it_is_cross_entropy() -> None:
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    expected = 0.5 * (functional.cross_entropy(logits, torch.arange(6)) + functional.cross_entropy(logits.T, torch.arange(6)))
    found = symmetric_nce(logits, torch.eye(6).bool(), torch.ones(6), torch.ones(6).bool())
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_smoothing_is_that_of_cross_entropy() -> None:
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    expected = functional.cross_entropy(logits, torch.arange(6), label_smoothing=0.1)
    assert multi_positive_nce(logits, torch.eye(6).bool(), torch.ones(6), 0.1).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_picture_is_not_asked_for_texts_that_only_suit_it() -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    positive = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]]).bool()
    naming, weights = torch.tensor([True, True, True, False]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    both = symmetric_nce(logits, positive, weights, naming)
    named = symmetric_nce(logits[:, :3], positive[:, :3], weights[:3], naming[:3])
    assert both.item() == pytest.approx(named.item(), rel=1e-5)


def test_without_naming_texts_only_texts_look_for_pictures() -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    found = symmetric_nce(logits, torch.eye(3).bool(), torch.ones(3), torch.zeros(3).bool())
    assert found.item() == pytest.approx(functional.cross_entropy(logits.T, torch.arange(3)).item(), rel=1e-5)


def test_a_second_right_answer_is_not_pushed_away() -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    multi_positive_nce(logits, torch.tensor([[True, True, False]]), torch.ones(1)).backward()
    assert logits.grad is not None
    assert logits.grad[0, :2].lt(0).all()
    assert logits.grad[0, 2] > 0


def test_rows_without_a_right_answer_or_weight_count_nothing() -> None:
    logits = torch.tensor([[3.0, 1.0], [0.0, 9.0], [5.0, 5.0]])
    positive = torch.tensor([[True, False], [False, False], [True, False]])
    alone = multi_positive_nce(logits[:1], positive[:1], torch.ones(1))
    assert multi_positive_nce(logits, positive, torch.tensor([1.0, 1.0, 0.0])).item() == pytest.approx(alone.item())


def test_smoothing_never_rewards_certainty_without_end() -> None:
    positive = torch.eye(4).bool()
    sure = [multi_positive_nce(torch.eye(4) * scale, positive, torch.ones(4), 0.1).item() for scale in (5.0, 500.0)]
    assert sure[1] > sure[0]


def test_the_temperature_is_bounded() -> None:
    temperature = Temperature()
    with torch.no_grad():
        temperature.log_scale.fill_(50.0)
    assert temperature(torch.ones(1, 1)).item() == pytest.approx(MAX_LOGIT_SCALE)


def test_a_prefix_is_compared_as_a_unit_vector() -> None:
    vectors = functional.normalize(torch.randn(5, 256, generator=torch.Generator().manual_seed(1)), dim=1)
    assert prefix_cosines(vectors, vectors, 64).diagonal().allclose(torch.ones(5), atol=1e-5)


def test_the_distance_to_the_teacher_leaves_out_what_it_does_not_know() -> None:
    states = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    teacher = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.0, 0.0]])
    assert distance_to_teacher(states, teacher).item() == pytest.approx((0.0 + 2.0) / 2)
    assert distance_to_teacher(states, torch.zeros(3, 2)).item() == 0.0
