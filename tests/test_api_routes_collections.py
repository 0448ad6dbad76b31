import pytest

from engine.testing import FakeEncoder


def test_a_collection_is_made_once_described_listed_and_removed(api):
    assert api.get("/v1/collections").json() == {"collections": [], "unusable": {}}
    made = api.put("/v1/collections/shop")
    assert made.status_code == 201
    assert made.json() == {
        "name": "shop",
        "documents": 0,
        "encoder": "fake:colours",
        "fingerprint": "fake-colours-1",
        "version": made.json()["version"],
    }
    assert api.put("/v1/collections/shop").status_code == 200
    assert api.get("/v1/collections/shop").json() == made.json()
    assert [item["name"] for item in api.get("/v1/collections").json()["collections"]] == ["shop"]
    assert api.delete("/v1/collections/shop").status_code == 204
    assert api.get("/v1/collections/shop").status_code == 404
    assert api.delete("/v1/collections/shop").status_code == 404
    assert api.get("/v1/collections").json()["collections"] == []


def test_a_collection_made_again_is_empty(mugs):
    mugs.delete("/v1/collections/shop")
    mugs.put("/v1/collections/shop")
    assert mugs.get("/v1/collections/shop").json()["documents"] == 0
    assert mugs.post("/v1/collections/shop/search/text", json={"query": "red"}).json()["hits"] == []


def test_putting_a_collection_keeps_what_is_in_it(mugs):
    assert mugs.put("/v1/collections/shop").json()["documents"] == 6


@pytest.mark.parametrize(
    "name", ["Shop", "-shop", "_", "a" * 64, "sh op", "..", "shop.", "é", "%2e%2e%2fetc", "shop%00", "shop%0a", "a%2Fb"]
)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_a_name_that_is_none_is_refused(api, name, method):
    answer = api.request(method, f"/v1/collections/{name}")
    assert answer.status_code in (404, 405, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_collection_of_another_encoder_is_named_and_not_searched(api, toy_engine):
    class Other(FakeEncoder):
        fingerprint = "other-1"

    from engine.search import SearchEngine

    with SearchEngine(toy_engine.settings, Other(), toy_engine._cache) as other:
        other.create("old")
    api.put("/v1/collections/new")
    listed = api.get("/v1/collections").json()
    assert [item["name"] for item in listed["collections"]] == ["new"]
    assert "other-1" in listed["unusable"]["old"]
    for answer in (
        api.get("/v1/collections/old"),
        api.put("/v1/collections/old"),
        api.post("/v1/collections/old/search/text", json={"query": "x"}),
    ):
        assert answer.status_code == 409, answer.text
        assert answer.json()["type"] == "urn:semblance:problem:encoder-mismatch"


def test_a_corrupt_collection_is_named_without_its_paths(api, toy_engine):
    api.put("/v1/collections/good")
    broken = toy_engine.settings.data / "broken"
    broken.mkdir()
    (broken / "collection.json").write_text("{")
    listed = api.get("/v1/collections").json()
    assert [item["name"] for item in listed["collections"]] == ["good"]
    assert str(toy_engine.settings.data) not in listed["unusable"]["broken"]
    answer = api.get("/v1/collections/broken")
    assert answer.status_code == 500
    assert "collection.json" not in answer.text
