"""Search results as plain data: the JSON every surface prints, and the bytes the cache keeps.

Both are written once here so that the command line, HTTP and the cache never disagree on a field.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import orjson

from engine.datatypes import Evidence, Hit, Relaxation, SearchResult
from engine.listing import Counted, CountedRange, FacetResult


def result_as_dict(result: SearchResult) -> dict[str, Any]:
    """Lay a result out as JSON: hits, confidence, decision, broaden, total, admitted, facets, cursor, timings_ms, version."""
    return {
        "hits": [_hit_as_dict(hit) for hit in result.hits],
        "confidence": None if result.confidence is None else round(result.confidence, 4),
        "decision": result.decision,
        "broaden": [dataclasses.asdict(relaxation) for relaxation in result.broaden],
        "total": result.total,
        "admitted": result.admitted,
        "facets": [_facet_as_dict(facet) for facet in result.facets],
        "cursor": result.cursor,
        "timings_ms": dict(result.timings_ms),
        "version": result.version,
    }


def _hit_as_dict(hit: Hit) -> dict[str, Any]:
    return {
        "id": hit.id,
        "score": round(hit.score, 6),
        "title": hit.title,
        "image": hit.image,
        "attributes": {name: list(value) if isinstance(value, tuple) else value for name, value in hit.attributes.items()},
        "variants": list(hit.variants),
        "duplicates": list(hit.duplicates),
        "explain": None if hit.explain is None else {name: _evidence_as_dict(part) for name, part in hit.explain.items()},
    }


def _evidence_as_dict(evidence: Evidence) -> dict[str, Any]:
    fields = {"score": round(evidence.score, 6), "rank": evidence.rank, "weight": round(evidence.weight, 6)}
    return fields | {"words": list(evidence.words)}


def _facet_as_dict(facet: FacetResult) -> dict[str, Any]:
    return dataclasses.asdict(facet)


def pack(result: SearchResult) -> bytes:
    """Encode a result for the cache; its timings are not kept, they belong to the call that made it."""
    return orjson.dumps(dataclasses.replace(result, timings_ms={}), default=dict)


UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)
"""What `unpack` raises for bytes that another release wrote in another form, or that somebody else put into a shared cache."""


def unpack(data: bytes, cache: Literal["memory", "redis"]) -> SearchResult:
    """Decode what `pack` wrote, marked with the tier it was found in. Raises one of `UNREADABLE`."""
    fields = orjson.loads(data)
    hits, facets = tuple(map(_hit, fields["hits"])), tuple(map(_facet, fields["facets"]))
    broaden = tuple(Relaxation(**relaxation) for relaxation in fields["broaden"])
    return SearchResult(**(fields | {"hits": hits, "facets": facets, "broaden": broaden, "cache": cache}))


def _hit(fields: Mapping[str, Any]) -> Hit:
    attributes = {name: tuple(value) if isinstance(value, list) else value for name, value in fields["attributes"].items()}
    explain = fields["explain"] and {name: _evidence(part) for name, part in fields["explain"].items()}
    lists = {name: tuple(fields[name]) for name in ("variants", "duplicates")}
    return Hit(**{**fields, **lists, "attributes": attributes, "explain": explain})


def _evidence(fields: Mapping[str, Any]) -> Evidence:
    return Evidence(**{**fields, "words": tuple(fields["words"])})


def _facet(fields: Mapping[str, Any]) -> FacetResult:
    values = tuple(Counted(**value) for value in fields["values"])
    ranges = tuple(CountedRange(**value) for value in fields["ranges"])
    return FacetResult(**{**fields, "values": values, "ranges": ranges})
