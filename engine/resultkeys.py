"""What a query asks for, as keys: under which its answer is cached, and by which a cursor knows its list.

Two queries share a key exactly when they have the same answer. How fields become a digest is in `engine.cache`.
"""

import orjson

from engine.cache import cache_key
from engine.collection import Collection
from engine.datatypes import Query
from engine.judge import stamp_of
from engine.queries import identity


def result_key(fingerprint: str, collection: Collection, version: int, query: Query) -> bytes:
    """Tell answers apart: the list, at a version of the collection, and what is shown of it."""
    shown = orjson.dumps((query.k, query.facets, query.explain, query.cursor, stamp_of(collection)))
    return cache_key("result", version, shown, list_key(fingerprint, collection, query))


def list_key(fingerprint: str, collection: Collection, query: Query) -> bytes:
    """Tell lists of different documents or order apart, whatever is shown of them."""
    terms = [(*identity(term), repr(term.weight)) for term in query.terms]
    fields = [field for term in terms for field in (len(term), *term)]
    where = ("all",) if query.where is None else ("where", query.where)
    order = orjson.dumps((query.target, query.sort, query.boosts, query.group_by, query.dedup))
    return cache_key("list", fingerprint, collection.identity, order, *where, *fields)
