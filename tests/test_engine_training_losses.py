"""Contrastive losses, against the formula for one right answer and against what several must do."""

import pytest
import torch
from torch.nn import functional

from engine.training.losses import (
    MAX_LOGIT_SCALE,
    Softening,
    Temperature,
    multi_positive_nce,
    prefix_cosines,
    symmetric_nce,
    taught_logits,
)

HARD = Softening()


def test_with_one_right_answer_it_is_cross_entropy() -> None:
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    expected = 0.5 * (functional.cross_entropy(logits, torch.arange(6)) + functional.cross_entropy(logits.T, torch.arange(6)))
    assert symmetric_nce(logits, torch.eye(6).bool(), torch.ones(6), HARD).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_second_right_answer_is_not_pushed_away() -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    multi_positive_nce(logits, torch.tensor([[True, True, False]]), torch.ones(1), HARD).backward()
    assert logits.grad is not None
    assert logits.grad[0, :2].lt(0).all()
    assert logits.grad[0, 2] > 0


def test_rows_without_a_right_answer_or_weight_count_nothing() -> None:
    logits = torch.tensor([[3.0, 1.0], [0.0, 9.0], [5.0, 5.0]])
    positive = torch.tensor([[True, False], [False, False], [True, False]])
    alone = multi_positive_nce(logits[:1], positive[:1], torch.ones(1), HARD)
    assert multi_positive_nce(logits, positive, torch.tensor([1.0, 1.0, 0.0]), HARD).item() == pytest.approx(alone.item())


def test_smoothing_never_rewards_certainty_without_end() -> None:
    positive = torch.eye(4).bool()
    sure = [multi_positive_nce(torch.eye(4) * scale, positive, torch.ones(4), Softening(0.1)).item() for scale in (5.0, 500.0)]
    assert sure[1] > sure[0]


def test_the_temperature_is_bounded() -> None:
    temperature = Temperature()
    with torch.no_grad():
        temperature.log_scale.fill_(50.0)
    assert temperature(torch.ones(1, 1)).item() == pytest.approx(MAX_LOGIT_SCALE)


def test_a_prefix_is_compared_as_a_unit_vector() -> None:
    vectors = functional.normalize(torch.randn(5, 256, generator=torch.Generator().manual_seed(1)), dim=1)
    assert prefix_cosines(vectors, vectors, 64).diagonal().allclose(torch.ones(5), atol=1e-5)


def test_the_teacher_takes_its_share_of_the_target() -> None:
    teacher = torch.tensor([[0.0, 2.0, -50.0]])
    target = Softening(share=0.5, logits=teacher).apply(torch.tensor([[1.0, 0.0, 0.0]]))
    assert target.sum().item() == pytest.approx(1.0)
    assert target[0, 1] > target[0, 2]
    assert target[0, 0].item() == pytest.approx(0.5 + 0.5 * teacher.softmax(1)[0, 0].item())


def test_where_the_teacher_knows_nothing_only_what_is_right_is_close() -> None:
    pictures, texts = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.8, 0.6], [0.0, 0.0]])
    view = taught_logits(pictures, texts, torch.eye(2).bool()).softmax(1)
    assert view[1].tolist() == pytest.approx([0.0, 1.0], abs=1e-6)
