"""Collects the evidence of a result and judges it: how likely it holds an answer, and what to do if it does not.

What the evidence is stands in `engine.evidence`, the curves in `engine.confidence`, what could be relaxed in `engine.relaxing`.
Nothing here changes which products are found.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from engine import relevance
from engine.collection import Collection
from engine.confidence import FILE, Calibration, CurveName
from engine.datatypes import DocumentRef, Image, Query
from engine.errors import BundleError
from engine.evidence import JUDGED, TOP, Null, Outcome, describe
from engine.index.gather import gather
from engine.index.planner import Depth, Found, find_by_vectors
from engine.index.snapshot import Snapshot
from engine.queries import EncodedQuery
from engine.retrieval import without

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

    def judge(
        self, collection: Collection, asked: Mapping[int, Asked], looked: Mapping[int, Found] | None = None
    ) -> dict[int, Verdict]:
        """Judge what a collection holds for queries: what was `looked` at for each, or is searched for here.

        That are the at most `JUDGED` best documents by vectors alone, the same however many hits were asked for, in whatever order.
        """
        calibration, snapshot = self.calibration_of(collection), collection.snapshot()
        seen = _look(snapshot, asked) if looked is None else looked
        judged = _Judged(collection, snapshot, calibration)
        return {number: self._verdict(judged, pair, seen[number]) for number, pair in asked.items()}

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

    def _verdict(self, judged: "_Judged", asked: Asked, found: Found) -> Verdict:
        if not len(found):
            return Verdict(0.0, answered=False, nonsense=False, strong=0)
        name, calibration = _curve(asked[0], found), judged.calibration
        if calibration is None or name not in calibration.curves:
            return Verdict(None, answered=True, nonsense=False, strong=len(found))
        null = self._null(judged, calibration, name, asked[1].weights)
        outcome = _outcome(judged.snapshot, asked[1], found)
        confidence = float(calibration.curves[name].probability(describe(outcome, null, calibration.background(name))))
        decision = calibration.decide(name, confidence, None if name == "picture" else asked[1].vector)
        strong = int((outcome.scores >= null.best).sum())
        return Verdict(confidence, decision == "answer", decision == "abstain", strong)

    def _null(self, judged: "_Judged", calibration: Calibration, name: CurveName, weights: tuple[float, float]) -> Null:
        size, key = len(judged.snapshot), (judged.collection.identity, name, weights)
        held = self._nulls.get(key)
        if held is not None and abs(size - held[0]) <= GROWTH * held[0]:
            return held[1]
        bank = calibration.background(name).queries[:NULL_QUERIES]
        depth = Depth(np.tile(np.array(weights, np.float32), (len(bank), 1)), TOP)
        scores = np.full((len(bank), TOP), -np.inf, np.float32)
        for row, found in enumerate(find_by_vectors(judged.snapshot, bank, depth, None)):
            scores[row, : len(found)] = found.scores
        null = Null.of(scores)
        with self._lock:
            self._nulls[key] = (size, null)
        return null


@dataclass(frozen=True, slots=True)
class _Judged:
    """The state of a collection that results are judged in, and what judges them."""

    collection: Collection
    snapshot: Snapshot
    calibration: Calibration | None


def stamp_of(collection: Collection) -> _Stamp | None:
    """Tell one calibration of a collection from the next; None while it has none of its own."""
    try:
        stat = (collection.path / FILE).stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _look(snapshot: Snapshot, asked: Mapping[int, Asked]) -> dict[int, Found]:
    """Find the documents a judgement is based on; queries of one filter are searched in one call."""
    looked: dict[int, Found] = {}
    for where in {query.where for query, _ in asked.values()}:
        group = {number: encoded for number, (query, encoded) in asked.items() if query.where == where}
        vectors = np.stack([encoded.vector for encoded in group.values()])
        weights = np.array([encoded.weights for encoded in group.values()], np.float32)
        most = max(len(encoded.exclude) for encoded in group.values())
        found = find_by_vectors(snapshot, vectors, Depth(weights, JUDGED + most), where)
        looked |= {n: without(own, group[n].exclude, JUDGED) for n, own in zip(group, found, strict=True)}
    return looked


def _curve(query: Query, found: Found) -> CurveName:
    """Choose the curve by what weighs more in the query, and by whether titles had a say."""
    shown = sum(abs(term.weight) for term in query.terms if isinstance(term.content, Image | DocumentRef))
    if shown > sum(abs(term.weight) for term in query.terms) / 2 and query.target != "title":
        return "picture"
    titled = query.target != "image" and not np.isnan(found.title[:TOP]).all()
    return "titled" if titled else "untitled"


def _outcome(snapshot: Snapshot, encoded: EncodedQuery, found: Found) -> Outcome:
    weights = np.array(encoded.weights, np.float32)
    top = gather(snapshot, found.keys[:TOP].tolist(), encoded.vector, weights)
    sample = relevance.sampled(snapshot, encoded.vector, weights)
    return Outcome(encoded.vector, found.scores, found.image, found.title, top, sample)
