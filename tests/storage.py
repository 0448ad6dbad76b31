"""What the storage and index tests share: documents with given vectors, and a brute-force twin of a collection."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from engine.collection import Candidate, Collection
from engine.config import Settings
from engine.datatypes import DIMENSIONS, Document, Embedding, EncodedDocument
from engine.documents import key_of

BOTH = np.array([[0.5, 0.5]], np.float32)
IMAGE = np.array([[1.0, 0.0]], np.float32)
TITLE = np.array([[0.0, 1.0]], np.float32)


def unit(count: int, seed: int = 0) -> np.ndarray:
    """`count` random unit vectors with a common direction, as encoders give."""
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32) + 0.2
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def axis(number: int) -> np.ndarray:
    """The unit vector along one dimension."""
    return np.eye(DIMENSIONS, dtype=np.float32)[number]


def content(vector: np.ndarray) -> bytes:
    return hashlib.blake2b(vector.tobytes(), digest_size=16).digest()


def encoded(
    id: str, images: Sequence[np.ndarray] = (), title: np.ndarray | None = None, text: str = "", **attributes: object
) -> EncodedDocument:
    """A document whose pictures and title have the given vectors."""
    embeddings = [Embedding("image", content(v), v, f"/{id}-{n}.jpg") for n, v in enumerate(images)]
    if title is not None:
        embeddings.append(Embedding("title", content(title), title))
    document = Document(id, text or f"title of {id}", "", tuple(f"{n}.jpg" for n in range(len(images))), attributes)
    return EncodedDocument(document, hashlib.blake2b(id.encode()).digest(), tuple(embeddings))


def sixty(path: Path, settings: Settings) -> Collection:
    """A new collection of sixty documents with a picture and a title each; close it."""
    opened = Collection.create(path, fingerprint="f", encoder="e", settings=settings)
    vectors = unit(60)
    opened.upsert([encoded(f"p{n}", [vectors[n]], vectors[-n], n=n) for n in range(60)])
    return opened


def ids_of(collection: Collection, candidates: Sequence[Candidate]) -> list[str]:
    return [document.id for document in collection.hydrate([c.key for c in candidates]) if document is not None]


class Twin:
    """The truth: a dict of documents, scored one by one from fp16 vectors, filtered by a Python function."""

    def __init__(self) -> None:
        self.stored: dict[str, EncodedDocument] = {}

    def upsert(self, documents: Sequence[EncodedDocument]) -> None:
        self.stored |= {document.document.id: document for document in documents}

    def update(self, document: Document) -> None:
        self.stored[document.id] = EncodedDocument(document, b"", self.stored[document.id].embeddings)

    def delete(self, ids: Sequence[str]) -> int:
        return len([self.stored.pop(id) for id in dict.fromkeys(ids) if id in self.stored])

    def admitted(self, holds: Callable[[Document], bool]) -> list[EncodedDocument]:
        return [document for document in self.stored.values() if holds(document.document)]

    def search(
        self, vector: np.ndarray, weights: np.ndarray, k: int, holds: Callable[[Document], bool] = lambda _: True
    ) -> list[tuple[str, float]]:
        found = []
        for document in self.admitted(holds):
            cosines = {
                view: max(min(1.0, float(e.vector.astype(np.float16).astype(np.float32) @ vector)) for e in own)
                for view in ("image", "title")
                if (own := [e for e in document.embeddings if e.view == view])
            }
            share = {"image": float(weights[0]), "title": float(weights[1])}
            total = sum(share[view] for view in cosines)
            if total > 0:
                score = sum(share[view] * cosine for view, cosine in cosines.items()) / total
                found.append((document.document.id, score))
        return sorted(found, key=lambda pair: (-round(pair[1], 5), key_of(pair[0])))[:k]


def assert_same(collection: Collection, twin: Twin, vector: np.ndarray, weights: np.ndarray, k: int, **where: object) -> None:
    """The collection's answer is the twin's, up to the order of scores that differ by rounding only."""
    holds = where.pop("holds", lambda _: True)
    expected = twin.search(vector, weights, k, holds)
    (found,) = collection.search(vector[None], k, weights=weights[None], **where)
    assert len(found) == len(expected)
    assert np.allclose([c.score for c in found], [score for _, score in expected], atol=2e-5)
    names = ids_of(collection, found)
    assert len(set(names)) == len(names)
    everyone = dict(twin.search(vector, weights, len(twin.stored), holds))
    assert all(abs(everyone[name] - c.score) < 2e-5 for name, c in zip(names, found, strict=True))
    assert [(-c.score, c.key) for c in found] == sorted((-c.score, c.key) for c in found)


def exchange(path: Path, data: bytes) -> None:
    """Put other bytes in the place of a file; a process that maps the file keeps what it had."""
    path.unlink()
    path.write_bytes(data)
