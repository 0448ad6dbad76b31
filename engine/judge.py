"""Collects the evidence of a result and judges it: how likely it holds an answer, and what to do if it does not.

What the evidence is stands in `engine.evidence`, the curves in `engine.confidence`, what could be relaxed in `engine.relaxing`.
Nothing here changes which products are found.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from engine import relevance
from engine.collection import Candidate, Collection
from engine.confidence import FILE, Calibration, CurveName
from engine.datatypes import DocumentRef, Image, Query
from engine.documents import key_of
from engine.errors import BundleError
from engine.evidence import JUDGED, TOP, Null, Outcome, describe
from engine.queries import EncodedQuery
from engine.ranking import fuse

logger = logging.getLogger(__name__)

NULL_QUERIES = 64
GROWTH = 0.1  # a collection that has grown or shrunk by so much is sounded anew

Asked: TypeAlias = tuple[Query, EncodedQuery]
_Stamp: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How sure the engine is of one result. `confidence` is None without a calibration; `strong` counts what beats background."""

    confidence: float | None
    answered: bool
    nonsense: bool
    strong: int


class Judge:
    """Judges results of any collection of one encoder; thread-safe."""

    def __init__(self, calibration: Calibration | None) -> None:
        self._own = calibration
        self._nulls: dict[tuple[str, CurveName, tuple[float, float]], tuple[int, Null]] = {}
        self._calibrations: dict[str, tuple[_Stamp | None, Calibration | None]] = {}
        self._lock = threading.Lock()

    def judge(self, collection: Collection, asked: Mapping[int, Asked]) -> dict[int, Verdict]:
        """Judge what a collection holds for queries; those of one filter are searched in one call."""
        calibration = self.calibration_of(collection)
        verdicts: dict[int, Verdict] = {}
        for where in {query.where for query, _ in asked.values()}:
            group = {number: pair for number, pair in asked.items() if pair[0].where == where}
            looked = _look(collection, list(group.values()), where)
            for (number, (query, encoded)), candidates in zip(group.items(), looked, strict=True):
                verdicts[number] = self._verdict(collection, calibration, (query, encoded), candidates)
        return verdicts

    def calibration_of(self, collection: Collection) -> Calibration | None:
        """Give the collection's own calibration, or else the encoder's; None when there is neither for these vectors."""
        stamp = stamp_of(collection)
        held = self._calibrations.get(collection.identity)
        if held is None or held[0] != stamp:
            held = (stamp, self._read(collection, given=stamp is not None))
            with self._lock:
                self._calibrations[collection.identity] = held
                self._nulls = {key: null for key, null in self._nulls.items() if key[0] != collection.identity}
        return held[1]

    def _read(self, collection: Collection, *, given: bool) -> Calibration | None:
        candidates = [self._own]
        if given:
            try:
                candidates.insert(0, Calibration.load(collection.path / FILE))
            except BundleError as error:
                logger.warning("%s", error)
        return next((c for c in candidates if c is not None and c.fingerprint == collection.fingerprint), None)

    def _verdict(
        self, collection: Collection, calibration: Calibration | None, asked: Asked, candidates: Sequence[Candidate]
    ) -> Verdict:
        if not candidates:
            return Verdict(0.0, answered=False, nonsense=False, strong=0)
        name = _curve(asked[0], candidates)
        if calibration is None or name not in calibration.curves:
            return Verdict(None, answered=True, nonsense=False, strong=len(candidates))
        null = self._null(collection, calibration, name, asked[1].weights)
        outcome = _outcome(collection, asked[1], candidates)
        confidence = float(calibration.curves[name].probability(describe(outcome, null, calibration.background(name))))
        decision = calibration.decide(name, confidence, None if name == "picture" else asked[1].vector)
        strong = int((outcome.scores >= null.best).sum())
        return Verdict(confidence, decision == "answer", decision == "abstain", strong)

    def _null(self, collection: Collection, calibration: Calibration, name: CurveName, weights: tuple[float, float]) -> Null:
        size, key = collection.count(None), (collection.identity, name, weights)
        held = self._nulls.get(key)
        if held is not None and abs(size - held[0]) <= GROWTH * held[0]:
            return held[1]
        bank = calibration.background(name).queries[:NULL_QUERIES]
        found = collection.search(bank, TOP, weights=np.tile(np.array(weights, np.float32), (len(bank), 1)))
        scores = np.full((len(bank), TOP), -np.inf, np.float32)
        for row, candidates in enumerate(found):
            scores[row, : len(candidates)] = [candidate.score for candidate in candidates]
        null = Null.of(scores)
        with self._lock:
            self._nulls[key] = (size, null)
        return null


def stamp_of(collection: Collection) -> _Stamp | None:
    """Tell one calibration of a collection from the next; None while it has none of its own."""
    try:
        stat = (collection.path / FILE).stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _look(collection: Collection, asked: Sequence[Asked], where: str | None) -> list[list[Candidate]]:
    """Find the documents a judgement is based on: the same however many hits were asked for, and in which order."""
    vectors = np.stack([encoded.vector for _, encoded in asked])
    weights = np.array([encoded.weights for _, encoded in asked], np.float32)
    most = max(len(encoded.exclude) for _, encoded in asked)
    found = collection.search(vectors, JUDGED + most, weights=weights, where=where)
    left_out = [{key_of(id) for id in encoded.exclude} for _, encoded in asked]
    return [[c for c in list_ if c.key not in keys][:JUDGED] for list_, keys in zip(found, left_out, strict=True)]


def _curve(query: Query, candidates: Sequence[Candidate]) -> CurveName:
    """Choose the curve by what weighs more in the query, and by whether titles had a say."""
    shown = sum(abs(term.weight) for term in query.terms if isinstance(term.content, Image | DocumentRef))
    if shown > sum(abs(term.weight) for term in query.terms) / 2 and query.target != "title":
        return "picture"
    titled = query.target != "image" and any(candidate.title is not None for candidate in candidates[:TOP])
    return "titled" if titled else "untitled"


def _outcome(collection: Collection, encoded: EncodedQuery, candidates: Sequence[Candidate]) -> Outcome:
    image, title = (
        np.array([np.nan if value is None else value for value in values], np.float32)
        for values in ([c.image for c in candidates], [c.title for c in candidates])
    )
    weights = np.array(encoded.weights, np.float32)
    top = collection.vectors_at([c.key for c in candidates[:TOP]], encoded.vector, weights)
    sample = relevance.sampled(collection.snapshot(), encoded.vector, weights)
    return Outcome(encoded.vector, fuse(image, title, weights), image, title, top, sample)
