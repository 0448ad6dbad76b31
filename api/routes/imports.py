"""Imports: a catalogue, uploaded or on the server, becomes a job; the rows it refused can be read, fetched and tried again.

A catalogue that came over HTTP is not trusted with the server's files: of an upload no local picture is read, of a catalogue on the
server only those below `SEMBLANCE_IMPORT_ROOT`.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from api.auth import key_of
from api.exchange import StrictRequest, StrictRoute, json_answer
from api.importing import KIND, SUFFIXES, errors_file, folder_of, read_errors, retry_request
from api.jobstore import Job, new_id
from api.openapi import problems
from api.routes.jobs import JobId, accepted, job_answer, visible_job
from api.schemas.fields import CollectionName
from api.schemas.imports import ImportErrors, ImportRequest, upload_body
from api.schemas.jobs import IMPORT_JOB
from api.services import Services, ServicesDep
from api.uploads import is_json
from engine.errors import CollectionNotFound, InvalidInput, NotFound, StorageError

router = APIRouter(prefix="/v1/collections/{collection}/imports", tags=["jobs"], route_class=StrictRoute)

_ACCEPTED = accepted(IMPORT_JOB | {"state": "queued", "progress": {}})
MAX_ERRORS = 1_000_000_000
_PART = r"^(id|title|description|image)=.{1,200}$"
Mapped = Annotated[str, Query(pattern=_PART)]


@router.post(
    "",
    summary="Import a catalogue",
    status_code=202,
    responses=_ACCEPTED | problems(400, 404, 408, 409, 413, 415, 422, 503, 504),
    openapi_extra=upload_body(),
)
async def start_import(
    collection: CollectionName,
    request: Request,
    services: ServicesDep,
    prune: Annotated[bool, Query(description="Remove products that an uploaded catalogue no longer lists.")] = False,
    encoding: Annotated[str | None, Query(max_length=40, description="Text encoding of a CSV that is not UTF-8.")] = None,
    map: Annotated[Sequence[Mapped], Query(max_length=20, description="Columns of an upload: `title=productDisplayName`.")] = (),
) -> Response:
    """Import a catalogue into a collection: CSV, JSON lines, JSON, an XML feed or Parquet.

    It is the body itself, or the form field `file`, or lies on the server and is named in JSON. A key that may make collections
    makes the collection if need be.
    """
    id = new_id()
    await _ensure(collection, request, services)
    if is_json(request.headers):
        asked = await _on_the_server(request, services)
    else:
        mapping = dict(entry.split("=", 1) for entry in map)
        asked = {"prune": prune, "encoding": encoding, "mapping": mapping, **await _uploaded(id, request, services)}
    return await _submit(services, request, collection, asked, id)


@router.post("/{id}/retry", summary="Retry an import", status_code=202, responses=_ACCEPTED | problems(404, 409, 422, 503, 504))
async def retry_import(collection: CollectionName, id: JobId, request: Request, services: ServicesDep) -> Response:
    """Import the rows again that an earlier import refused, as a new job."""
    job = await _import(collection, id, request, services)
    asked = await services.workers.run(lambda: retry_request(services.settings.data, job))
    return await _submit(services, request, collection, asked, new_id())


@router.get("/{id}/errors", summary="Rows an import refused", response_model=ImportErrors, responses=problems(404, 422, 503, 504))
async def list_errors(
    collection: CollectionName,
    id: JobId,
    request: Request,
    services: ServicesDep,
    offset: Annotated[int, Query(ge=0, le=MAX_ERRORS, description="How many to leave out: `next` of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000, description="How many to list at most.")] = 100,
) -> Response:
    """List the rows that an import refused or remarked on, in the order it met them; also while it runs."""
    job = await _import(collection, id, request, services)
    found, more = await services.workers.run(lambda: read_errors(services.settings.data, job.id, offset, limit))
    return json_answer({"errors": found, "next": offset + limit if more else None})


@router.get(
    "/{id}/errors.csv",
    summary="Fetch the rows an import refused",
    response_class=FileResponse,
    responses={
        200: {
            "content": {"text/csv": {"schema": {"type": "string"}, "example": "row,id,reason,code\n"}},
            "description": "The rows.",
        },
        **problems(404, 422, 503, 504),
    },
)
async def fetch_errors(collection: CollectionName, id: JobId, request: Request, services: ServicesDep) -> Response:
    """Fetch all of them as CSV, for a spreadsheet."""
    job = await _import(collection, id, request, services)
    path = await services.workers.run(lambda: errors_file(services.settings.data, job.id))
    return FileResponse(path, media_type="text/csv; charset=utf-8", filename=f"{collection}-{id[:8]}-errors.csv")


async def _ensure(collection: str, request: Request, services: Services) -> None:
    """Make the collection if it is not there and the key may; raises `CollectionNotFound` otherwise."""
    key = key_of(request.scope)
    try:
        await services.workers.run(lambda: services.engine.collection(collection))
    except CollectionNotFound:
        if key is not None and not key.covers("admin"):
            raise
        await services.workers.run(lambda: services.engine.ensure(collection))


async def _import(collection: str, id: str, request: Request, services: Services) -> Job:
    job = await visible_job(id, request, services)
    if job.kind != KIND or job.collection != collection:
        raise NotFound(f"collection {collection!r} has no import {id!r}")
    return job


async def _submit(services: Services, request: Request, collection: str, asked: Mapping[str, Any], id: str) -> Response:
    key = key_of(request.scope)
    try:
        job = await services.workers.run(
            lambda: services.jobs.submit(KIND, asked, id=id, collection=collection, key=None if key is None else key.id)
        )
    except BaseException:
        shutil.rmtree(folder_of(services.settings.data, id), ignore_errors=True)
        raise
    return job_answer(job)


async def _uploaded(id: str, request: Request, services: Services) -> dict[str, Any]:
    """Read an upload into the job's folder."""
    folder = folder_of(services.settings.data, id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error}): check its permissions and its disk") from error
    arriving = folder / "catalogue"
    try:
        name = await services.uploads.save(request, arriving)
        suffix = Path(name).suffix.lower()
        catalogue = arriving.rename(arriving.with_suffix(suffix)) if suffix in SUFFIXES else arriving
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shown = "".join(c for c in name if c.isprintable())[:200]
    return {"catalogue": str(catalogue), "name": shown, "pictures": str(folder)}


async def _on_the_server(request: Request, services: Services) -> dict[str, Any]:
    """Find a catalogue below the import folder; raises `InvalidInput` for anything else, and says nothing of what is there."""
    try:
        asked = ImportRequest.model_validate(await StrictRequest(request.scope, request.receive).json())
    except ValidationError as error:
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from None
    except ValueError as error:
        raise HTTPException(422, f"The body is not valid JSON: {error}") from None
    root = services.settings.import_root
    if root is None:
        raise InvalidInput("this server imports no files of its own: upload the catalogue, or set SEMBLANCE_IMPORT_ROOT")
    path = await services.workers.run(lambda: _below(root.resolve(), asked.path))
    return asked.model_dump(exclude={"path"}) | {"catalogue": str(path), "name": asked.path, "pictures": str(root.resolve())}


def _below(root: Path, name: str) -> Path:
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, ValueError):
        path = root.parent
    if not path.is_relative_to(root) or path == root:
        raise InvalidInput(f"there is no catalogue {name[:200]!r} in the import folder: name a file below it")
    return path
