"""What to do about a result: answer with it, propose a broader query, draw what was asked for, or abstain.

How sure the engine is comes from `engine.judge`; which broader queries there are from `engine.relaxing`. They are tried only for a
query that found no answer, so they cost the others nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from unicodedata import category

from engine.collection import Collection
from engine.datatypes import Decision, Query, Relaxation
from engine.errors import SemblanceError
from engine.generation.safety import ConceptList
from engine.index.planner import Found
from engine.judge import Asked, Judge, Verdict
from engine.queries import QueryEncoder
from engine.relaxing import MOST_PROPOSED, relaxed


@dataclass(frozen=True, slots=True)
class Advice:
    """What an answer says beside its hits."""

    confidence: float | None
    decision: Decision
    broaden: tuple[Relaxation, ...] = ()


NO_ADVICE = Advice(None, "answer")


@dataclass(frozen=True, slots=True)
class Adviser:
    """What advice is made with: who judges, who encodes what is broader, and what is not drawn."""

    judge: Judge
    encoder: QueryEncoder
    blocked: ConceptList

    def advise(self, collection: Collection, asked: Mapping[int, Asked], looked: Mapping[int, Found]) -> dict[int, Advice]:
        """Judge what was `looked` at for queries, and look for something broader for those that found no answer."""
        verdicts = self.judge.judge(collection, asked, looked)
        return {number: self._advice(collection, asked[number][0], verdict) for number, verdict in verdicts.items()}

    def _advice(self, collection: Collection, query: Query, verdict: Verdict) -> Advice:
        if verdict.answered:
            return Advice(verdict.confidence, "answer")
        nothing = not verdict.strong and verdict.confidence == 0.0  # not a single document
        tried = self._tried(collection, query)
        better = [(proposal, found) for proposal, found in tried if found.answered or (nothing and proposal.matches)]
        if better or (nothing and query.where is not None):
            better.sort(key=lambda pair: (not pair[1].answered, -(pair[0].confidence or 0.0)))
            return Advice(verdict.confidence, "broaden", tuple(proposal for proposal, _ in better[:MOST_PROPOSED]))
        drawn = not (nothing or verdict.nonsense or _says_nothing(query) or self.blocked.rule_of(query))
        return Advice(verdict.confidence, "generate" if drawn else "abstain")

    def _tried(self, collection: Collection, query: Query) -> list[tuple[Relaxation, Verdict]]:
        pairs = list(relaxed(query))
        encoded = self.encoder.encode([broader for _, broader in pairs], collection) if pairs else []
        asked = {n: (pairs[n][1], e) for n, e in enumerate(encoded) if not isinstance(e, SemblanceError)}
        found = self.judge.judge(collection, asked) if asked else {}
        return [(_counted(collection, pairs[number], verdict), verdict) for number, verdict in sorted(found.items())]


def _says_nothing(query: Query) -> bool:
    """Say whether a query is of words alone without a letter, a digit or a pictograph."""
    return all(isinstance(term.content, str) and not any(map(_means, term.content)) for term in query.terms)


def _means(character: str) -> bool:
    return category(character)[0] in "LN" or category(character) == "So"


def _counted(collection: Collection, pair: tuple[Relaxation, Query], verdict: Verdict) -> Relaxation:
    proposal, broader = pair
    matches = collection.count(broader.where) if proposal.kind == "filter" else verdict.strong
    return replace(proposal, matches=matches, confidence=verdict.confidence)
