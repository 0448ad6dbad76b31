"""errors.csv, report.json, exit codes, and the list of rows to try again."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidCatalogue
from indexer.ledger import Ledger
from indexer.report import CODES, JobLog, JobReport, Retry, job_folder, safe_cell
from indexer.shard import RowError, ShardReport


def test_a_job_s_folder_is_its_own(tmp_path):
    folders = {job_folder(tmp_path, "shop") for _ in range(5)}
    assert len(folders) == 5
    assert all(folder.is_dir() and folder.parent == tmp_path / "_jobs" for folder in folders)


def test_without_errors_there_is_no_errors_csv(tmp_path):
    with JobLog(tmp_path) as log:
        report = JobReport("shop", tmp_path / "feed.csv", tmp_path, read=2, created=2, status="done")
        log.finish(report)
    assert log.path is None
    assert json.loads((tmp_path / "report.json").read_text())["created"] == 2
    assert not (tmp_path / "errors.csv").exists()


@pytest.mark.parametrize(
    ("status", "refused", "code"), [("done", 0, 0), ("done", 2, 3), ("failed", 0, 1), ("failed", 2, 1), ("stopped", 0, 1)]
)
def test_exit_codes(tmp_path, status, refused, code):
    assert JobReport("shop", tmp_path, tmp_path, refused=refused, status=status).exit_code == code


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXT)
def test_no_cell_begins_like_a_formula(text):
    cell = safe_cell(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"))
    assert "\n" not in cell
    assert "\r" not in cell


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("'price' is no number", "'price' is no number"),
        ("'", "'"),
        ("=1+1", "'=1+1"),
        ("-5", "'-5"),
        ("'=1", "''=1"),
        ("' =1", "'' =1"),
        (" @x", "' @x"),
    ],
)
def test_only_what_can_be_a_formula_is_guarded_and_every_id_comes_back(tmp_path, text, cell):
    assert safe_cell(text) == cell
    with JobLog(tmp_path) as log:
        log.add(RowError(7, text, "x", "json"))
    retry = Retry(tmp_path)
    assert retry.wants(1, text)
    assert not retry.wants(1, f"'{text}")
    assert not retry.wants(1, text.removeprefix("'") + "?")


@given(st.lists(st.tuples(st.integers(1, 10**7), st.none() | TEXT, TEXT), max_size=10))
def test_errors_csv_is_one_line_a_row_and_leads_back_to_the_rows(tmp_path_factory, entries):
    folder = tmp_path_factory.mktemp("job")
    with JobLog(folder) as log:
        log.add(RowError(1, None, "first", "json"))
        for row, id, reason in entries:
            log.add(RowError(row, id, reason, "type"))
    with (folder / "errors.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["row"]) for line in lines] == [1, *(row for row, _, _ in entries)]
    retry = Retry(folder)
    assert all(retry.wants(row, id if id and id.isprintable() else None) for row, id, _ in entries if not id or id.isprintable())
    assert not retry.wants(10**8, "another id, longer than those")


def test_only_an_errors_csv_can_be_retried(tmp_path):
    (tmp_path / "errors.csv").write_text("id,title\n1,2\n")
    for path in (tmp_path, tmp_path / "errors.csv", tmp_path / "none"):
        with pytest.raises(InvalidCatalogue):
            Retry(path)


def test_every_code_is_explained():
    assert all(sentence.endswith(".") for sentence in CODES.values())


def test_counts_add_up():
    one, two = ShardReport(read=3, created=2, refused=1, codes={"json": 1}), ShardReport(read=1, refused=1, codes={"json": 1})
    one.add(two)
    assert one == ShardReport(read=4, created=2, refused=2, codes={"json": 2})


def test_the_ledger_gives_an_id_to_its_first_row():
    with Ledger() as ledger:
        assert ledger.claim("a", 2) is None
        assert ledger.claim("a", 5) == 2
        ledger.mention("b", 3)
        assert ledger.claim("b", 4) is None
        assert ledger.claim("b", 6) == 4
        ledger.mention("c", 7)
        ledger.mention(None, 8)
        assert ledger.unidentified == [8]
        assert list(ledger.missing(["a", "b", "c", "x", "y"])) == [["x", "y"]]


@given(met=st.sets(st.text(max_size=3)), stored=st.sets(st.text(max_size=3)))
def test_the_ledger_knows_what_is_missing(met, stored):
    with Ledger() as ledger:
        for row, id in enumerate(met, start=1):
            ledger.claim(id, row)
        assert {id for batch in ledger.missing(stored) for id in batch} == stored - met
