"""Every call of the API as a value: what to send and how to read the answer. Both clients send these; nothing here does."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from api.client import results
from api.client.results import BulkResult, Collection, Document, SearchResult
from api.client.searches import NewDocument, Options, Picture, Term, inline, options_as_json

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """One call: it can be sent several times; `read` makes its result of what the answer holds."""

    method: str
    path: str
    read: Callable[[Any], Result]
    json: Mapping[str, Any] | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def search(collection: str, terms: Sequence[Term], options: Options) -> Call[SearchResult]:
    """Search by weighted terms."""
    return _search(collection, "", {"terms": [term.as_json() for term in terms]}, options)


def search_text(collection: str, query: str, options: Options) -> Call[SearchResult]:
    """Search by words."""
    return _search(collection, "/text", {"query": query}, options)


def search_image(collection: str, image: Picture, options: Options) -> Call[SearchResult]:
    """Search by a picture."""
    return _search(collection, "/image", {"image": inline(image)}, options)


def recommend(collection: str, like: Sequence[str], unlike: Sequence[str], options: Options) -> Call[SearchResult]:
    """Ask for products like some and unlike others."""
    return _search(collection, "/recommend", {"like": list(like), "unlike": list(unlike)}, options)


def list_collections() -> Call[list[Collection]]:
    """List the collections."""
    return Call("GET", "/v1/collections", results.collections)


def read_collection(collection: str) -> Call[Collection]:
    """Describe a collection."""
    return Call("GET", _of(collection), results.collection)


def create_collection(collection: str) -> Call[Collection]:
    """Make a collection, if it is not there."""
    return _write("PUT", _of(collection), results.collection)


def drop_collection(collection: str) -> Call[None]:
    """Remove a collection."""
    return _write("DELETE", _of(collection), results.nothing)


def read_document(collection: str, id: str) -> Call[Document]:
    """Show a product."""
    return Call("GET", _document(collection, id), results.document)


def read_picture(collection: str, id: str, size: int) -> Call[bytes]:
    """Show a product's first picture."""
    return Call("GET", _document(collection, id) + "/image", results.picture, params={"size": str(size)})


def upsert(collection: str, documents: Sequence[NewDocument]) -> Call[BulkResult]:
    """Add or replace products."""
    body = {"documents": [document.as_json() for document in documents]}
    return _write("POST", f"{_of(collection)}/documents", results.bulk_result, body)


def patch(collection: str, id: str, changes: Mapping[str, Any]) -> Call[Document]:
    """Change some of a product."""
    return _write("PATCH", _document(collection, id), results.document, changes)


def delete(collection: str, id: str) -> Call[None]:
    """Remove a product."""
    return _write("DELETE", _document(collection, id), results.nothing)


def embed(inputs: Sequence[str | Picture]) -> Call[list[list[float]]]:
    """Embed texts and pictures."""
    parts = [part if isinstance(part, str) else {"image": inline(part)} for part in inputs]
    return Call("POST", "/v1/embeddings", results.vectors, json={"input": parts})


def ready() -> Call[bool]:
    """Ask whether the server is ready."""
    return Call("GET", "/readyz", results.readiness)


def _search(collection: str, kind: str, asked: Mapping[str, Any], options: Options) -> Call[SearchResult]:
    body = {**asked, **options_as_json(options)}
    return Call("POST", f"{_of(collection)}/search{kind}", results.search_result, json=body)


def _write(method: str, path: str, read: Callable[[Any], Result], json: Mapping[str, Any] | None = None) -> Call[Result]:
    # One key for all attempts: however often it is sent, the server acts once.
    return Call(method, path, read, json=json, headers={"Idempotency-Key": uuid.uuid4().hex})


def _of(collection: str) -> str:
    return f"/v1/collections/{quote(collection, safe='')}"


def _document(collection: str, id: str) -> str:
    return f"{_of(collection)}/documents/{quote(id, safe='')}"
