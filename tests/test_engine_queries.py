import threading
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from engine.cache import MemoryCache, TieredCache
from engine.collection import Collection
from engine.config import Settings
from engine.datatypes import DocumentRef, Query, Term
from engine.queries import EncodedQuery, QueryEncoder, identity, normalise
from engine.testing import FakeEncoder


class SlowEncoder(FakeEncoder):
    """Waits until told to go on, so that callers meet inside it."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()
        self.entered = threading.Event()

    def encode_texts(self, texts):
        self.entered.set()
        assert self.go.wait(5)
        return super().encode_texts(texts)


def test_the_same_words_in_two_spellings_are_one_query():
    assert normalise("  Cafe\u0301\tau  lait \n") == "Café au lait"


def test_different_contents_never_share_an_identity():
    grey, tall = Image.new("L", (4, 2), 7), Image.new("L", (2, 4), 7)
    terms = [Term("p1"), Term(DocumentRef("p1")), Term(grey), Term(tall), Term(np.ones(256, np.float32))]
    assert len({identity(term) for term in terms}) == len(terms)


def test_concurrent_identical_misses_are_encoded_once():
    encoder = SlowEncoder()
    queries = QueryEncoder(encoder, TieredCache(MemoryCache(100, ttl_s=60)))
    answers: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: answers.append(queries.encode_texts(["red"]))) for _ in range(20)]
    threads[0].start()
    assert encoder.entered.wait(5)
    for thread in threads[1:]:
        thread.start()
    encoder.go.set()
    for thread in threads:
        thread.join(5)
    assert len(answers) == 20
    assert all((answer == answers[0]).all() for answer in answers)
    assert encoder.texts_encoded == 1


def test_a_batch_encodes_each_distinct_text_once():
    encoder = FakeEncoder()
    vectors = QueryEncoder(encoder, TieredCache(MemoryCache(100, ttl_s=60))).encode_texts(["red", "blue", " red"])
    assert encoder.texts_encoded == 2
    assert (vectors[0] == vectors[2]).all()


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1.0, 1e19, 1e38])
@pytest.mark.parametrize("weight", [1e-300, 1.0, 100.0])
def test_how_long_a_vector_is_and_how_light_a_lone_term_says_nothing(tmp_path, scale, weight):
    given = np.random.default_rng(0).uniform(-1, 1, 256)
    queries = QueryEncoder(FakeEncoder(), TieredCache(MemoryCache(100, ttl_s=60)))
    query = Query((Term((scale * given).astype(np.float32), weight),))
    with closing(Collection.create(tmp_path / "c", fingerprint="f", encoder="fake", settings=Settings())) as collection:
        [encoded] = queries.encode([query], collection)
    assert isinstance(encoded, EncodedQuery)
    np.testing.assert_allclose(encoded.vector, given / np.linalg.norm(given), atol=1e-6)
