import io

import numpy as np
import pytest
from PIL import Image

from engine.cache import MemoryCache, TieredCache
from engine.config import load_settings
from engine.datatypes import Document, DocumentRef, Query, SearchResult, Term
from engine.errors import (
    CollectionExists,
    CollectionNotFound,
    DocumentNotFound,
    EncoderMismatch,
    InvalidFilter,
    InvalidImage,
    InvalidInput,
)
from engine.search import SearchEngine
from engine.testing import COLOURS, FakeEncoder, tiny_catalogue


def picture(colour: str) -> Image.Image:
    return Image.new("RGB", (40, 60), COLOURS[colour])


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    picture(colour).save(buffer, "PNG")
    return buffer.getvalue()


def mug(number: int, colour: str, **attributes: object) -> Document:
    return Document(f"p{number}", f"{colour} mug", images=(f"{colour}.png",), attributes={"price": number * 10, **attributes})


def open_engine(data, cache_entries=1000, encoder=None):
    cache = TieredCache(MemoryCache(cache_entries, ttl_s=60), None)
    return SearchEngine(load_settings(data=data), encoder or FakeEncoder(), cache)


@pytest.fixture
def engine(tmp_path):
    with open_engine(tmp_path / "data") as engine:
        yield engine


@pytest.fixture
def shop(engine, tmp_path):
    tiny_catalogue(tmp_path / "feed")
    engine.index("shop", [mug(n, colour) for n, colour in enumerate(COLOURS, start=1)], base=tmp_path / "feed")
    return engine


def ids(result: SearchResult) -> list[str]:
    return [hit.id for hit in result.hits]


def test_words_find_the_picture_and_the_title(shop):
    result = shop.search("shop", "red")
    assert result.hits[0].id == "p1"
    assert result.hits[0].views == pytest.approx({"image": 1.0, "title": 2**-0.5, "lexical": 1.0}, abs=1e-3)
    assert 0.8 < result.hits[0].score < 1
    assert result.admitted == 6


def test_a_picture_finds_itself_with_cosine_one(shop):
    result = shop.search("shop", image=picture("blue"), k=1)
    assert ids(result) == ["p3"]
    assert result.hits[0].score == pytest.approx(1.0, abs=1e-3)


def test_words_and_a_picture_are_one_query(shop):
    assert shop.search("shop", "mug", image=png("green"), k=1).hits[0].id == "p2"


def test_more_like_this_leaves_the_document_itself_out(shop):
    (result,) = shop.search_many("shop", [Query((Term(DocumentRef("p1")),), k=6)])
    assert len(result.hits) == 5
    assert "p1" not in ids(result)


def test_a_negative_term_pushes_away(shop):
    towards, away = shop.search_many("shop", [Query((Term("mug"), Term("red", weight))) for weight in (0.5, -0.5)])
    assert ids(towards)[0] == "p1"
    assert ids(away)[-1] == "p1"


def test_a_filter_admits_exactly_what_it_says(shop):
    result = shop.search("shop", "mug", where="price >= 30 and price < 60")
    assert sorted(ids(result)) == ["p3", "p4", "p5"]
    assert result.admitted == 3


def test_a_filter_that_admits_nothing_says_broaden(shop):
    result = shop.search("shop", "mug", where="price > 1000")
    assert (result.hits, result.confidence, result.decision) == ((), 0.0, "broaden")
    assert (result.total, result.admitted) == (0, 0)


def test_one_bad_query_fails_alone(shop):
    answers = shop.search_many(
        "shop",
        [
            Query((Term("red"),)),
            Query((Term("red"),), where="price <"),
            Query((Term(DocumentRef("nobody")),)),
            Query((Term("blue"),)),
        ],
    )
    assert [type(answer) for answer in answers] == [SearchResult, InvalidFilter, DocumentNotFound, SearchResult]
    assert (answers[0].hits[0].id, answers[3].hits[0].id) == ("p1", "p3")


def test_terms_that_cancel_out_are_an_error_not_noise(shop):
    (answer,) = shop.search_many("shop", [Query((Term("red"), Term("red", -1.0)))])
    assert "cancel" in str(answer)


def test_an_answer_does_not_depend_on_its_batch(shop):
    queries = [Query((Term(colour),), k=k, where=where) for colour in COLOURS for k in (1, 4) for where in (None, "price > 20")]
    together = shop.search_many("shop", queries)
    with open_engine(shop.settings.data) as fresh:
        alone = [fresh.search_many("shop", [query])[0] for query in queries]
    assert [answer.hits for answer in together] == [answer.hits for answer in alone]


def test_a_repeated_query_is_answered_from_memory_without_encoding(shop):
    first = shop.search("shop", "red  mug")
    before = shop.encoder.texts_encoded
    again = shop.search("shop", "red mug")
    assert (first.cache, again.cache) == ("miss", "memory")
    assert again.hits == first.hits
    assert shop.encoder.texts_encoded == before


def test_a_write_is_seen_at_once_and_never_served_stale(shop, tmp_path):
    assert ids(shop.search("shop", "red", k=1)) == ["p1"]
    shop.collection("shop").delete(["p1"])
    result = shop.search("shop", "red", k=1)
    assert ids(result) != ["p1"]
    assert result.cache == "miss"


def test_a_dropped_and_remade_collection_shares_no_cache_entries(shop, tmp_path):
    shop.search("shop", "red")
    shop.drop("shop")
    with pytest.raises(CollectionNotFound):
        shop.search("shop", "red")
    shop.index("shop", [mug(9, "black")], base=tmp_path / "feed")
    assert ids(shop.search("shop", "red")) == ["p9"]


def test_indexing_again_encodes_nothing(shop, tmp_path):
    before = shop.encoder.images_encoded, shop.encoder.texts_encoded
    statuses = shop.index("shop", [mug(n, colour) for n, colour in enumerate(COLOURS, start=1)], base=tmp_path / "feed")
    assert {status.status for status in statuses} == {"unchanged"}
    assert (shop.encoder.images_encoded, shop.encoder.texts_encoded) == before


def test_one_photo_under_two_ids_is_encoded_once_and_both_exist(shop, tmp_path):
    before = shop.encoder.images_encoded
    shop.index("shop", [Document("twin", "crimson cup", images=("red.png",))], base=tmp_path / "feed")
    assert shop.encoder.images_encoded == before
    assert set(ids(shop.search("shop", image=picture("red"), k=2))) == {"p1", "twin"}


def test_a_bad_document_is_refused_and_the_rest_go_in(engine, tmp_path):
    tiny_catalogue(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    documents = [
        mug(1, "red"),
        Document("gone", "x", images=("gone.png",)),
        Document("broken", "x", images=("broken.png",)),
        Document("bare"),
        Document("remote", "x", images=("https://shop.example/x.png",)),
        Document("words", "just words"),
    ]
    statuses = engine.index("shop", documents, base=tmp_path)
    assert [status.status for status in statuses] == ["created", "refused", "refused", "refused", "refused", "created"]
    assert all(status.error for status in statuses if status.status == "refused")
    assert len(engine.collection("shop")) == 2


def test_uploads_are_kept_by_the_collection(engine):
    engine.index("shop", [Document("p1", "red mug", images=("upload",))], uploads={"upload": png("red")})
    (document,) = engine.collection("shop").get(["p1"])
    assert document.images[0].endswith(".webp")
    assert Image.open(io.BytesIO(engine.picture("shop", "p1"))).size == (40, 60)
    assert (
        engine.index("shop", [Document("p1", "red mug", images=("upload",))], uploads={"upload": png("red")})[0].status
        == "unchanged"
    )


def test_a_thumbnail_is_no_larger_than_asked_and_missing_ones_say_so(shop, tmp_path):
    thumbnail = Image.open(io.BytesIO(shop.picture("shop", "p1", side=16)))
    assert (thumbnail.format, thumbnail.size) == ("WEBP", (16, 16))
    shop.index("shop", [Document("words", "just words")])
    with pytest.raises(InvalidImage, match="no picture"):
        shop.picture("shop", "words")
    (tmp_path / "feed" / "red.png").unlink()
    with pytest.raises(InvalidImage):
        shop.picture("shop", "p1")


def test_collections_are_named_listed_and_unique(engine):
    engine.create("shop")
    assert engine.collections() == ["shop"]
    with pytest.raises(CollectionExists):
        engine.create("shop")
    for name in ("", "Shop", "../shop", "a/b", "-x", "x" * 64, "a\n"):
        with pytest.raises(InvalidInput, match="collection name"):
            engine.collection(name)


def test_vectors_of_another_encoder_are_refused(shop):
    other = FakeEncoder()
    other.fingerprint = "another"
    with open_engine(shop.settings.data, encoder=other) as engine, pytest.raises(EncoderMismatch, match="fake-colours-1"):
        engine.search("shop", "red")


def test_reopening_finds_everything(shop):
    before = shop.search("shop", "blue").hits
    shop.close()
    with open_engine(shop.settings.data) as engine:
        assert engine.search("shop", "blue").hits == before


def test_embeddings_are_unit_rows_in_input_order(engine):
    texts = ["red", "blue", "red"]
    vectors = engine.embed_texts(texts)
    assert (vectors.shape, vectors.dtype) == ((3, 256), np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0)
    assert (vectors[0] == vectors[2]).all()
    assert not (vectors[0] == vectors[1]).all()
    assert engine.embed_texts([]).shape == engine.embed_images([]).shape == (0, 256)


def test_two_pictures_of_one_size_are_not_one_cache_entry(engine):
    assert not np.allclose(*engine.embed_images([picture("red"), picture("blue")]))
