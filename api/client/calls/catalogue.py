"""Collections and their products, snapshots, aliases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from api.client import jobs, results
from api.client.call import Call, in_collection, segment, write
from api.client.jobs import Job
from api.client.results import Alias, BulkResult, Collection, Document, Snapshot
from api.client.searches import NewDocument


def collections() -> Call[list[Collection]]:
    """List the collections that can be searched."""
    return Call("GET", "/v1/collections", results.collections)


def collection(collection: str) -> Call[Collection]:
    """Describe a collection."""
    return Call("GET", in_collection(collection), results.collection)


def create_collection(collection: str) -> Call[Collection]:
    """Make a collection; one that is there already stays as it is."""
    return write("PUT", in_collection(collection), results.collection)


def drop_collection(collection: str) -> Call[None]:
    """Remove a collection with every product in it."""
    return write("DELETE", in_collection(collection), results.nothing)


def document(collection: str, id: str) -> Call[Document]:
    """Show a product."""
    return Call("GET", in_collection(collection, "documents", id), results.document)


def picture(collection: str, id: str, *, size: int = 400) -> Call[bytes]:
    """Show a product's first picture as WebP, its longest side `size` pixels at most."""
    path = in_collection(collection, "documents", id, "image")
    return Call("GET", path, results.picture, params={"size": str(size)})


def upsert(collection: str, documents: Sequence[NewDocument]) -> Call[BulkResult]:
    """Add or replace products, 1,000 at most in one call; each is judged alone."""
    body = {"documents": [document.as_json() for document in documents]}
    return write("POST", in_collection(collection, "documents"), results.bulk_result, body)


def patch(collection: str, id: str, changes: Mapping[str, Any]) -> Call[Document]:
    """Change some of a product: what is given replaces what is stored; an attribute set to None is removed."""
    return write("PATCH", in_collection(collection, "documents", id), results.document, changes)


def delete(collection: str, id: str) -> Call[None]:
    """Remove a product."""
    return write("DELETE", in_collection(collection, "documents", id), results.nothing)


def delete_where(collection: str, where: str) -> Call[int]:
    """Remove every product that a filter admits, in one step, and say how many there were."""
    call = write("DELETE", in_collection(collection, "documents"), results.deleted)
    return Call(call.method, call.path, call.read, params={"where": where}, headers=call.headers)


def take_snapshot(collection: str) -> Call[Job]:
    """Write a collection, as it is at one moment, to a file that the server keeps; the result of the job names it."""
    return write("POST", in_collection(collection, "snapshots"), jobs.job)


def snapshots(collection: str) -> Call[list[Snapshot]]:
    """List the snapshots of a collection, oldest first; they stay when the collection is dropped."""
    return Call("GET", in_collection(collection, "snapshots"), results.snapshots)


def fetch_snapshot(collection: str, snapshot: str, into: Path) -> Call[Path]:
    """Write a snapshot that the server keeps to a file of this machine."""
    return Call("GET", in_collection(collection, "snapshots", snapshot), results.path, into=into)


def remove_snapshot(collection: str, snapshot: str) -> Call[None]:
    """Remove a snapshot."""
    return write("DELETE", in_collection(collection, "snapshots", snapshot), results.nothing)


def restore(collection: str, snapshot: Snapshot) -> Call[Job]:
    """Make a new collection of a snapshot, there when the job is done; raises `Conflict` when there is one of that name."""
    body = {"collection": snapshot.collection, "snapshot": snapshot.snapshot}
    return write("POST", in_collection(collection, "restore"), jobs.job, body)


def aliases() -> Call[list[Alias]]:
    """List the names that point to collections."""
    return Call("GET", "/v1/aliases", results.aliases)


def point_alias(alias: str, collection: str) -> Call[Alias]:
    """Let a name mean a collection, from one moment to the next."""
    return write("PUT", _alias(alias), results.alias, {"collection": collection})


def forget_alias(alias: str) -> Call[None]:
    """Forget an alias; its collection stays."""
    return write("DELETE", _alias(alias), results.nothing)


def _alias(alias: str) -> str:
    return f"/v1/aliases/{segment(alias)}"
