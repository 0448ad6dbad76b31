import base64
import io

import pytest
from PIL import Image

from engine.testing import COLOURS

SHOP = "/v1/collections/shop"
DOCUMENTS = f"{SHOP}/documents"


def upsert(client, *documents):
    return client.post(DOCUMENTS, json={"documents": list(documents)})


def statuses(answer):
    return [item["status"] for item in answer.json()["items"]]


def test_bulk_upsert_says_what_became_of_each_item(mugs, colour_picture):
    red = {
        "id": "p1",
        "title": "red mug",
        "images": [colour_picture(COLOURS["red"])],
        "attributes": {"price": 10, "currency": "EUR", "brand": "Acme"},
    }
    answer = upsert(mugs, red, {"id": "p2", "title": "emerald mug"}, {"id": "p7", "title": "pot"})
    assert answer.status_code == 200
    assert statuses(answer) == ["unchanged", "updated", "created"]
    assert answer.json()["items"][2] == {"index": 2, "id": "p7", "status": "created", "error": None}
    assert {name: answer.json()[name] for name in ("created", "updated", "unchanged", "refused")} == {
        "created": 1,
        "updated": 1,
        "unchanged": 1,
        "refused": 0,
    }


BAD_ITEMS = [
    5,
    None,
    "x",
    [],
    {},
    {"id": ""},
    {"id": "  ", "title": "x"},
    {"id": 5, "title": "x"},
    {"id": ".", "title": "x"},
    {"id": "..", "title": "x"},
    {"id": "b"},
    {"id": "b", "title": " "},
    {"id": "b", "title": 5},
    {"id": "b", "title": "x", "images": "a.png"},
    {"id": "b", "title": "x", "images": [5]},
    {"id": "b", "title": "x", "images": ["/etc/passwd"]},
    {"id": "b", "title": "x", "images": ["images/a.png"]},
    {"id": "b", "title": "x", "images": ["http://localhost/a.png"]},
    {"id": "b", "title": "x", "images": ["file:///etc/passwd"]},
    {"id": "b", "title": "x", "images": ["aGVsbG8="]},
    {"id": "b", "title": "x", "images": ["upload:00"]},
    {"id": "b", "title": "x", "attributes": []},
    {"id": "b", "title": "x", "attributes": {"a": {"b": 1}}},
    {"id": "b", "title": "x", "attributes": {"a": 1e300}},
    {"id": "b", "title": "x", "attributes": {"": 1}},
    {"id": "b", "title": "x", "attributes": {"a": [1]}},
    {"id": "b", "title": "x", "attributes": {"a": 2**70}},
    {"id": "b", "title": "x", "price": 5},
    {"id": "b\x00", "title": "x"},
    {"id": "b", "title": "x\x00"},
    {"id": "b" * 513, "title": "x"},
    {"id": "b", "title": "x" * 10_001},
]


@pytest.mark.parametrize("bad", BAD_ITEMS, ids=lambda bad: str(bad)[:60])
def test_a_bad_item_is_refused_with_a_reason_and_the_others_go_in(mugs, bad):
    answer = upsert(mugs, {"id": "good-1", "title": "first"}, bad, {"id": "good-2", "title": "second"})
    assert answer.status_code == 207, answer.text
    assert statuses(answer) == ["created", "refused", "created"]
    assert answer.json()["items"][1]["error"]
    assert mugs.get(f"{DOCUMENTS}/good-2").json()["title"] == "second"


def test_the_reason_names_the_picture_and_the_remedy(mugs):
    answer = upsert(mugs, {"id": "b", "title": "x", "images": ["http://shop.example/a.png"]})
    assert "images[0]" in answer.json()["items"][0]["error"]
    assert "base64" in answer.json()["items"][0]["error"]


def test_no_path_a_client_sends_is_read(mugs, toy_engine, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "abcd.png")
    for name in (str(tmp_path / "abcd.png"), "abcd.png", "./abcd.png"):
        assert statuses(upsert(mugs, {"id": "b", "title": "x", "images": [name]})) == ["refused"]


def test_of_two_items_with_one_id_the_last_wins(mugs):
    upsert(mugs, {"id": "d", "title": "first"}, {"id": "d", "title": "last"})
    assert mugs.get(f"{DOCUMENTS}/d").json()["title"] == "last"


def test_the_last_of_one_id_wins_also_when_it_says_what_was_stored(mugs):
    upsert(mugs, {"id": "d", "title": "stored"})
    answer = upsert(mugs, {"id": "d", "title": "between"}, {"id": "d", "title": "stored"})
    assert statuses(answer) == ["updated", "updated"]
    assert mugs.get(f"{DOCUMENTS}/d").json()["title"] == "stored"


def test_a_bulk_request_has_bounds(mugs):
    assert upsert(mugs).status_code == 422
    assert upsert(mugs, *[{"id": "a", "title": "b"}] * 1001).status_code == 422
    assert mugs.post(DOCUMENTS, json={"documents": {"id": "a"}}).status_code == 422


def test_a_collection_is_not_made_by_a_misspelt_name(mugs):
    assert mugs.post("/v1/collections/shpo/documents", json={"documents": [{"id": "a", "title": "b"}]}).status_code == 404
    assert mugs.get("/v1/collections/shpo").status_code == 404


def test_an_unknown_collection_does_not_name_the_servers_folder(mugs, toy_engine):
    detail = mugs.get("/v1/collections/shpo").json()["detail"]
    assert "'shpo'" in detail
    assert str(toy_engine.settings.data) not in detail


def test_a_document_reads_back_without_the_servers_paths(mugs):
    answer = mugs.get(f"{DOCUMENTS}/p1")
    assert answer.json() == {
        "id": "p1",
        "title": "red mug",
        "description": "",
        "image": f"{DOCUMENTS}/p1/image",
        "images": 1,
        "attributes": {"price": 10, "currency": "EUR", "brand": "Acme"},
    }


HARD_IDS = [
    "a/b",
    "a/b/image",
    "image",
    "x/image",
    "…/日本 語",
    "a.b",
    "100% cotton?",
    "q?x=1#frag",
    "a+b",
    "-",
    "a//b",
    "a\\b",
    "é",
    "e\u0301",
    "😀",
    " lead",
    "a;b=c",
    "'\"<>",
    "a\nb",
    "a\n",
    "a\r\nb/image",
    "a\u2028b",
    "a/../b",
]


@pytest.mark.parametrize("id", HARD_IDS)
def test_any_id_can_be_read_changed_shown_and_removed(api, colour_picture, id):
    from urllib.parse import quote

    api.put(SHOP)
    address = f"{DOCUMENTS}/{quote(id, safe='')}"
    assert statuses(upsert(api, {"id": id, "title": "red thing", "images": [colour_picture(COLOURS["red"])]})) == ["created"]
    assert api.get(address).json()["id"] == id
    assert api.get(api.get(address).json()["image"]).headers["content-type"] == "image/webp"
    assert api.patch(address, json={"attributes": {"n": 1}}).json()["attributes"] == {"n": 1}
    hit = api.post(f"{SHOP}/search/text", json={"query": "red"}).json()["hits"][0]
    assert (hit["id"], api.get(hit["image"]).status_code) == (id, 200)
    assert api.delete(address).status_code == 204
    assert api.get(address).status_code == 404


def test_bare_slashes_in_an_id_work_too(api):
    api.put(SHOP)
    upsert(api, {"id": "a/b/c", "title": "x"})
    assert api.get(f"{DOCUMENTS}/a/b/c").json()["id"] == "a/b/c"


def test_unknown_documents_are_not_found(mugs):
    for answer in (
        mugs.get(f"{DOCUMENTS}/no"),
        mugs.delete(f"{DOCUMENTS}/no"),
        mugs.patch(f"{DOCUMENTS}/no", json={}),
        mugs.get(f"{DOCUMENTS}/no/image"),
    ):
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:semblance:problem:document-not-found"
    assert mugs.get(f"{DOCUMENTS}/").status_code == 404


def test_a_patch_of_attributes_merges_and_embeds_nothing(mugs, toy_engine):
    before = (toy_engine.encoder.texts_encoded, toy_engine.encoder.images_encoded)
    answer = mugs.patch(f"{DOCUMENTS}/p1", json={"attributes": {"price": 7.5, "brand": None, "tags": ["a", "b"]}})
    assert answer.json()["attributes"] == {"price": 7.5, "currency": "EUR", "tags": ["a", "b"]}
    assert (toy_engine.encoder.texts_encoded, toy_engine.encoder.images_encoded) == before
    hits = mugs.post(f"{SHOP}/search/text", json={"query": "red", "where": "price = 7.5"}).json()["hits"]
    assert [hit["id"] for hit in hits] == ["p1"]
    assert mugs.get(f"{DOCUMENTS}/p1/image").status_code == 200


def test_a_patch_of_the_title_embeds_the_title_alone(mugs, toy_engine):
    texts, images = toy_engine.encoder.texts_encoded, toy_engine.encoder.images_encoded
    assert mugs.patch(f"{DOCUMENTS}/p1", json={"title": "crimson cup"}).json()["title"] == "crimson cup"
    assert (toy_engine.encoder.texts_encoded, toy_engine.encoder.images_encoded) == (texts + 1, images)
    hit = mugs.post(f"{SHOP}/search/text", json={"query": "crimson cup", "target": "title", "k": 1}).json()["hits"][0]
    assert (hit["id"], round(hit["score"], 2)) == ("p1", 1.0)
    assert mugs.post(f"{SHOP}/search/text", json={"query": "red", "target": "image", "k": 1}).json()["hits"][0]["id"] == "p1"


def test_a_patch_of_the_pictures_replaces_them(mugs, colour_picture):
    assert mugs.patch(f"{DOCUMENTS}/p1", json={"images": [colour_picture(COLOURS["blue"])]}).json()["images"] == 1
    found = mugs.post(f"{SHOP}/search/text", json={"query": "blue", "target": "image", "k": 2}).json()["hits"]
    assert {hit["id"] for hit in found} == {"p1", "p3"}
    assert mugs.patch(f"{DOCUMENTS}/p1", json={"images": []}).json()["image"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"title": 5},
        {"id": "q"},
        {"attributes": {"a": {}}},
        {"images": ["/etc/passwd"]},
        {"images": ["aGVsbG8="]},
        {"title": None},
        [],
        {"attributes": {"a": 1e300}},
        {"title": "\x00"},
    ],
)
def test_a_wrong_patch_changes_nothing(mugs, body):
    before = mugs.get(f"{DOCUMENTS}/p1").json()
    answer = mugs.patch(f"{DOCUMENTS}/p1", json=body)
    assert answer.status_code == 422, answer.text
    assert mugs.get(f"{DOCUMENTS}/p1").json() == before


def test_a_document_cannot_be_patched_into_one_that_nothing_finds(api):
    api.put(SHOP)
    upsert(api, {"id": "t", "title": "only a title"})
    assert api.patch(f"{DOCUMENTS}/t", json={"title": ""}).status_code == 422
    assert api.get(f"{DOCUMENTS}/t").json()["title"] == "only a title"


def test_an_empty_patch_is_no_change(mugs):
    version = mugs.get(SHOP).json()["version"]
    assert mugs.patch(f"{DOCUMENTS}/p1", json={}).json()["title"] == "red mug"
    assert mugs.get(SHOP).json()["version"] == version


def test_a_merge_patch_has_its_own_content_type(mugs):
    answer = mugs.patch(f"{DOCUMENTS}/p1", content=b'{"title": "cup"}', headers={"content-type": "application/merge-patch+json"})
    assert answer.json()["title"] == "cup"


def test_writes_are_searchable_at_once_and_deletes_too(mugs):
    upsert(mugs, {"id": "new", "title": "turquoise"})
    find = {"query": "turquoise", "k": 1}
    assert mugs.post(f"{SHOP}/search/text", json=find).json()["hits"][0]["id"] == "new"
    mugs.delete(f"{DOCUMENTS}/new")
    assert "new" not in [hit["id"] for hit in mugs.post(f"{SHOP}/search/text", json={"query": "turquoise"}).json()["hits"]]


def test_a_picture_is_webp_of_the_size_asked_for(mugs, colour_picture):
    upsert(mugs, {"id": "wide", "title": "x", "images": [colour_picture("red", (900, 300))]})
    answer = mugs.get(f"{DOCUMENTS}/wide/image", params={"size": 200})
    assert Image.open(io.BytesIO(answer.content)).size == (200, 67)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-content-type-options"] == "nosniff"
    for size in ("0", "15", "99999", "-1", "big", "1e9"):
        assert mugs.get(f"{DOCUMENTS}/wide/image", params={"size": size}).status_code == 422


def test_null_says_of_an_attribute_that_there_is_none_in_post_and_patch(mugs):
    document = {"id": "n", "title": "x", "attributes": {"a": 1, "b": None}}
    assert statuses(upsert(mugs, document)) == ["created"]
    assert mugs.get(f"{DOCUMENTS}/n").json()["attributes"] == {"a": 1}
    assert statuses(upsert(mugs, {**document, "attributes": {"a": 1}})) == ["unchanged"]
    assert mugs.patch(f"{DOCUMENTS}/n", json={"attributes": {"a": None, "c": None}}).json()["attributes"] == {}


@pytest.mark.parametrize(
    ("value", "given"),
    [({"b": 1}, "an object"), ([1], "a list of something else"), ([["x"]], "a list of something"), ([None], "a list of")],
)
def test_a_wrong_attribute_has_one_reason_with_the_remedy(mugs, value, given):
    item = upsert(mugs, {"id": "n", "title": "x", "attributes": {"size": value}}).json()["items"][0]
    patch = mugs.patch(f"{DOCUMENTS}/p1", json={"attributes": {"size": value}}).json()
    for text in (item["error"], patch["detail"]):
        assert text.count("attributes.size") == 1
        assert given in text
        assert "give text, a number, true, false, a list of texts, or null" in text
        assert "StrictBool" not in text
        assert "valid boolean" not in text


@pytest.mark.parametrize(("picture", "reason"), [("aGVsbG8=", "not_an_image"), ("/etc/passwd", "not_an_image"), ("", "empty")])
def test_a_patch_with_a_bad_picture_names_the_reason(mugs, picture, reason):
    answer = mugs.patch(f"{DOCUMENTS}/p1", json={"images": [picture]})
    assert (answer.status_code, answer.json()["reason"]) == (422, reason)
    assert answer.json()["type"] == "urn:semblance:problem:invalid-image"


def test_a_patch_with_a_damaged_picture_names_the_reason(mugs, colour_picture):
    damaged = base64.b64encode(base64.b64decode(colour_picture("red"))[:60]).decode()
    answer = mugs.patch(f"{DOCUMENTS}/p1", json={"images": [damaged]})
    assert (answer.status_code, answer.json()["reason"]) == (422, "truncated")


def test_what_another_process_patches_meanwhile_is_not_lost(mugs, toy_engine, monkeypatch):
    """Another process changes the price while this one embeds the new title."""
    from dataclasses import replace

    from engine.collection import Collection
    from engine.documents import DocumentStore

    path = toy_engine.collection("shop").path / "documents.sqlite"
    encode, once = type(toy_engine.encoder).encode_texts, []

    def meanwhile(self, texts):
        if not once:
            once.append(True)
            other = DocumentStore(path, busy_timeout_ms=1000)
            (document,) = other.get(["p1"])
            other.update(replace(document, attributes={**document.attributes, "price": 99}))
            other.close()
        return encode(self, texts)

    monkeypatch.setattr(type(toy_engine.encoder), "encode_texts", meanwhile)
    answer = mugs.patch(f"{DOCUMENTS}/p1", json={"title": "new words"}).json()
    assert (once, answer["title"], answer["attributes"]["price"]) == ([True], "new words", 99)
    assert mugs.get(f"{DOCUMENTS}/p1").json() == answer
    monkeypatch.setattr(Collection, "replace", lambda *_, **__: False)
    assert mugs.patch(f"{DOCUMENTS}/p1", json={"title": "never"}).status_code == 503


def test_a_document_deleted_while_it_is_patched_is_not_found(mugs, toy_engine, monkeypatch):
    encode = type(toy_engine.encoder).encode_texts

    def meanwhile(self, texts):
        toy_engine.collection("shop").delete(["p1"])
        return encode(self, texts)

    monkeypatch.setattr(type(toy_engine.encoder), "encode_texts", meanwhile)
    assert mugs.patch(f"{DOCUMENTS}/p1", json={"title": "too late"}).status_code == 404


def test_a_small_picture_is_made_once(mugs, monkeypatch):
    from engine import media

    made, webp = [], media._webp
    monkeypatch.setattr(media, "_webp", lambda image, side: made.append(side) or webp(image, side))
    first = mugs.get(f"{DOCUMENTS}/p1/image?size=32")
    assert mugs.get(f"{DOCUMENTS}/p1/image?size=32").content == first.content
    assert made == [32]
    assert mugs.get(f"{DOCUMENTS}/p1/image?size=48").headers["etag"] != first.headers["etag"]
    assert made == [32, 48]
    made.clear()
    assert (
        mugs.get(f"{DOCUMENTS}/p2/image", headers={"if-none-match": mugs.get(f"{DOCUMENTS}/p2/image").headers["etag"]}).status_code
        == 304
    )
    assert made == [400]
    assert first.headers["cache-control"] == "public, max-age=300"


def test_a_new_picture_has_a_new_tag(mugs, colour_picture):
    before = mugs.get(f"{DOCUMENTS}/p1/image")
    mugs.patch(f"{DOCUMENTS}/p1", json={"images": [colour_picture(COLOURS["blue"])]})
    after = mugs.get(f"{DOCUMENTS}/p1/image", headers={"if-none-match": before.headers["etag"]})
    assert (after.status_code, after.content == before.content) == (200, False)


def test_a_picture_the_client_has_is_not_sent_again(mugs):
    answer = mugs.get(f"{DOCUMENTS}/p1/image")
    again = mugs.get(f"{DOCUMENTS}/p1/image", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert mugs.get(f"{DOCUMENTS}/p1/image", headers={"if-none-match": '"other"'}).status_code == 200


def test_a_product_without_picture_has_none_to_show(api):
    api.put(SHOP)
    upsert(api, {"id": "t", "title": "words only"})
    assert api.get(f"{DOCUMENTS}/t").json()["image"] is None
    assert api.get(f"{DOCUMENTS}/t/image").status_code == 404


def test_an_upload_is_stored_as_a_picture_of_its_own_never_as_sent(mugs, toy_engine):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(buffer, "PNG")
    polyglot = buffer.getvalue() + b"<script>alert(1)</script>"
    assert statuses(upsert(mugs, {"id": "poly", "title": "x", "images": [base64.b64encode(polyglot).decode()]})) == ["created"]
    assert b"<script>" not in mugs.get(f"{DOCUMENTS}/poly/image").content
    assert all(b"<script>" not in path.read_bytes() for path in (toy_engine.settings.data / "shop" / "media").iterdir())


def test_what_is_missing_behind_an_alias_does_not_name_the_collection(mugs):
    assert mugs.put("/v1/aliases/window", json={"collection": "shop"}).status_code == 200
    for method, body in (("GET", None), ("PATCH", {"title": "x"}), ("DELETE", None)):
        answer = mugs.request(method, "/v1/collections/window/documents/nope", json=body)
        assert answer.status_code == 404
        assert "collection 'window' has no document 'nope'" in answer.json()["detail"]
        assert "shop" not in answer.text
