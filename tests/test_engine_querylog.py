"""The log of queries: only words, only when asked for, and never at the cost of an answer."""

import logging
from pathlib import Path

import numpy as np
import pytest

from engine import querylog
from engine.datatypes import Hit, Query, SearchResult, Term
from engine.querylog import LOG, OLDER, QueryLog, read_log


def answer(confidence: float | None = 0.25) -> SearchResult:
    return SearchResult((Hit("p1", 0.5, "red mug", None, {}),), confidence, "generate", 1, {}, 1)


def test_nothing_is_written_unless_asked_for(tmp_path: Path) -> None:
    QueryLog(enabled=False).write(tmp_path, Query((Term("red shoes"),)), answer())
    assert list(tmp_path.iterdir()) == []


def test_what_was_asked_is_read_back(tmp_path: Path) -> None:
    QueryLog(enabled=True).write(tmp_path, Query((Term("red shoes"), Term("cheap", -1.0)), where="price < 5"), answer())
    (logged,) = read_log(tmp_path)
    assert (logged.text, logged.where, logged.confidence, logged.decision, logged.best) == (
        "red shoes", "price < 5", 0.25, "generate", "p1",
    )  # fmt: skip
    assert list(read_log(tmp_path, since=logged.time + 1)) == []


def test_a_query_without_words_leaves_nothing(tmp_path: Path) -> None:
    QueryLog(enabled=True).write(tmp_path, Query((Term(np.eye(256, dtype=np.float32)[0]),)), answer())
    assert not (tmp_path / LOG).exists()


def test_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    log = QueryLog(enabled=True)
    log.write(tmp_path, Query((Term("a"),)), answer())
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"time": 1, "te\n')
    log.write(tmp_path, Query((Term("b"),)), answer())
    assert [logged.text for logged in read_log(tmp_path)] == ["a", "b"]


def test_a_long_log_is_turned_over_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(querylog, "MAX_BYTES", 10)
    log = QueryLog(enabled=True)
    for text in ("a", "b", "c"):
        log.write(tmp_path, Query((Term(text),)), answer())
    assert sorted(path.name for path in tmp_path.iterdir()) == [OLDER, LOG]
    assert [logged.text for logged in read_log(tmp_path)] == ["b", "c"]


def test_a_log_that_cannot_be_written_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = QueryLog(enabled=True)
    with caplog.at_level(logging.WARNING):
        log.write(tmp_path / "gone", Query((Term("a"),)), answer())
        log.write(tmp_path / "gone", Query((Term("b"),)), answer())
    assert len(caplog.records) == 1
