"""Jobs as clients see them."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from api.jobstore import Job
from api.schemas.fields import example
from api.schemas.generation import shown_result
from api.schemas.snapshots import SNAPSHOT

IMPORT_JOB = {
    "id": "5f0c1d9e7a3b4c2d8e6f7a10",
    "kind": "import",
    "state": "running",
    "collection": "shop",
    "progress": {"stage": "indexing", "total": 5000, "read": 1200, "created": 1190, "updated": 0, "unchanged": 0, "refused": 10},
    "message": "",
    "result": None,
    "attempts": 1,
    "cancel_requested": False,
    "created_at": "2026-03-02T09:30:00.000+00:00",
    "updated_at": "2026-03-02T09:30:21.500+00:00",
}
SNAPSHOT_JOB = IMPORT_JOB | {
    "id": "8a1f0d3b7c5e4d2f9b6a1c20",
    "kind": "snapshot",
    "state": "done",
    "progress": {"bytes": 2_097_152, "total": 2_097_152},
    "result": SNAPSHOT,
}
RESTORED = {"name": "shop-2", "documents": 5000, "encoder": "bundle:default", "fingerprint": "9c1f42d07ab3", "version": 5210}
RESTORE_JOB = SNAPSHOT_JOB | {"id": "0b9d7e6f5a4c3b2a1f0e9d8c", "kind": "restore", "collection": "shop-2", "result": RESTORED}


class JobOut(BaseModel):
    """Work that goes on after its request was answered. `progress` and `result` depend on the kind; `message` says why it ended."""

    model_config = example(IMPORT_JOB)
    id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    collection: str | None
    progress: dict[str, Any]
    message: str
    result: dict[str, Any] | None
    attempts: int
    cancel_requested: bool
    created_at: str
    updated_at: str


class JobList(BaseModel):
    """Jobs, the newest first."""

    model_config = example({"jobs": [IMPORT_JOB]})
    jobs: list[JobOut]


def job_as_dict(job: Job) -> dict[str, object]:
    """Lay a job out as JSON; what was asked for and by whom stays inside."""
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "collection": job.collection,
        "progress": dict(job.progress),
        "message": job.message,
        "result": _result(job),
        "attempts": job.attempts,
        "cancel_requested": job.cancel,
        "created_at": _iso(job.created),
        "updated_at": _iso(job.updated),
    }


def _result(job: Job) -> dict[str, Any] | None:
    if job.result is None:
        return None
    return shown_result(job.result, job.collection) if job.kind == "generate" else dict(job.result)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
