"""Contrastive losses, against the formula for one right answer and against what several must do."""

import pytest
import torch
from torch.nn import functional

from engine.training.losses import MAX_LOGIT_SCALE, Temperature, multi_positive_nce, prefix_cosines, symmetric_nce


def test_with_one_right_answer_it_is_cross_entropy() -> None:
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    expected = 0.5 * (functional.cross_entropy(logits, torch.arange(6)) + functional.cross_entropy(logits.T, torch.arange(6)))
    assert symmetric_nce(logits, torch.eye(6).bool(), torch.ones(6)).item() == pytest.approx(expected.item(), rel=1e-5)


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
