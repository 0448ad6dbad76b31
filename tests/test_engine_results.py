import json

from engine.datatypes import Hit, SearchResult
from engine.results import pack, result_as_dict, unpack

RESULT = SearchResult(
    hits=(Hit("p1", 0.123456789, "Rote Tasse", "red.png", {"price": 9.5, "tags": ("a", "b")}, {"image": 0.2}),),
    confidence=0.87654321,
    decision="answer",
    total=7,
    timings_ms={"total": 1.0},
    version=3,
)


def test_the_json_has_exactly_the_promised_fields():
    data = json.loads(json.dumps(result_as_dict(RESULT)))
    assert list(data) == ["hits", "confidence", "decision", "total", "timings_ms", "version"]
    assert data["hits"] == [
        {"id": "p1", "score": 0.123457, "title": "Rote Tasse", "image": "red.png", "attributes": {"price": 9.5, "tags": ["a", "b"]}}
    ]


def test_a_cached_result_comes_back_whole_with_its_tier():
    again = unpack(pack(RESULT), "redis")
    assert again.cache == "redis"
    assert again.hits == RESULT.hits
    assert (again.confidence, again.decision, again.total, again.version) == (0.87654321, "answer", 7, 3)
    assert again.timings_ms == {}
