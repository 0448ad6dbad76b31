"""From rows to documents: which are candidates, and which queries the approximate index leaves undecided."""

import numpy as np
import pytest

from engine.index.nearest import FOURFOLD, SPARE, Near, Wanted, nearest_documents
from engine.index.rows import Rows


class Answering:
    """An index that answers the same rows and scores to every query, cut to what was asked for."""

    kind = "ivf-sq8"

    def __init__(self, total: int, rows: list[int], scores: list[float]) -> None:
        self._total, self._rows, self._scores, self.asked = total, rows, scores, 0

    def __len__(self) -> int:
        return self._total

    def search(self, vectors: np.ndarray, k: int, allowed: object, *, probes: int | None) -> tuple[np.ndarray, np.ndarray]:
        self.asked = k
        short = [-1] * max(0, k - len(self._rows))
        rows, scores = [*self._rows, *short][:k], [*self._scores, *(-np.inf for _ in short)][:k]
        return np.tile(np.array(scores, np.float32), (len(vectors), 1)), np.tile(np.array(rows), (len(vectors), 1))


def rows_of(documents: list[int], total: int) -> Rows:
    return Rows(np.array(documents, np.uint32), np.zeros((len(documents), 256), np.float16), total)


def asked(index: Answering, rows: Rows, k: int, *, alone: bool = True, queries: int = 1) -> Near:
    return nearest_documents(rows, index, Wanted(np.zeros((queries, 256), np.float32), k, alone), None)  # type: ignore[arg-type]


def falling(count: int) -> list[float]:
    return np.linspace(1, 0, count).tolist()


def test_alone_only_the_best_are_candidates_and_with_other_evidence_all_that_were_found():
    rows, index = rows_of(list(range(500)), 500), Answering(500, list(range(499, -1, -1)), falling(500))
    near = asked(index, rows, 3, queries=2)
    assert near.owners.tolist() == [0, 0, 0, 1, 1, 1]
    assert near.documents.tolist() == [499, 498, 497] * 2
    assert not near.undecided.any()
    assert len(asked(index, rows, 3, alone=False).documents) == index.asked == 3 + SPARE


@pytest.mark.parametrize(("k", "fetched"), [(10, 100), (100, 400), (400, FOURFOLD), (2000, 2000 + SPARE)])
def test_more_are_fetched_than_wanted(k: int, fetched: int):
    index = Answering(5000, list(range(5000)), falling(5000))
    asked(index, rows_of(list(range(5000)), 5000), k)
    assert index.asked == fetched


def test_several_pictures_of_a_document_count_once():
    documents = np.repeat(np.arange(300), 2).tolist()
    index = Answering(600, list(range(600)), falling(600))
    near = asked(index, rows_of(documents, 300), 4)
    assert near.documents.tolist() == [0, 1, 2, 3]
    assert index.asked == 2 * (4 + SPARE)


def test_equal_scores_past_the_last_candidate_leave_a_query_undecided():
    rows = rows_of(list(range(500)), 500)
    assert asked(Answering(500, list(range(500)), [0.5] * 500), rows, 3).undecided.all()
    tied_before = Answering(500, list(range(500)), [0.5] * 50 + [0.4] * 450)
    near = asked(tied_before, rows, 3)
    assert not near.undecided.any()
    assert near.documents.tolist() == list(range(50))


def test_an_answer_that_is_short_of_rows_or_of_documents_leaves_a_query_undecided():
    assert asked(Answering(500, [1, 2, 3, 4], falling(4)), rows_of(list(range(500)), 500), 3).undecided.all()
    crowd = [0] * 950 + list(range(1, 1001))  # two rows a document on average, but one has half of all
    assert asked(Answering(1950, list(range(1950)), falling(1950)), rows_of(crowd, 1001), 10).undecided.all()


def test_everything_found_decides_though_it_is_less_than_wanted():
    near = asked(Answering(5, [4, 3, 2, 1, 0], [0.5] * 5), rows_of(list(range(5)), 5), 10)
    assert near.documents.tolist() == [4, 3, 2, 1, 0]
    assert not near.undecided.any()
