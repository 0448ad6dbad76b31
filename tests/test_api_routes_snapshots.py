"""Snapshots, aliases and removal by filter over HTTP."""

import pytest


def names(api, collection):
    return [item["snapshot"] for item in api.get(f"/v1/collections/{collection}/snapshots").json()["snapshots"]]


def test_a_snapshot_is_taken_listed_fetched_restored_and_removed(mugs):
    taken = mugs.post("/v1/collections/shop/snapshots")
    assert taken.status_code == 201
    name = taken.json()["snapshot"]
    assert mugs.get("/v1/collections/shop/snapshots").json() == {"snapshots": [taken.json()]}
    file = mugs.get(f"/v1/collections/shop/snapshots/{name}")
    assert file.headers["content-type"] == "application/x-tar"
    assert len(file.content) == taken.json()["bytes"]
    mugs.delete("/v1/collections/shop")
    made = mugs.post("/v1/collections/shop/restore", json={"collection": "shop", "snapshot": name})
    assert (made.status_code, made.json()["documents"]) == (201, 6)
    assert mugs.post("/v1/collections/shop/search/text", json={"query": "red"}).json()["hits"][0]["title"] == "red mug"
    assert mugs.post("/v1/collections/shop/restore", json={"collection": "shop", "snapshot": name}).status_code == 409
    assert mugs.delete(f"/v1/collections/shop/snapshots/{name}").status_code == 204
    assert names(mugs, "shop") == []


@pytest.mark.parametrize("name", ["x", "..%2f..%2fshop%2fdocuments.sqlite", "20260131T101500-1c9f.snapshot"])
def test_what_is_no_snapshot_is_not_found(mugs, name):
    assert mugs.get(f"/v1/collections/shop/snapshots/{name}").status_code in {404, 422}
    assert mugs.delete(f"/v1/collections/shop/snapshots/{name}").status_code in {404, 422}
    body = {"collection": "shop", "snapshot": name}
    assert mugs.post("/v1/collections/again/restore", json=body).status_code in {404, 422}


def test_an_alias_is_pointed_and_forgotten(mugs):
    assert mugs.put("/v1/aliases/live", json={"collection": "nothing"}).status_code == 404
    assert mugs.put("/v1/aliases/shop", json={"collection": "shop"}).status_code == 422
    made = mugs.put("/v1/aliases/live", json={"collection": "shop"})
    assert made.json() == {"alias": "live", "collection": "shop", "previous": None}
    assert mugs.get("/v1/aliases").json() == {"aliases": [made.json()]}
    assert mugs.get("/v1/collections/live").json()["documents"] == 6
    assert mugs.post("/v1/collections/live/search/text", json={"query": "red"}).json()["hits"][0]["title"] == "red mug"
    assert mugs.delete("/v1/aliases/live").status_code == 204
    assert mugs.delete("/v1/aliases/live").status_code == 404
    assert mugs.get("/v1/collections/live").status_code == 404


def test_products_are_removed_by_filter(mugs):
    answer = mugs.delete("/v1/collections/shop/documents", params={"where": "title contains 'red' or title contains 'blue'"})
    assert answer.json() == {"deleted": 2}
    assert mugs.get("/v1/collections/shop").json()["documents"] == 4
    assert mugs.delete("/v1/collections/shop/documents", params={"where": "title ="}).status_code == 422
    assert mugs.delete("/v1/collections/shop/documents").status_code == 422
    assert mugs.get("/v1/collections/shop").json()["documents"] == 4
