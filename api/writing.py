"""From bodies of write requests to documents in a collection; runs in worker threads.

Uploaded pictures are handed to the engine by name; no name a client sends is ever opened as a path.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from api.errors import message_of, place_of
from api.schemas.documents import DocumentIn, DocumentPatch
from engine.collection import Collection
from engine.datatypes import AttributeValue, Document
from engine.encoders.images import content_of
from engine.errors import CollectionBusy, DocumentNotFound, FetchError, InvalidDocument, InvalidImage, SemblanceError
from engine.ingest import LoadedDocument, Picture, Writer, digest_of, encode_documents
from engine.search import SearchEngine

Status = dict[str, Any]
ReadPicture: TypeAlias = Callable[[str], bytes]

PATCH_ATTEMPTS = 8


def pictures_named(items: Sequence[object]) -> Iterator[str]:
    """Yield every picture that the items of a bulk request name, whatever else may be wrong with them."""
    for item in items:
        images = item.get("images") if isinstance(item, dict) else None
        if isinstance(images, list):
            yield from (image for image in images if isinstance(image, str))


def upsert_documents(engine: SearchEngine, collection: str, items: Sequence[object], read: ReadPicture) -> list[Status]:
    """Add or replace documents, one status per item in order; raises `CollectionNotFound` when there is no such collection."""
    engine.collection(collection)
    statuses: list[Status] = []
    documents: dict[int, Document] = {}
    uploads: dict[str, bytes] = {}
    for index, item in enumerate(items):
        statuses.append({"index": index, "id": _id_of(item), "status": "refused", "error": None})
        try:
            documents[index] = _document(item, uploads, read)
        except ValidationError as error:
            statuses[index]["error"] = _explain(error)
        except SemblanceError as error:
            statuses[index]["error"] = str(error)
    for index, status in zip(documents, engine.index(collection, documents.values(), uploads=uploads), strict=True):
        statuses[index] |= {"status": status.status, "error": status.error}
    return statuses


def read_document(collection: Collection, name: str, id: str) -> Document:
    """Read one document; raises `DocumentNotFound`. `name` is what the client calls the collection: it may be an alias."""
    document = collection.get([id])[0]
    if document is None:
        raise DocumentNotFound(f"collection {name!r} has no document {id!r}")
    return document


def patch_document(engine: SearchEngine, name: str, id: str, patch: DocumentPatch, read: ReadPicture) -> Document:
    """Merge a patch into a stored document and return what it is now.

    What another process changed meanwhile is not lost: the patch is then merged anew. Raises `DocumentNotFound`,
    `InvalidDocument`, `InvalidImage` for a picture that cannot be used, and `CollectionBusy` when others never let it through.
    """
    collection = engine.collection(name)
    for _ in range(PATCH_ATTEMPTS):
        stored = read_document(collection, name, id)
        uploads: dict[str, bytes] = {}
        changed = _patched(stored, patch, uploads, read)
        if "images" in patch.model_fields_set:
            loaded = Writer(collection, engine.encoder, engine.settings, Path.cwd(), uploads).load(changed)
        else:
            loaded = None if changed == stored else _restated(collection, changed)
        if loaded is None:
            return stored
        if collection.replace(encode_documents(engine.encoder, collection, [loaded])[0], expected=stored):
            return loaded.document
    raise CollectionBusy(f"document {id!r} was changed by others {PATCH_ATTEMPTS} times meanwhile: try again")


def _patched(stored: Document, patch: DocumentPatch, uploads: dict[str, bytes], read: ReadPicture) -> Document:
    given = patch.model_fields_set
    return replace(
        stored,
        title=patch.title if "title" in given else stored.title,
        description=patch.description if "description" in given else stored.description,
        images=_uploaded(patch.images, uploads, read) if "images" in given else stored.images,
        attributes=_merged(stored.attributes, patch.attributes),
    )


def _restated(collection: Collection, document: Document) -> LoadedDocument:
    """State a document anew whose pictures stay as they are: their vectors are known, and only a new title is embedded."""
    embeddings = [embedding for embedding in collection.embeddings_of(document.id) if embedding.view == "image"]
    if not embeddings and not document.title.strip():
        raise InvalidDocument("it would have neither a title nor a picture: nothing could find it")
    digest = digest_of(document, [embedding.content for embedding in embeddings], collection.fingerprint)
    pictures = tuple(Picture(embedding.content, None, embedding.location or "") for embedding in embeddings)
    return LoadedDocument(document, digest, pictures)


def _document(item: object, uploads: dict[str, bytes], read: ReadPicture) -> Document:
    given = DocumentIn.model_validate(item)
    images = _uploaded(given.images, uploads, read)
    return Document(given.id, given.title, given.description, images, _merged({}, given.attributes))


def _uploaded(images: Sequence[str], uploads: dict[str, bytes], read: ReadPicture) -> tuple[str, ...]:
    names = []
    for position, image in enumerate(images):
        try:
            data = read(image)
        except InvalidImage as error:
            raise InvalidImage(f"images[{position}]: {error}", reason=error.reason) from None
        except FetchError as error:
            raise FetchError(f"images[{position}]: {error}") from None
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
    parts = [f"{place_of(item['loc']) or 'item'}: {message_of(item)}" for item in error.errors()[:5]]
    return "; ".join(parts)
