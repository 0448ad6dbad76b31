"""What a query that found nothing good could do without: a condition of its filter, or one of its terms.

Here belongs which queries are tried instead. Whether one of them finds an answer is judged by `engine.judge`.
"""

from collections.abc import Iterator
from dataclasses import replace

from engine.datatypes import DocumentRef, Image, Query, Relaxation
from engine.filters import conjuncts

MOST_TRIED = 8
MOST_PROPOSED = 5


def relaxed(query: Query) -> Iterator[tuple[Relaxation, Query]]:
    """Give the queries that ask for less, the smallest steps first, at most `MOST_TRIED`; their counts are still to be filled."""
    for number, pair in enumerate(_relaxed(replace(query, cursor=None))):
        if number == MOST_TRIED:
            return
        yield pair


def _relaxed(query: Query) -> Iterator[tuple[Relaxation, Query]]:
    conditions = [] if query.where is None else conjuncts(query.where)
    if len(conditions) > 1:
        for number, condition in enumerate(conditions):
            rest = " and ".join(f"({other})" for place, other in enumerate(conditions) if place != number)
            yield Relaxation("filter", condition, 0), replace(query, where=rest)
    for number, term in enumerate(query.terms):
        rest_of_terms = query.terms[:number] + query.terms[number + 1 :]
        if any(other.weight > 0 for other in rest_of_terms):
            yield Relaxation("term", _words(term.content), 0), replace(query, terms=rest_of_terms)
    if query.where is not None:
        yield Relaxation("filter", query.where, 0), replace(query, where=None)


def _words(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, DocumentRef):
        return f"document {content.id}"
    return "the picture" if isinstance(content, Image) else "the vector"
