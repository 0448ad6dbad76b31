import base64
import json

import pytest

from engine.errors import DeadlineExceeded, Overloaded
from engine.testing import COLOURS

TEXT, IMAGE, TERMS = (f"/v1/collections/shop/search{part}" for part in ("/text", "/image", ""))


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def refused(answer, status, *words):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    for word in words:
        assert word in body["detail"]
    return body


def test_words_find_the_product_they_name(mugs):
    answer = mugs.post(TEXT, json={"query": "red", "k": 3})
    body = answer.json()
    assert ids(answer)[0] == "p1"
    assert len(body["hits"]) == 3
    judged = {"confidence", "decision", "broaden", "generation"}
    assert set(body) == judged | {"hits", "total", "admitted", "facets", "cursor", "timings_ms", "version", "cache"}
    assert body["admitted"] == 6
    assert 0.8 < body["hits"][0]["score"] <= 1
    assert body["hits"][0] == {
        "id": "p1",
        "score": body["hits"][0]["score"],
        "title": "red mug",
        "image": "/v1/collections/shop/documents/p1/image",
        "attributes": {"price": 10, "currency": "EUR", "brand": "Acme"},
        "variants": [],
        "duplicates": [],
        "explain": None,
    }


def test_text_is_another_name_for_query(mugs):
    assert ids(mugs.post(TEXT, json={"text": "blue", "k": 1})) == ["p3"]


def test_an_answer_says_which_cache_tier_it_came_from(mugs):
    assert mugs.post(TEXT, json={"query": "red"}).json()["cache"] == "miss"
    assert mugs.post(TEXT, json={"query": "red"}).json()["cache"] == "memory"


def test_a_filter_holds_exactly(mugs):
    answer = mugs.post(TEXT, json={"query": "mug", "where": "price < 50 and brand = 'Apex'"})
    assert sorted(ids(answer)) == ["p2", "p4"]
    assert answer.json()["admitted"] == 2


def test_a_filter_that_does_not_parse_points_at_the_place(mugs):
    body = refused(mugs.post(TEXT, json={"query": "mug", "where": "price < < 5"}), 422)
    assert body["type"] == "urn:semblance:problem:invalid-filter"
    assert body["title"] == "Invalid filter"
    assert body["column"] == 9


def test_an_uploaded_picture_finds_its_like(mugs, colour_picture):
    picture = base64.b64decode(colour_picture(COLOURS["green"]))
    answer = mugs.post(IMAGE, files={"image": ("photo.png", picture, "image/png")}, data={"k": "2", "where": "price > 0"})
    assert ids(answer)[0] == "p2"
    assert answer.json()["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert len(ids(answer)) == 2


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "data:;base64,"])
def test_a_picture_inside_json_finds_its_like(mugs, colour_picture, prefix):
    assert ids(mugs.post(IMAGE, json={"image": prefix + colour_picture(COLOURS["yellow"]), "k": 1})) == ["p4"]


def test_base64_may_be_url_safe_wrapped_and_unpadded(mugs, colour_picture):
    text = colour_picture(COLOURS["yellow"]).rstrip("=").replace("+", "-").replace("/", "_")
    assert ids(mugs.post(IMAGE, json={"image": text[:30] + "\n" + text[30:], "k": 1})) == ["p4"]


def test_weighted_terms_add_and_push_away(mugs, colour_picture):
    terms = [{"image": colour_picture(COLOURS["red"])}, {"text": "blue", "weight": 2}, {"text": "red", "weight": -0.5}]
    assert ids(mugs.post(TERMS, json={"terms": terms, "k": 1})) == ["p3"]


def test_more_like_this_leaves_out_the_product_itself(mugs):
    found = ids(mugs.post(TERMS, json={"terms": [{"id": "p1"}]}))
    assert len(found) == 5
    assert "p1" not in found


def test_a_vector_is_a_term(mugs):
    vector = mugs.post("/v1/embeddings", json={"input": "black"}).json()["data"][0]["embedding"]
    assert ids(mugs.post(TERMS, json={"terms": [{"vector": vector}], "k": 1})) == ["p5"]


def test_target_restricts_the_view(mugs):
    answer = mugs.post(TEXT, json={"query": "red", "k": 1, "target": "image"})
    assert answer.json()["hits"][0]["score"] == pytest.approx(1, abs=1e-3)


def test_what_is_not_there_is_not_found(mugs):
    refused(mugs.post("/v1/collections/none/search/text", json={"query": "x"}), 404, "none")
    refused(mugs.post(TERMS, json={"terms": [{"id": "p9"}]}), 404, "p9")


BAD_TEXT = [
    ({}, "query"),
    ({"query": ""}, "empty"),
    ({"query": "  "}, "empty"),
    ({"query": 5}, "query"),
    ({"query": None}, "query"),
    ({"query": ["red"]}, "query"),
    ({"query": "x" * 10_001}, "query"),
    ({"query": "x", "k": 0}, "k"),
    ({"query": "x", "k": 1001}, "k"),
    ({"query": "x", "k": "10"}, "k"),
    ({"query": "x", "k": True}, "k"),
    ({"query": "x", "k": 1.5}, "k"),
    ({"query": "x", "k": 10**30}, "k"),
    ({"query": "x", "where": 5}, "where"),
    ({"query": "x", "where": "x" * 10_001}, "where"),
    ({"query": "x", "target": "smell"}, "target"),
    ({"query": "x", "filter": "price < 5"}, "filter"),
    ({"query": "a\x00b"}, "NUL"),
    ([], "body"),
    ("red", "body"),
    (None, "body"),
    (5, "body"),
]


@pytest.mark.parametrize(("body", "word"), BAD_TEXT)
def test_a_wrong_body_is_refused_with_the_place(mugs, body, word):
    refused(mugs.post(TEXT, content=json.dumps(body), headers={"content-type": "application/json"}), 422, word)


BAD_JSON = [
    b"",
    b"{",
    b"{'query': 'x'}",
    b'{"query": NaN}',
    b'{"query": "x", "k": Infinity}',
    b'{"query": "\xff\xfe"}',
    b'{"query": "\\ud800"}',
    b'{"query": "\\udc00\\ud800"}',
    b'{"query": "x", "k": 1e999}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"query": "x"} trailing',
    b"\x00",
    b'{"query": "x", "k": ' + b"9" * 5000 + b"}",
    b"\xef\xbb\xbf{}",
]


@pytest.mark.parametrize("path", [TEXT, IMAGE, TERMS, "/v1/collections/shop/documents", "/v1/embeddings"])
def test_malformed_json_is_a_clean_4xx(mugs, path):
    for body in BAD_JSON:
        refused(mugs.post(path, content=body, headers={"content-type": "application/json"}), 422)


@pytest.mark.parametrize(
    "terms",
    [
        [],
        [{}],
        [{"text": "a", "id": "b"}],
        [{"text": "a", "weight": 0}],
        [{"text": "a", "weight": -1}],
        [{"text": "a", "weight": 1e300}],
        [{"vector": [0.0] * 256}],
        [{"vector": [1.0] * 255}],
        [{"vector": ["1"] * 256}],
        [{"vector": [1e300] * 256}],
        [{"image": "!"}],
        [{"image": ""}],
        [{"id": ""}],
        [{"text": "a"}] * 65,
        [{"text": "a"}, {"text": "a", "weight": -1}],
        {"text": "a"},
        [5],
        [{"vector": [1e-300] * 256}],
    ],
)
def test_terms_that_mean_nothing_are_refused(mugs, terms):
    answer = mugs.post(TERMS, json={"terms": terms})
    assert answer.status_code in (404, 422), answer.text
    refused(answer, answer.status_code)


BAD_PICTURES = {
    "http://example.com/a.png": "unsupported",
    "file:///etc/passwd": "unsupported",
    "gopher://x/": "unsupported",
    "/etc/passwd": "not_an_image",
    "../../etc/passwd": "not_an_image",
    "aGVsbG8=": "not_an_image",
    "data:image/png,rawbytes": "unsupported",
    "data:image/svg+xml;base64,PHN2Zy8+": "unsupported",
    "data:image/png;base64,": "empty",
    "====": "not_an_image",
    "A" * 400_000: "too_large",
}


@pytest.mark.parametrize("value", BAD_PICTURES, ids=lambda value: value[:30])
def test_what_is_no_picture_is_refused_with_a_reason(mugs, value):
    body = refused(mugs.post(IMAGE, json={"image": value}), 422)
    assert body["reason"] == BAD_PICTURES[value]
    assert "root:" not in body["detail"]


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(mugs, colour_picture):
    body = refused(mugs.post(IMAGE, json={"image": colour_picture("red", (2000, 2000))}), 422)
    assert body["reason"] == "too_many_pixels"


def test_forms_that_are_no_picture_search_are_refused(mugs, colour_picture):
    picture = base64.b64decode(colour_picture("red"))
    refused(mugs.post(IMAGE, files={"picture": picture}), 422, "image")
    refused(mugs.post(IMAGE, data={"image": "text"}, files={"other": picture}), 422)
    assert refused(mugs.post(IMAGE, files={"image": b""}), 422)["reason"] == "empty"
    assert refused(mugs.post(IMAGE, files={"image": b"x" * 300_000}), 422)["reason"] == "too_large"
    refused(mugs.post(IMAGE, files={"image": picture}, data={"k": "many"}), 422, "k")
    refused(mugs.post(IMAGE, files={"image": picture}, data={"k": "0"}), 422, "k")
    refused(mugs.post(IMAGE, files={"image": picture}, data={"colour": "red"}), 422, "colour")
    refused(mugs.post(IMAGE, files=[("image", picture), ("image", picture)]), 400)
    refused(mugs.post(IMAGE, content=b"x", headers={"content-type": "multipart/form-data"}), 400)
    refused(mugs.post(IMAGE, content=b"x", headers={"content-type": "multipart/form-data; boundary=b"}), 400)
    refused(mugs.post(IMAGE, content=picture, headers={"content-type": "image/png"}), 415, "multipart")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_of_another_type_is_told_what_to_send(mugs, kind):
    headers = {"content-type": kind} if kind else {}
    refused(mugs.post(TEXT, content=b'{"query": "red"}', headers=headers), 415, "application/json")


def test_a_body_over_the_limit_is_413(mugs):
    refused(mugs.post(TEXT, json={"query": "x" * 1_100_000}), 413)


@pytest.mark.parametrize(
    ("error", "status"), [(Overloaded("secret"), 503), (DeadlineExceeded("secret"), 504), (ValueError("secret"), 500)]
)
def test_a_5xx_tells_an_id_and_nothing_else(mugs, toy_engine, monkeypatch, error, status):
    def fail(*_):
        raise error

    monkeypatch.setattr(mugs.app.state.services.batcher, "_search", fail)
    answer = mugs.post(TEXT, json={"query": "x"})
    refused(answer, status)
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) is (status == 503)


# Lists


def test_a_list_is_counted_sorted_grouped_and_explained(mugs):
    options = {
        "k": 6,
        "facets": ["brand", {"name": "price", "edges": [25, 45]}],
        "sort": ["price:desc"],
        "boost": ["price=0.1"],
        "explain": True,
    }
    body = mugs.post(TEXT, json={"query": "mug", **options}).json()
    assert body["total"] == 6
    assert [hit["attributes"]["price"] for hit in body["hits"]] == [60, 50, 40, 30, 20, 10]
    brand, price = body["facets"]
    assert brand["values"] == [{"value": "Acme", "count": 3}, {"value": "Apex", "count": 3}]
    assert [(one["low"], one["high"], one["count"]) for one in price["ranges"]] == [(None, 25, 2), (25, 45, 2), (45, None, 2)]
    assert (price["low"], price["high"]) == (10, 60)
    assert set(body["hits"][0]["explain"]) == {"image", "title", "lexical", "boost:price"}
    assert body["hits"][0]["explain"]["lexical"]["words"] == ["mug"]
    grouped = mugs.post(TEXT, json={"query": "mug", "group_by": "brand", "dedup": True}).json()
    assert [len(hit["variants"]) for hit in grouped["hits"]] == [2, 2]


def test_a_list_is_turned_page_by_page(mugs):
    seen, cursor = [], "*"
    while cursor:
        body = mugs.post(TEXT, json={"query": "mug", "k": 4, "cursor": cursor, "sort": ["price"]}).json()
        seen += [hit["id"] for hit in body["hits"]]
        cursor = body["cursor"]
    assert seen == ["p1", "p2", "p3", "p4", "p5", "p6"]
    refused(mugs.post(TEXT, json={"query": "mug", "cursor": "x"}), 422, "cursor")


def test_a_picture_is_sent_with_the_options_of_a_list(mugs, colour_picture):
    picture = base64.b64decode(colour_picture(COLOURS["red"]))
    answer = mugs.post(IMAGE, files={"image": picture}, data={"facets": "brand,price", "sort": "price", "dedup": "true"})
    assert [facet["name"] for facet in answer.json()["facets"]] == ["brand", "price"]


def test_recommendations_leave_out_what_they_were_made_from(mugs):
    answer = mugs.post("/v1/collections/shop/search/recommend", json={"like": ["p1"], "unlike": ["p2"], "k": 6})
    assert {"p1", "p2"} & set(ids(answer)) == set()
    assert len(ids(answer)) == 4
    refused(mugs.post("/v1/collections/shop/search/recommend", json={"like": []}), 422)


@pytest.mark.parametrize(
    "options",
    [
        {"facets": [{"name": "price", "edges": [2, 1]}]},
        {"facets": ["a", "a"]},
        {"facets": [""]},
        {"facets": [{"name": "a", "limit": 0}]},
        {"sort": [""]},
        {"sort": ["a"] * 9},
        {"boost": ["price=lots"]},
        {"boost": ["price=0"]},
        {"group_by": ""},
        {"dedup": "yes"},
        {"cursor": ""},
        {"explain": 1},
    ],
)
def test_options_that_mean_nothing_are_refused(mugs, options):
    assert mugs.post(TEXT, json={"query": "mug", **options}).status_code == 422


@pytest.mark.parametrize(
    ("facet", "detail"),
    [
        (5, 'body.facets.0: give the name of an attribute, or {"name": ...}'),
        ("", "body.facets.0: String should have at least 1 character, not ''"),
        ({"name": "a", "limit": 0}, "body.facets.0.limit: Input should be greater than or equal to 1, not 0"),
    ],
)
def test_a_wrong_facet_has_one_reason_in_words_of_the_request(mugs, facet, detail):
    assert mugs.post(TEXT, json={"query": "mug", "facets": [facet]}).json()["detail"] == detail
