"""One evaluation: questions asked of a collection, figures by direction, language and group, beside two plain baselines.

`evaluate` is the whole story; comparing runs and refusing worse ones is in `engine.evaluation.comparison`, the report in
`engine.evaluation.page`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from engine.datatypes import Vectors
from engine.errors import InvalidInput
from engine.evaluation.asking import Progress, ask, ranked
from engine.evaluation.baselines import BASELINES, LEAST_PAIRS, Fit, crossed, halves
from engine.evaluation.catalogue import Product, questions_of, read_products
from engine.evaluation.figures import NAMES, Answered, Figure, Values, summarise, values_of
from engine.evaluation.questions import Question
from engine.evaluation.space import Shape, shape_of
from engine.search import SearchEngine

FORMAT = 1
MOST_QUESTIONS = 1_000
MOST_PRODUCTS = 20_000
LEAST_IN_PART = 5
TOP_KEPT = 5


@dataclass(frozen=True, slots=True)
class Direction:
    """Figures of the questions of one direction; `parts` by language and by group, `baselines` on the same vectors."""

    questions: int
    figures: Mapping[str, Figure]
    parts: Mapping[str, Mapping[str, Figure]]
    baselines: Mapping[str, Mapping[str, Figure]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything one run found out. `values` holds one row of `NAMES` a question, in the order of `answered`."""

    about: Mapping[str, Any]
    answered: Sequence[Answered]
    values: Values
    directions: Mapping[str, Direction]
    shape: Shape | None
    products: Sequence[Product]

    def as_dict(self) -> dict[str, Any]:
        """Lay the run out as JSON; a later run may be compared with it."""
        return {
            "format": FORMAT,
            **self.about,
            "directions": {name: _direction_as_dict(direction) for name, direction in self.directions.items()},
            "space": None if self.shape is None else self.shape.as_dict(),
            "names": list(NAMES),
            "questions": [_question_as_dict(a, row) for a, row in zip(self.answered, self.values, strict=True)],
        }

    def save(self, path: Path) -> None:
        """Write the run as JSON."""
        path.write_text(json.dumps(self.as_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def evaluate(
    engine: SearchEngine,
    name: str,
    questions: Sequence[Question] | None,
    *,
    progress: Progress,
    most: int = MOST_QUESTIONS,
    seed: int = 0,
) -> Evaluation:
    """Ask a collection questions, or, without any, those made from the collection itself; the same seed asks the same ones.

    Raises `InvalidInput` when there is nothing to ask.
    """
    products = read_products(engine.collection(name), MOST_PRODUCTS)
    asked = questions_of(products, most=most, seed=seed) if questions is None else list(questions)
    if not asked:
        raise InvalidInput(
            f"collection {name!r} has {len(products)} documents, none with both title and picture or a telling attribute: "
            f"give a pairs file with --pairs"
        )
    answered, vectors = ask(engine, name, asked, progress)
    values = values_of(answered)
    directions = {}
    for direction in dict.fromkeys(question.direction for question in asked):
        rows = np.array([row for row, question in enumerate(asked) if question.direction == direction])
        chosen = [asked[row] for row in rows]
        beside = _baselines(chosen, vectors[rows], products, seed)
        directions[direction] = Direction(len(rows), summarise(values[rows], seed=seed), _parts(chosen, values[rows], seed), beside)
    both = [(p.title, p.image) for p in products if p.title is not None and p.image is not None]
    shape = shape_of(np.stack([t for t, _ in both]), np.stack([i for _, i in both])) if len(both) > 1 else None
    about = {
        "collection": name,
        "encoder": engine.encoder.name,
        "fingerprint": engine.encoder.fingerprint,
        "documents": len(engine.collection(name)),
        "seed": seed,
    }
    return Evaluation(about, answered, values, directions, shape, products)


def _parts(questions: Sequence[Question], values: Values, seed: int) -> dict[str, dict[str, Figure]]:
    parts: dict[str, list[int]] = {}
    for row, question in enumerate(questions):
        for label in (question.language and f"language {question.language}", question.group and f"group {question.group}"):
            if label:
                parts.setdefault(label, []).append(row)
    return {label: summarise(values[rows], seed=seed) for label, rows in sorted(parts.items()) if len(rows) >= LEAST_IN_PART}


def _baselines(
    questions: Sequence[Question], vectors: Vectors, products: Sequence[Product], seed: int
) -> dict[str, dict[str, Figure]]:
    view = "title" if questions[0].target == "title" else "image"
    there = {p.document.id: vector for p in products if (vector := p.title if view == "title" else p.image) is not None}
    ids = list(there)
    rows = {id: row for row, id in enumerate(ids)}
    firsts = [next((rows[id] for id in question.relevant if id in rows), -1) for question in questions]
    usable = [number for number, first in enumerate(firsts) if first >= 0]
    if len(usable) < LEAST_PAIRS:
        return {}
    documents = np.stack(list(there.values()))
    own = np.array([firsts[number] for number in usable])
    chosen = [questions[number] for number in usable]
    groups = np.unique([min(question.relevant) for question in chosen], return_inverse=True)[1].astype(np.int64)
    found = {}
    with threadpool_limits(1):  # matrices so small keep the threads of BLAS waiting for one another
        for label, fit in BASELINES.items():
            answers = _crossed_answers(chosen, vectors[usable], (documents, own, ids), (groups, fit, seed))
            found[label] = summarise(values_of(answers), seed=seed)
    return found


def _crossed_answers(
    questions: Sequence[Question],
    vectors: Vectors,
    documents: tuple[Vectors, np.ndarray, Sequence[str]],
    how: tuple[np.ndarray, Fit, int],
) -> list[Answered]:
    (stored, own, ids), (groups, fit, seed) = documents, how
    mapped, targets = crossed(vectors, stored[own], groups, fit, seed)(stored)
    half = halves(groups, seed)
    answers = []
    for number, question in enumerate(questions):
        scores = targets[half[number]] @ mapped[number]
        answers.append(ranked(question, list(zip(ids, map(float, scores), strict=True)), len(ids)))
    return answers


def _direction_as_dict(direction: Direction) -> dict[str, Any]:
    return {
        "questions": direction.questions,
        "figures": _plain(direction.figures),
        "parts": {label: _plain(figures) for label, figures in direction.parts.items()},
        "baselines": {label: _plain(figures) for label, figures in direction.baselines.items()},
    }


def _plain(figures: Mapping[str, Figure]) -> dict[str, dict[str, float]]:
    return {name: figure.as_dict() for name, figure in figures.items()}


def _question_as_dict(answer: Answered, values: Any) -> dict[str, Any]:  # noqa: ANN401  one row of values
    question = answer.question
    return {
        "id": question.id,
        "direction": question.direction,
        "label": question.label,
        "relevant": list(question.relevant),
        "found": list(answer.ids[:TOP_KEPT]),
        "values": [float(value) for value in values],
    }
