"""Snapshots of collections, which the server keeps in its data folder, and aliases. How they are made stands in the engine."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from api.auth import key_of
from api.exchange import StrictRoute, json_answer
from api.openapi import problems
from api.schemas.documents import CollectionOut
from api.schemas.fields import CollectionName
from api.schemas.snapshots import AliasIn, AliasList, AliasName, AliasOut, Restore, SnapshotList, SnapshotName, SnapshotOut
from api.services import Services, ServicesDep
from engine.errors import NotFound
from engine.search import SearchEngine

router = APIRouter(prefix="/v1", tags=["collections"], route_class=StrictRoute)
FOLDER = "_snapshots"
SNAPSHOTS = "/collections/{collection}/snapshots"


@router.post(
    SNAPSHOTS, summary="Take a snapshot", status_code=201, response_model=SnapshotOut, responses=problems(404, 409, 422, 503, 504)
)
async def take_snapshot(collection: CollectionName, services: ServicesDep) -> Response:
    """Write a collection, as it is at one moment, to one file that the server keeps. Writes go on meanwhile."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:4]}.snapshot"
    target = _folder(services, collection) / name
    await services.workers.run(lambda: services.engine.library.snapshot(collection, target))
    return json_answer(_described(collection, target), 201)


@router.get(SNAPSHOTS, summary="List snapshots", response_model=SnapshotList, responses=problems(422, 503, 504))
async def list_snapshots(collection: CollectionName, services: ServicesDep) -> Response:
    """List the snapshots of a collection that the server keeps; they stay when the collection is removed."""
    found = sorted(_folder(services, collection).glob("*.snapshot"))
    return json_answer({"snapshots": [_described(collection, path) for path in found]})


@router.get(
    SNAPSHOTS + "/{snapshot}",
    summary="Fetch a snapshot",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/x-tar": {"example": "the bytes of a tar file"}}, "description": "The snapshot."},
        **problems(404, 422),
    },
)
async def fetch_snapshot(collection: CollectionName, snapshot: SnapshotName, services: ServicesDep) -> Response:
    """Fetch a snapshot as a file."""
    return FileResponse(
        _existing(services, collection, snapshot), media_type="application/x-tar", filename=f"{collection}-{snapshot}"
    )


@router.delete(
    SNAPSHOTS + "/{snapshot}", summary="Remove a snapshot", status_code=204, response_class=Response, responses=problems(404, 422)
)
async def remove_snapshot(collection: CollectionName, snapshot: SnapshotName, services: ServicesDep) -> Response:
    """Remove a snapshot."""
    _existing(services, collection, snapshot).unlink(missing_ok=True)
    return Response(status_code=204)


@router.post(
    "/collections/{collection}/restore",
    summary="Restore a snapshot",
    status_code=201,
    response_model=CollectionOut,
    responses=problems(404, 409, 422, 503, 504),
)
async def restore(request: Request, collection: CollectionName, body: Restore, services: ServicesDep) -> Response:
    """Make a new collection of a snapshot that the server keeps; 409 when there is one of that name."""
    key = key_of(request.scope)
    if key is not None and not key.admits(body.collection):
        raise NotFound(f"there is no snapshot {body.snapshot!r} of {body.collection!r} that this key reaches")
    source = _existing(services, body.collection, body.snapshot)
    async with services.writes.turn(collection):
        made = await services.workers.run(lambda: _restored(services.engine, source, collection))
    return json_answer(made, 201)


@router.get("/aliases", summary="List aliases", response_model=AliasList, responses=problems(503, 504))
async def list_aliases(services: ServicesDep) -> Response:
    """List the names that point to collections."""
    return json_answer({"aliases": await services.workers.run(lambda: _aliases(services.engine))})


@router.put("/aliases/{alias}", summary="Point an alias", response_model=AliasOut, responses=problems(404, 422, 503, 504))
async def point_alias(alias: AliasName, body: AliasIn, services: ServicesDep) -> Response:
    """Let a name mean a collection, from one moment to the next, for every process."""
    await services.workers.run(lambda: services.engine.library.alias(alias, body.collection))
    return json_answer({"alias": alias, "collection": body.collection, "previous": None})


@router.delete(
    "/aliases/{alias}", summary="Forget an alias", status_code=204, response_class=Response, responses=problems(404, 422, 503, 504)
)
async def forget_alias(alias: AliasName, services: ServicesDep) -> Response:
    """Forget an alias; its collection stays."""
    await services.workers.run(lambda: services.engine.library.unalias(alias))
    return Response(status_code=204)


def _folder(services: Services, collection: str) -> Path:
    return services.settings.data / FOLDER / collection


def _existing(services: Services, collection: str, snapshot: str) -> Path:
    path = _folder(services, collection) / snapshot
    if not path.is_file():
        raise NotFound(f"there is no snapshot {snapshot!r} of collection {collection!r}: list those there are")
    return path


def _described(collection: str, path: Path) -> dict[str, object]:
    return {"collection": collection, "snapshot": path.name, "bytes": path.stat().st_size}


def _restored(engine: SearchEngine, source: Path, name: str) -> dict[str, object]:
    made = engine.library.restore(source, name)
    return {
        "name": name,
        "documents": len(made),
        "encoder": made.encoder,
        "fingerprint": made.fingerprint,
        "version": made.version,
    }


def _aliases(engine: SearchEngine) -> list[dict[str, object]]:
    found = engine.library.aliases.all()
    return [{"alias": name, "collection": alias.collection, "previous": alias.previous} for name, alias in sorted(found.items())]
