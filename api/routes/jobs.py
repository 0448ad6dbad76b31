"""Jobs: listed, shown, followed, cancelled. What starts them is a route of their kind.

A key sees the jobs of the collections it reaches. Cancelling takes a key that may write, or the one that asked for the job.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from api.auth import key_of
from api.exchange import StrictRoute, json_answer
from api.jobstore import Job
from api.keys import ApiKey
from api.openapi import problems
from api.schemas.jobs import IMPORT_JOB, JobList, JobOut, job_as_dict
from api.services import Services, ServicesDep
from engine.errors import NotFound

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

POLL_S = 0.2
HEARTBEAT_S = 15.0
JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{1,64}$", description="Id of a job.", examples=["5f0c1d9e7a3b4c2d8e6f7a10"])]
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The events.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": f"event: progress\ndata: {orjson.dumps(IMPORT_JOB).decode()}\n\n",
            }
        },
    }
}


def accepted(example: Mapping[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Document the answer of a route that starts a job, by an example of one."""
    return {
        202: {
            "model": JobOut,
            "description": "The job is queued; `Location` is its address.",
            "content": {"application/json": {"example": example}},
            "headers": {"Location": {"schema": {"type": "string"}, "description": "Where the job can be read."}},
        }
    }


def job_answer(job: Job) -> Response:
    """Answer with a job that was started."""
    answer = json_answer(job_as_dict(job), 202)
    answer.headers["Location"] = f"/v1/jobs/{job.id}"
    return answer


@router.get("", summary="List jobs", response_model=JobList, responses=problems(422, 503, 504))
async def list_jobs(
    request: Request,
    services: ServicesDep,
    kind: Annotated[str | None, Query(max_length=40, description="Only jobs of this kind, such as `import`.")] = None,
    collection: Annotated[str | None, Query(max_length=63, description="Only jobs of this collection.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many to list at most.")] = 50,
) -> Response:
    """List the newest jobs that the key reaches."""
    key = key_of(request.scope)
    reach = None if key is None or key.collections is None else (key.id, key.collections)
    jobs = await services.workers.run(lambda: services.jobs.newest(kind=kind, collection=collection, limit=limit, reach=reach))
    return json_answer({"jobs": [job_as_dict(job) for job in jobs if _sees(request, job)]})


@router.get("/{id}", summary="Show a job", response_model=JobOut, responses=problems(404, 422, 503, 504))
async def read_job(id: JobId, request: Request, services: ServicesDep) -> Response:
    """Show how far a job is, or how it ended."""
    return json_answer(job_as_dict(await visible_job(id, request, services)))


@router.delete("/{id}", summary="Cancel a job", status_code=202, response_model=JobOut, responses=problems(403, 404, 422, 503, 504))
async def cancel_job(id: JobId, request: Request, services: ServicesDep) -> Response:
    """Cancel a job: one that waits never begins, one that runs ends soon and keeps what it has done, one that ended stays so."""
    job, key = await visible_job(id, request, services), key_of(request.scope)
    if key is not None and not key.covers("write") and job.key != key.id:
        raise HTTPException(403, f"The key {key.name!r} may not write and did not ask for this job: use another key.")
    return json_answer(job_as_dict(await services.workers.run(lambda: services.jobs.cancel(id))), 202)


@router.get(
    "/{id}/events", summary="Follow a job", response_class=StreamingResponse, responses=_EVENTS | problems(404, 422, 503, 504)
)
async def follow_job(id: JobId, request: Request, services: ServicesDep) -> Response:
    """Follow a job by server-sent events.

    `progress` carries the job whenever it changed, `preview` a picture of the work as a data URI; the last event is named
    `done`, `failed` or `cancelled`.
    """
    job = await visible_job(id, request, services)
    key = key_of(request.scope)
    services.followers.check(key)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(job, key, services), media_type="text/event-stream", headers=headers)


async def visible_job(id: str, request: Request, services: Services) -> Job:
    """Read a job; one that the key does not reach is not there."""
    job = await services.workers.run(lambda: services.jobs.get(id))
    if not _sees(request, job):
        raise NotFound(f"there is no job {id!r}")
    return job


def _sees(request: Request, job: Job) -> bool:
    key = key_of(request.scope)
    return key is None or key.id == job.key or key.admits(job.collection)


async def _events(job: Job, key: ApiKey | None, services: Services) -> AsyncIterator[bytes]:
    """Write the job whenever it changed, until it has ended or the server stops."""
    shown: Job | None = None
    with services.followers.one_more(key):
        while True:
            if shown is not None and shown.revision == job.revision:
                yield b": waiting\n\n"
            else:
                if job.preview is not None and (shown is None or shown.preview != job.preview):
                    yield _event("preview", {"id": job.id, "image": job.preview})
                yield _event(job.state if job.ended else "progress", job_as_dict(job))
            if job.ended or services.followers.leaving:
                return
            shown, job = job, await _changed(job, services)


async def _changed(job: Job, services: Services) -> Job:
    """Wait until the job has changed, the server stops, or it is time for a sign of life."""
    for _ in range(int(HEARTBEAT_S / POLL_S)):
        await asyncio.sleep(POLL_S)
        now = await asyncio.to_thread(services.jobs.get, job.id)
        if now.revision != job.revision or services.followers.leaving:
            return now
    return job


def _event(name: str, body: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(body))
