"""Questions -> what the collection answers, by the same encoding and search that serve customers.

No documents are fetched and no cache of results is read: only ids and their order matter here.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from engine.datatypes import DIMENSIONS, MAX_K, Image, Query, Term, Vector, Vectors
from engine.documents import key_of
from engine.errors import SemblanceError
from engine.evaluation.figures import DEPTH, Answered
from engine.evaluation.questions import Question
from engine.retrieval import Retrieved, retrieve
from engine.search import SearchEngine

QUESTIONS_PER_CALL = 64

Progress: TypeAlias = Callable[[int, int], None]


def ask(engine: SearchEngine, name: str, questions: Sequence[Question], progress: Progress) -> tuple[list[Answered], Vectors]:
    """Answer every question against collection `name`, and give the vectors asked with; raises the first error there is."""
    collection = engine.collection(name)
    names = {key_of(id): id for id in collection.ids()}
    answered: list[Answered] = []
    vectors = np.zeros((len(questions), DIMENSIONS), np.float32)
    for start in range(0, len(questions), QUESTIONS_PER_CALL):
        chunk = questions[start : start + QUESTIONS_PER_CALL]
        queries = [Query((Term(_content(engine, q)),), k=min(DEPTH, MAX_K), target=q.target) for q in chunk]
        encoded = engine.encode(queries, name)
        found = retrieve(collection, dict(enumerate(zip(queries, encoded, strict=True))))
        for number, (question, query) in enumerate(zip(chunk, encoded, strict=True)):
            answered.append(_answered(question, found[number], names))
            if not isinstance(query, SemblanceError):
                vectors[start + number] = query.vector
        progress(len(answered), len(questions))
    return answered, vectors


def _content(engine: SearchEngine, question: Question) -> str | Image | Vector:
    return engine.open_image(question.content) if isinstance(question.content, Path) else question.content


def _answered(question: Question, found: Retrieved | SemblanceError, names: Mapping[int, str]) -> Answered:
    if isinstance(found, SemblanceError):
        found.add_note(f"asked by {question.id!r}")
        raise found
    scored = [(names.get(entry.key, ""), entry.score) for entry in found.entries]
    return ranked(question, scored, len(names))


def ranked(question: Question, scored: Sequence[tuple[str, float]], documents: int) -> Answered:
    """Order what was found: best first, of equal scores the wrong ones first; a right one that is not there ranks behind all."""
    ordered = sorted(scored, key=lambda pair: (-pair[1], pair[0] in question.relevant))
    ids = tuple(id for id, _ in ordered[:DEPTH])
    rank = next((place for place, (id, _) in enumerate(ordered, start=1) if id in question.relevant), documents + 1)
    return Answered(question, ids, rank)
