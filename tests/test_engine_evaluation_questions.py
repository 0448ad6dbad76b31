"""Pairs files in every form."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from engine.errors import InvalidInput
from engine.evaluation.questions import read_questions


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_with_grades_languages_and_several_rows_of_one_query(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.csv",
        "text,relevant,grades,language,group\nred mug,p1|p2,2|1,en,colour\nred mug,p3,1,en,colour\n杯子,p1,,zh,\n",
    )
    first, second = read_questions(path)
    assert (first.content, dict(first.relevant), first.language, first.group) == (
        "red mug",
        {"p1": 2, "p2": 1, "p3": 1},
        "en",
        "colour",
    )
    assert (second.content, dict(second.relevant)) == ("杯子", {"p1": 1})
    assert first.direction == "text->any"


def test_json_lines_and_parquet_say_the_same(tmp_path: Path) -> None:
    rows = [{"query": "red mug", "relevant_ids": ["p1", "p2"]}, {"query": "mug", "relevant": {"p1": 3, "p2": 0}}]
    lines = write(tmp_path / "q.jsonl", "\n".join(map(json.dumps, rows)))
    parquet.write_table(
        pa.table({"text": ["red mug", "mug"], "relevant": [["p1", "p2"], ["p1"]], "grades": [[1, 1], [3]]}), tmp_path / "q.parquet"
    )
    found = [[(q.content, dict(q.relevant)) for q in read_questions(path)] for path in (lines, tmp_path / "q.parquet")]
    assert found[0] == found[1] == [("red mug", {"p1": 1, "p2": 1}), ("mug", {"p1": 3})]


def test_a_picture_is_found_beside_the_file(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (question,) = read_questions(write(tmp_path / "q.csv", "image,id\na.png,p1\n"))
    assert question.content == tmp_path / "a.png"
    assert question.direction == "image->any"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("text,relevant\n", "holds no queries"),
        ("text,relevant\n,p1\n", "neither text nor image"),
        ("text,image,relevant\na,b,p1\n", "both text and image"),
        ("text,relevant\nred,\n", "names no relevant id"),
        ("text,relevant,grades\nred,p1|p2,1|2|3\n", "one whole number each"),
        ("text,relevant,grades\nred,p1,many\n", "one whole number each"),
        ("image,relevant\nnone.png,p1\n", "not there"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        read_questions(write(tmp_path / "q.csv", text))


@pytest.mark.parametrize(("name", "text"), [("q.jsonl", "{"), ("q.jsonl", "[1]"), ("q.txt", "a"), ("gone.csv", None)])
def test_a_file_that_is_no_pairs_file_is_refused(name: str, text: str | None, tmp_path: Path) -> None:
    if text is not None:
        write(tmp_path / name, text)
    with pytest.raises(InvalidInput):
        read_questions(tmp_path / name)
