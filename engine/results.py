"""Search results as plain data: the JSON every surface prints, and the bytes the cache keeps.

Both are written once here so that the command line, HTTP and the cache never disagree on a field.
"""

import dataclasses
from typing import Any, Literal

import orjson

from engine.datatypes import Hit, SearchResult


def result_as_dict(result: SearchResult) -> dict[str, Any]:
    """Lay a result out as JSON: hits, confidence, decision, total, timings_ms, version."""
    return {
        "hits": [
            {
                "id": hit.id,
                "score": round(hit.score, 6),
                "title": hit.title,
                "image": hit.image,
                "attributes": {name: list(value) if isinstance(value, tuple) else value for name, value in hit.attributes.items()},
            }
            for hit in result.hits
        ],
        "confidence": None if result.confidence is None else round(result.confidence, 4),
        "decision": result.decision,
        "total": result.total,
        "timings_ms": dict(result.timings_ms),
        "version": result.version,
    }


def pack(result: SearchResult) -> bytes:
    """Encode a result for the cache; its timings are not kept, they belong to the call that made it."""
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return orjson.dumps(fields | {"timings_ms": {}, "hits": [_hit_fields(hit) for hit in result.hits]})


def unpack(data: bytes, cache: Literal["memory", "redis"]) -> SearchResult:
    """Decode what `pack` wrote, marked with the tier it was found in."""
    fields = orjson.loads(data)
    hits = tuple(Hit(**(hit | {"attributes": _attributes(hit["attributes"])})) for hit in fields["hits"])
    return SearchResult(**(fields | {"hits": hits, "cache": cache}))


def _hit_fields(hit: Hit) -> dict[str, Any]:
    fields = {field.name: getattr(hit, field.name) for field in dataclasses.fields(hit)}
    return fields | {"attributes": dict(hit.attributes), "views": dict(hit.views)}


def _attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
