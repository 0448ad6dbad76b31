"""Retrieval figures, against rankings worked out by hand."""

import numpy as np

from engine.training.evaluate import ranks, recall


def test_the_rank_is_that_of_the_best_right_answer() -> None:
    scores = np.array([[0.9, 0.5, 0.7], [0.1, 0.2, 0.3]], np.float32)
    relevant = np.array([[False, True, True], [True, False, False]])
    assert ranks(scores, relevant).tolist() == [2, 3]


def test_ties_count_against_the_model() -> None:
    relevant = np.zeros((1, 20), bool)
    relevant[0, 3] = True
    assert ranks(np.zeros((1, 20), np.float32), relevant).tolist() == [20]


def test_other_right_answers_are_no_rivals() -> None:
    relevant = np.array([[True, True, False]])
    assert ranks(np.array([[0.5, 0.9, 0.1]], np.float32), relevant).tolist() == [1]


def test_recall_is_in_percent() -> None:
    scores = np.eye(20, dtype=np.float32)
    scores[0] = 1 - scores[0]
    figures = recall(scores, np.eye(20, dtype=bool))
    assert (figures.queries, figures.r1, figures.r5, figures.r10, figures.median_rank) == (20, 95.0, 95.0, 95.0, 1.0)


def test_random_vectors_score_as_chance() -> None:
    random = np.random.default_rng(0)
    figures = recall(random.normal(size=(1000, 1000)).astype(np.float32), np.eye(1000, dtype=bool))
    assert 0.3 < figures.r10 < 2.0
