"""What customers wanted and the shop does not stock."""

import numpy as np

from engine.evaluation.misses import distinct_texts, gather_misses, missed
from engine.querylog import Logged


def asked(text: str, decision: str = "generate") -> Logged:
    return Logged(1.0, text, None, 0.1, decision, "p1")


MEANING = {"wedding dress": 0, "bridal gown": 0, "drone": 1, "quadcopter": 1, "tent": 2}


def vectors(texts: list[str]) -> np.ndarray:
    rows = np.zeros((len(texts), 256), np.float32)
    for row, text in enumerate(texts):
        rows[row, MEANING[text]] = 0.95
        rows[row, 10 + row] = np.sqrt(1 - 0.95**2)
    return rows


def test_wordings_of_one_wish_are_counted_together() -> None:
    log = [*[asked("Wedding  dress")] * 3, *[asked("bridal gown")] * 2, *[asked("drone")] * 4, asked("tent")]
    texts = distinct_texts(log)
    found = gather_misses(log, texts, vectors(texts))
    assert [(miss.label, miss.count) for miss in found] == [("wedding dress", 5), ("drone", 4), ("tent", 1)]
    assert found[0].queries == ("wedding dress", "bridal gown")
    assert found[0].as_dict()["nearest"] == "p1"
    assert float(found[0].vector @ vectors(["wedding dress"])[0]) > 0.9


def test_only_queries_that_mean_something_and_found_nothing_are_missed() -> None:
    log = [asked("a", "answer"), asked("b", "broaden"), asked("c", "abstain"), asked("d")]
    assert [logged.text for logged in missed(log)] == ["d"]


def test_no_misses_are_no_clusters() -> None:
    assert gather_misses([], [], np.zeros((0, 256), np.float32)) == []


def test_the_most_wanted_come_first_and_only_so_many() -> None:
    log = [*[asked("drone")] * 2, asked("tent"), *[asked("wedding dress")] * 3]
    texts = distinct_texts(log)
    assert [miss.label for miss in gather_misses(log, texts, vectors(texts), most=2)] == ["wedding dress", "drone"]
