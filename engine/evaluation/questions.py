"""Questions with known right answers, and how they are read from a pairs file.

A question is words, a picture or a vector, and the ids of the documents that answer it, with a grade each. Questions made from
a collection itself are in `engine.evaluation.catalogue`.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from engine.datatypes import Vector
from engine.errors import InvalidInput

Target: TypeAlias = Literal["any", "image", "title"]
ANSWERS = ("relevant", "relevant_ids", "ids", "id")
ACCEPTED = (
    "a pairs file has columns `text` or `image`, and `relevant` (ids, several by `|`); `grades`, `language`, `group` may follow"
)


@dataclass(frozen=True, slots=True)
class Question:
    """One query with its right answers.

    `content` is words, the path of a picture, or a vector; `relevant` maps ids to grades above 0; `direction` says what is asked
    for what ("text->image"); `language` and `group` are what figures are broken down by, "" for none; `label` is what a report
    shows.
    """

    id: str
    direction: str
    content: str | Path | Vector
    relevant: Mapping[str, int]
    language: str = ""
    group: str = ""
    target: Target = "any"
    label: str = ""
    exclude: frozenset[str] = field(default_factory=frozenset)


def read_questions(path: Path) -> list[Question]:
    """Read a pairs file: CSV, JSON lines or Parquet, told by its ending; several rows of one query are one question.

    Raises `InvalidInput` naming the row that cannot be used.
    """
    merged: dict[tuple[str, str], Question] = {}
    for number, row in enumerate(_rows(path), start=1):
        question = _question(path, number, {str(name).strip().lower(): value for name, value in row.items()})
        key = (str(question.content), question.language)
        held = merged.get(key)
        merged[key] = question if held is None else _joined(held, question)
    if not merged:
        raise InvalidInput(f"{path} holds no queries: {ACCEPTED}")
    return list(merged.values())


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    if not path.is_file():
        raise InvalidInput(f"there is no pairs file {path}: give a CSV, JSON lines or Parquet file")
    ending = path.suffix.lower()
    if ending == ".parquet":
        from pyarrow import parquet  # noqa: PLC0415  slow to import, and needed for this ending alone

        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return rows
    if ending in (".jsonl", ".ndjson"):
        return _json_lines(path)
    if ending in (".csv", ".tsv"):
        return _delimited(path, "\t" if ending == ".tsv" else ",")
    raise InvalidInput(f"{path} ends in {ending or 'nothing'}: a pairs file ends in .csv, .tsv, .jsonl or .parquet")


def _delimited(path: Path, delimiter: str) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter=delimiter)


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InvalidInput(f"{path}, line {number} is not JSON ({error}): write one object a line") from None
            if not isinstance(row, dict):
                raise InvalidInput(f"{path}, line {number} is {type(row).__name__}: write one object a line")
            yield row


def _question(path: Path, number: int, row: Mapping[str, Any]) -> Question:
    text, image = (str(row.get(name) or "").strip() for name in ("text", "image"))
    text = text or str(row.get("query") or "").strip()
    if bool(text) == bool(image):
        raise InvalidInput(f"{path}, row {number} has {'both text and image' if text else 'neither text nor image'}: {ACCEPTED}")
    relevant = _relevant(path, number, row)
    content = text or (path.parent / image)
    if isinstance(content, Path) and not content.is_file():
        raise InvalidInput(f"{path}, row {number} names the picture {content}, which is not there: paths are relative to the file")
    direction = "text->any" if text else "image->any"
    language, group = (str(row.get(name) or "").strip() for name in ("language", "group"))
    return Question(f"{direction}:{language}:{text or image}", direction, content, relevant, language, group, label=text or image)


def _relevant(path: Path, number: int, row: Mapping[str, Any]) -> dict[str, int]:
    value = next((row[name] for name in ANSWERS if row.get(name) not in (None, "", [])), None)
    if isinstance(value, Mapping):
        ids, grades = list(value), list(value.values())
    else:
        ids, grades = _listed(value), _listed(row.get("grades") or row.get("grade")) or [1]
    if len(grades) == 1:
        grades *= len(ids)
    try:
        found = {str(id).strip(): int(float(grade)) for id, grade in zip(ids, grades, strict=True)}
    except (TypeError, ValueError):
        raise InvalidInput(f"{path}, row {number} has {len(ids)} ids and grades {grades!r}: give one whole number each") from None
    found = {id: grade for id, grade in found.items() if grade > 0}
    if not found:
        raise InvalidInput(f"{path}, row {number} names no relevant id: {ACCEPTED}")
    return found


def _listed(value: object) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str):
        return [part for part in value.split("|") if part.strip()]
    return list(value) if isinstance(value, Sequence) else [value]


def _joined(first: Question, second: Question) -> Question:
    relevant = dict(first.relevant)
    for id, grade in second.relevant.items():
        relevant[id] = max(grade, relevant.get(id, 0))
    return Question(
        first.id, first.direction, first.content, relevant, first.language, first.group, first.target, first.label, first.exclude
    )
