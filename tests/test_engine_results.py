import json
from dataclasses import replace

from engine.datatypes import Evidence, Hit, SearchResult
from engine.listing import Counted, CountedRange, FacetResult
from engine.results import pack, result_as_dict, unpack

RESULT = SearchResult(
    hits=(
        Hit(
            "p1",
            0.123456789,
            "Rote Tasse",
            "red.png",
            {"price": 9.5, "tags": ("a", "b")},
            {"image": 0.2},
            ("p2",),
            ("p3", "p4"),
            {"lexical": Evidence(0.5, 1, 0.25, ("tasse",))},
        ),
    ),
    confidence=0.87654321,
    decision="answer",
    total=7,
    timings_ms={"total": 1.0},
    version=3,
    admitted=9,
    facets=(FacetResult("brand", (Counted("Acme", 3), Counted(True, 1)), (CountedRange(None, 2.0, 1),), 1, 2, 0.5, 9.0),),
    cursor="next",
)


def test_the_json_has_exactly_the_promised_fields():
    data = json.loads(json.dumps(result_as_dict(RESULT)))
    assert list(data) == [
        "hits",
        "confidence",
        "decision",
        "broaden",
        "total",
        "admitted",
        "facets",
        "cursor",
        "timings_ms",
        "version",
    ]
    assert data["hits"] == [
        {
            "id": "p1",
            "score": 0.123457,
            "title": "Rote Tasse",
            "image": "red.png",
            "attributes": {"price": 9.5, "tags": ["a", "b"]},
            "variants": ["p2"],
            "duplicates": ["p3", "p4"],
            "explain": {"lexical": {"score": 0.5, "rank": 1, "weight": 0.25, "words": ["tasse"]}},
        }
    ]
    assert data["facets"][0]["values"] == [{"value": "Acme", "count": 3}, {"value": True, "count": 1}]
    assert data["facets"][0]["ranges"] == [{"low": None, "high": 2.0, "count": 1}]
    assert (data["total"], data["admitted"], data["cursor"]) == (7, 9, "next")


def test_a_cached_result_comes_back_whole_with_its_tier():
    again = unpack(pack(RESULT), "redis")
    assert again.cache == "redis"
    assert replace(again, cache="miss", timings_ms=RESULT.timings_ms) == RESULT
    assert (again.confidence, again.decision, again.total, again.version) == (0.87654321, "answer", 7, 3)
    assert again.timings_ms == {}
