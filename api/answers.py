"""Search results -> the bytes of an answer. What this process remembers is written once and sent again as it is.

Which searches begin a drawing, and what their answers say of it, is in `api.drawing`.
"""

import time
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

from api.exchange import picture_address
from api.passes import signer
from engine.datatypes import Query, SearchResult
from engine.results import UNREADABLE, result_as_dict, unpack
from engine.search import SearchEngine

READY = 1_000
"""How many answers are kept written down; of the usual length, some 4 MB."""


@dataclass(frozen=True, slots=True)
class Ready:
    """An answer from memory, written down: all of its JSON but the timings. `result` is what it says, without the `hits`."""

    head: bytes
    result: SearchResult
    hits: int

    def completed(self, milliseconds: float) -> bytes:
        """Write the whole answer, which took so long to find."""
        return b'%b,"timings_ms":{"cache":%.3f,"total":%.3f},"generation":null}' % (self.head, milliseconds, milliseconds)


def recalled(engine: SearchEngine, collection: str, query: Query) -> tuple[Ready, float] | None:
    """Find the answer that the memory of this process holds, and the milliseconds it took; None where there is none."""
    began = time.perf_counter()
    packed = engine.recall(collection, query)
    try:
        return None if packed is None else (_written(collection, packed, signer()), 1000 * (time.perf_counter() - began))
    except UNREADABLE:  # it came from a shared cache; who searches replaces it
        return None


@lru_cache(READY)
def _written(collection: str, packed: bytes, signer: Hashable) -> Ready:
    """Write an answer down; equal bytes under equal passes have equal answers."""
    result = unpack(packed, "memory")
    fields = answer_fields(collection, result)
    del fields["timings_ms"]
    return Ready(orjson.dumps(fields)[:-1], replace(result, hits=(), facets=(), broaden=(), cursor=None), len(result.hits))


def answer_fields(collection: str, result: SearchResult) -> dict[str, Any]:
    """Lay a result out as an answer, with the addresses of its pictures."""
    fields = result_as_dict(result) | {"cache": result.cache}
    for hit in fields["hits"]:
        hit["image"] = picture_address(collection, hit["id"], hit["image"])
    return fields
