"""Documents -> encoded documents: what every way of adding products (library, HTTP, indexing job) shares.

Reads and decodes pictures, finds out what is new by content digests, and encodes only that, one encoder call per batch and
modality. Where documents come from and who commits them does not belong here.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import orjson

from engine import media
from engine.collection import Collection
from engine.config import Settings
from engine.datatypes import Document, Embedding, EncodedDocument, Image, Vector
from engine.encoders.images import content_of, read_bytes
from engine.errors import InvalidDocument, InvalidInput, SemblanceError
from engine.moderation import product_picture
from engine.protocols import Encoder


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a document. `image` is None when the collection already holds a vector for its `content`."""

    content: bytes
    image: Image | None
    location: str


@dataclass(frozen=True, slots=True)
class LoadedDocument:
    """A document whose pictures have been read, with the digest that tells whether anything changed."""

    document: Document
    digest: bytes
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class DocumentStatus:
    """What became of one document that was to be indexed; `error` says why it was refused."""

    id: str
    status: Literal["created", "updated", "unchanged", "refused"]
    error: str | None = None


def digest_of(document: Document, contents: Sequence[bytes], fingerprint: str) -> bytes:
    """Digest everything a stored document depends on (16 bytes): its fields, its pictures' contents, the encoder."""
    fields = [
        document.id,
        document.title,
        document.description,
        list(document.images),
        sorted(document.attributes.items()),
        [content.hex() for content in contents],
        fingerprint,
    ]
    return hashlib.blake2b(orjson.dumps(fields), digest_size=16).digest()


def text_content(text: str) -> bytes:
    """Digest a text to be embedded (16 bytes); never equal to the digest of a picture."""
    return hashlib.blake2b(text.encode(), digest_size=16, person=b"text").digest()


def load_document(
    document: Document, collection: Collection, settings: Settings, size: int, read: Callable[[str], tuple[bytes, str]]
) -> LoadedDocument | None:
    """Read a document's pictures and decode those the collection has no vector for; None when nothing changed.

    `read` turns an entry of `Document.images` into (bytes, location to store). Raises `InvalidDocument` when there is nothing
    to search it by, and whatever `read` and decoding raise.
    """
    if not document.images and not document.title.strip():
        raise InvalidDocument("it has neither a title nor a picture: nothing could find it")
    if document.id in (".", ".."):  # a client that asks for it over HTTP would ask for, or delete, the whole collection
        raise InvalidDocument(f"the id {document.id!r} is a step in a path, which no address can hold: give it another")
    read_pictures = [(content_of(data), data, location) for data, location in map(read, document.images)]
    digest = digest_of(document, [content for content, _, _ in read_pictures], collection.fingerprint)
    if collection.digests([document.id]).get(document.id) == digest:
        return None
    known = collection.vectors_of([content for content, _, _ in read_pictures])
    return LoadedDocument(
        document,
        digest,
        tuple(
            Picture(content, None if content in known else product_picture(data, size=size, settings=settings), location)
            for content, data, location in read_pictures
        ),
    )


def encode_documents(encoder: Encoder, collection: Collection, loaded: Sequence[LoadedDocument]) -> list[EncodedDocument]:
    """Embed whatever of a batch the collection does not know: at most one call per modality, in input order."""
    images = {picture.content: picture.image for item in loaded for picture in item.pictures if picture.image is not None}
    titles = {text_content(item.document.title): item.document.title for item in loaded if item.document.title.strip()}
    for content in collection.vectors_of(list(titles)):
        del titles[content]
    fresh = dict(zip(images, encoder.encode_images(list(images.values())), strict=True)) if images else {}
    fresh |= dict(zip(titles, encoder.encode_texts(list(titles.values())), strict=True)) if titles else {}
    return [EncodedDocument(item.document, item.digest, _embeddings(item, fresh)) for item in loaded]


def _embeddings(item: LoadedDocument, fresh: Mapping[bytes, Vector]) -> tuple[Embedding, ...]:
    pictures = [Embedding("image", p.content, _given(fresh, p.content), p.location) for p in item.pictures]
    if item.document.title.strip():
        content = text_content(item.document.title)
        pictures.append(Embedding("title", content, _given(fresh, content)))
    return tuple(pictures)


def _given(fresh: Mapping[bytes, Vector], content: bytes) -> Vector | None:
    vector = fresh.get(content)
    return None if vector is None else np.asarray(vector, np.float32)


class Writer:
    """Adds documents given as values: their pictures are uploads by name, or files relative to `base`."""

    def __init__(
        self, collection: Collection, encoder: Encoder, settings: Settings, base: Path, uploads: Mapping[str, bytes]
    ) -> None:
        self._collection = collection
        self._encoder = encoder
        self._settings = settings
        self._base = base
        self._uploads = uploads

    def write(self, documents: Sequence[Document]) -> list[DocumentStatus]:
        """Commit one batch of distinct ids, a status each; a bad document is refused and the rest go in."""
        known = self._collection.digests([document.id for document in documents])
        statuses: list[DocumentStatus] = []
        loaded: list[LoadedDocument] = []
        for document in documents:
            try:
                item = self.load(document)
            except (SemblanceError, OSError) as error:
                statuses.append(DocumentStatus(document.id, "refused", str(error)))
                continue
            statuses.append(DocumentStatus(document.id, _status(item, document.id in known)))
            loaded += [item] if item else []
        if loaded:
            self._collection.upsert(encode_documents(self._encoder, self._collection, loaded))
        return statuses

    def load(self, document: Document) -> LoadedDocument | None:
        """Read a document's pictures, keep its uploads, and decode what is new; None when nothing changed. Raises what is wrong."""
        kept = {name: self._keep(name) for name in document.images if name in self._uploads}
        bytes_at = {kept[name]: self._uploads[name] for name in kept}
        document = replace(document, images=tuple(kept.get(name, name) for name in document.images))

        def read(name: str) -> tuple[bytes, str]:
            return (bytes_at[name], name) if name in bytes_at else self._read(name)

        return load_document(document, self._collection, self._settings, self._encoder.image_size, read)

    def _keep(self, name: str) -> str:
        """Keep a copy of an upload, which exists nowhere else, for the document to point at."""
        data = self._uploads[name]
        return media.keep(self._collection.path, content_of(data), data, max_pixels=self._settings.max_pixels)

    def _read(self, name: str) -> tuple[bytes, str]:
        if "://" in name:
            raise InvalidInput(f"image {name!r} is remote: use `semblance index`, which fetches, or give the bytes")
        path = (self._base / name).resolve()
        return read_bytes(path, self._settings.max_image_bytes), str(path)


def _status(item: LoadedDocument | None, known: bool) -> Literal["created", "updated", "unchanged"]:
    if item is None:
        return "unchanged"
    return "updated" if known else "created"
