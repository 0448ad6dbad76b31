"""Snapshots of collections, which the server keeps in its data folder, and aliases. How they are made stands in `api.snapshots`."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from api.auth import key_of
from api.exchange import StrictRoute, json_answer
from api.openapi import problems
from api.routes.jobs import accepted, job_answer
from api.schemas.fields import CollectionName
from api.schemas.jobs import RESTORE_JOB, SNAPSHOT_JOB
from api.schemas.snapshots import AliasIn, AliasList, AliasName, AliasOut, Restore, SnapshotList, SnapshotName
from api.services import Services, ServicesDep
from api.snapshots import RESTORE, TAKE
from engine.errors import CollectionExists, NotFound, StorageError
from engine.search import SearchEngine

router = APIRouter(prefix="/v1", tags=["collections"], route_class=StrictRoute)
SNAPSHOTS = "/collections/{collection}/snapshots"


@router.post(
    SNAPSHOTS, summary="Take a snapshot", status_code=202, responses=accepted(SNAPSHOT_JOB) | problems(404, 409, 422, 503, 504)
)
async def take_snapshot(collection: CollectionName, request: Request, services: ServicesDep) -> Response:
    """Write a collection, as it is at one moment, to one file that the server keeps. Writes go on meanwhile.

    It is a job of the kind `snapshot`; its result names the snapshot.
    """
    await services.workers.run(lambda: services.engine.collection(collection))
    return await _submitted(services, request, TAKE, collection, {"snapshot": services.snapshots.new_name()})


@router.get(SNAPSHOTS, summary="List snapshots", response_model=SnapshotList, responses=problems(422, 503, 504))
async def list_snapshots(collection: CollectionName, services: ServicesDep) -> Response:
    """List the snapshots of a collection that the server keeps; they stay when the collection is removed."""
    return json_answer({"snapshots": await services.workers.run(lambda: services.snapshots.all(collection))})


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
        services.snapshots.find(collection, snapshot), media_type="application/x-tar", filename=f"{collection}-{snapshot}"
    )


@router.delete(
    SNAPSHOTS + "/{snapshot}", summary="Remove a snapshot", status_code=204, response_class=Response, responses=problems(404, 422)
)
async def remove_snapshot(collection: CollectionName, snapshot: SnapshotName, services: ServicesDep) -> Response:
    """Remove a snapshot."""
    file = services.snapshots.find(collection, snapshot)
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{file.name} cannot be removed ({error.strerror}): check the permissions and the disk") from error
    return Response(status_code=204)


@router.post(
    "/collections/{collection}/restore",
    summary="Restore a snapshot",
    status_code=202,
    responses=accepted(RESTORE_JOB) | problems(404, 409, 422, 503, 504),
)
async def restore(request: Request, collection: CollectionName, body: Restore, services: ServicesDep) -> Response:
    """Make a new collection of a snapshot that the server keeps; 409 when there is one of that name.

    It is a job of the kind `restore`; the collection is there, whole, when it is done.
    """
    key = key_of(request.scope)
    if key is not None and not key.admits(body.collection):
        raise NotFound(f"there is no snapshot {body.snapshot!r} of {body.collection!r} that this key reaches")
    services.snapshots.find(body.collection, body.snapshot)
    if collection in await services.workers.run(services.engine.collections):
        raise CollectionExists(f"collection {collection!r} exists already: drop it first, or choose another name")
    return await _submitted(services, request, RESTORE, collection, body.model_dump())


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


async def _submitted(services: Services, request: Request, kind: str, collection: str, asked: Mapping[str, Any]) -> Response:
    key = key_of(request.scope)
    job = await services.workers.run(
        lambda: services.jobs.submit(kind, asked, collection=collection, key=None if key is None else key.id)
    )
    return job_answer(job)


def _aliases(engine: SearchEngine) -> list[dict[str, object]]:
    found = engine.library.aliases.all()
    return [{"alias": name, "collection": alias.collection, "previous": alias.previous} for name, alias in sorted(found.items())]
