"""From bodies of write requests to documents in a collection; runs in worker threads.

Uploaded pictures are handed to the engine by name; no name a client sends is ever opened as a path.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from api.pictures import picture_bytes
from api.schemas.documents import DocumentIn, DocumentPatch
from engine.collection import Collection
from engine.datatypes import AttributeValue, Document
from engine.encoders.images import content_of
from engine.errors import DocumentNotFound, InvalidDocument, InvalidImage, SemblanceError
from engine.ingest import LoadedDocument, Picture, digest_of, encode_documents
from engine.search import SearchEngine

Status = dict[str, Any]


def upsert_documents(engine: SearchEngine, collection: str, items: Sequence[object], *, max_bytes: int) -> list[Status]:
    """Add or replace documents, one status per item in order; raises `CollectionNotFound` when there is no such collection."""
    engine.collection(collection)
    statuses: list[Status] = []
    documents: dict[int, Document] = {}
    uploads: dict[str, bytes] = {}
    for index, item in enumerate(items):
        statuses.append({"index": index, "id": _id_of(item), "status": "refused", "error": None})
        try:
            documents[index] = _document(item, uploads, max_bytes)
        except ValidationError as error:
            statuses[index]["error"] = _explain(error)
        except SemblanceError as error:
            statuses[index]["error"] = str(error)
    for index, status in zip(documents, engine.index(collection, documents.values(), uploads=uploads), strict=True):
        statuses[index] |= {"status": status.status, "error": status.error}
    return statuses


def read_document(collection: Collection, id: str) -> Document:
    """Read one document; raises `DocumentNotFound`."""
    document = collection.get([id])[0]
    if document is None:
        raise DocumentNotFound(f"collection {collection.name!r} has no document {id!r}")
    return document


def patch_document(engine: SearchEngine, name: str, id: str, patch: DocumentPatch, *, max_bytes: int) -> Document:
    """Merge a patch into a stored document and return what it is now.

    Raises `DocumentNotFound`, `InvalidDocument`, or `InvalidImage` for a picture that cannot be used.
    """
    collection = engine.collection(name)
    stored = read_document(collection, id)
    given = patch.model_fields_set
    changed = replace(
        stored,
        title=patch.title if "title" in given else stored.title,
        description=patch.description if "description" in given else stored.description,
        attributes=_merged(stored.attributes, patch.attributes),
    )
    if "images" in given:
        uploads: dict[str, bytes] = {}
        changed = replace(changed, images=_uploaded(patch.images, uploads, max_bytes))
        status = engine.index(name, [changed], uploads=uploads)[0]
        if status.error is not None:
            raise InvalidDocument(status.error)
    elif changed != stored:
        _restate(engine, collection, changed)
    return read_document(collection, id)


def _restate(engine: SearchEngine, collection: Collection, document: Document) -> None:
    """Commit a document whose pictures stay as they are: their vectors are known, and only a new title is embedded."""
    embeddings = [embedding for embedding in collection.embeddings_of(document.id) if embedding.view == "image"]
    if not embeddings and not document.title.strip():
        raise InvalidDocument("it would have neither a title nor a picture: nothing could find it")
    digest = digest_of(document, [embedding.content for embedding in embeddings], collection.fingerprint)
    pictures = tuple(Picture(embedding.content, None, embedding.location or "") for embedding in embeddings)
    collection.upsert(encode_documents(engine.encoder, collection, [LoadedDocument(document, digest, pictures)]))


def _document(item: object, uploads: dict[str, bytes], max_bytes: int) -> Document:
    given = DocumentIn.model_validate(item)
    images = _uploaded(given.images, uploads, max_bytes)
    return Document(given.id, given.title, given.description, images, _merged({}, given.attributes))


def _uploaded(images: Sequence[str], uploads: dict[str, bytes], max_bytes: int) -> tuple[str, ...]:
    names = []
    for position, image in enumerate(images):
        try:
            data = picture_bytes(image, max_bytes=max_bytes)
        except InvalidImage as error:
            raise InvalidImage(f"images[{position}]: {error}", reason=error.reason) from None
        names.append(f"upload:{content_of(data).hex()}")
        uploads[names[-1]] = data
    return tuple(names)


def _merged(stored: Mapping[str, AttributeValue], changes: Mapping[str, Any]) -> dict[str, AttributeValue]:
    merged = dict(stored) | {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    return {name: value for name, value in merged.items() if value is not None}


def _id_of(item: object) -> str | None:
    found = item.get("id") if isinstance(item, dict) else None
    return found if isinstance(found, str) else None


def _explain(error: ValidationError) -> str:
    parts = [f"{'.'.join(map(str, item['loc'])) or 'item'}: {item['msg']}" for item in error.errors(include_input=False)[:5]]
    return "; ".join(parts)
