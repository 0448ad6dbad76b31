"""Work that goes on after its request was answered: imports, drawings, and the jobs that they are."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Unpack

from api.client import jobs as read
from api.client.call import Attachment, Call, Series, Stream, in_collection, segment, write
from api.client.jobs import DrawingOptions, Job, JobEvent, RefusedRows
from api.client.problems import Unfinished
from api.client.results import picture
from api.client.searches import inline

ROWS = 1_000  # of an import's refused rows in one page


def import_file(
    collection: str,
    catalogue: Path,
    *,
    prune: bool = False,
    encoding: str | None = None,
    mapping: Mapping[str, str] | None = None,
) -> Call[Job]:
    """Upload a catalogue (CSV, JSON lines, JSON, XML, Parquet) and import it into a collection, which is made if need be.

    `prune` removes products that the catalogue no longer lists; `mapping` names columns, such as `{"title": "productDisplayName"}`.
    The file is sent again if an attempt fails: importing twice changes nothing the second time.
    """
    params: dict[str, str | list[str]] = {"prune": str(prune).lower()}
    if encoding is not None:
        params["encoding"] = encoding
    params["map"] = [f"{part}={column}" for part, column in (mapping or {}).items()]
    path = in_collection(collection, "imports")
    return Call("POST", path, read.job, params=params, attachment=Attachment("file", catalogue))


def import_from_server(
    collection: str, path: str, *, prune: bool = False, encoding: str | None = None, mapping: Mapping[str, str] | None = None
) -> Call[Job]:
    """Import a catalogue that lies on the server, below the folder that `SEMBLANCE_IMPORT_ROOT` names there."""
    body = {"path": path, "prune": prune, "encoding": encoding, "mapping": dict(mapping or {})}
    return write("POST", in_collection(collection, "imports"), read.job, body)


def retry_import(job: Job) -> Call[Job]:
    """Import the rows again that an import refused, as a new job."""
    return write("POST", _import(job, "retry"), read.job)


def refused_rows(job: Job) -> Series[RefusedRows]:
    """List the rows that an import refused or remarked on, page by page; also while it runs."""
    path = _import(job, "errors")

    def page(offset: int) -> Call[RefusedRows]:
        return Call("GET", path, read.refused_rows, params={"offset": str(offset), "limit": str(ROWS)})

    return Series(page(0), lambda rows: None if rows.next is None else page(rows.next))


def jobs(*, kind: str | None = None, collection: str | None = None, limit: int = 50) -> Call[list[Job]]:
    """List the newest jobs, of a `kind` (`import` or `generate`) or a collection if one is named."""
    given = {"kind": kind, "collection": collection, "limit": str(limit)}
    return Call("GET", "/v1/jobs", read.jobs, params={name: value for name, value in given.items() if value is not None})


def job(id: str) -> Call[Job]:
    """Show how far a job is, or how it ended."""
    return Call("GET", _job(id), read.job)


def cancel(id: str) -> Call[Job]:
    """Cancel a job: one that waits never begins, one that runs ends soon and keeps what it has done."""
    return write("DELETE", _job(id), read.job)


def wait(
    id: str, *, timeout_s: float | None = None, every_s: float = 0.5, clock: Callable[[], float] = time.monotonic
) -> Series[Job]:
    """Wait until a job has ended, and return it; its `state` says how. Raises `Unfinished` when that takes over `timeout_s`."""
    asked = job(id)
    until = None if timeout_s is None else clock() + timeout_s

    def again(now: Job) -> Call[Job] | None:
        if now.ended:
            return None
        if until is not None and clock() >= until:
            raise Unfinished(f"job {id} is still {now.state} after {timeout_s} s: wait longer, follow it, or cancel it")
        return asked

    return Series(asked, again, every_s)


def follow(id: str) -> Stream[JobEvent]:
    """Follow a job as it goes on: its progress, previews of a drawing, and at last how it ended.

    A connection that was cut off is made again, and the job is then told once more.
    """
    return Stream(f"{_job(id)}/events", read.job_event, lambda event: event.job is not None and event.job.ended)


def generate(prompt: str, **options: Unpack[DrawingOptions]) -> Call[Job]:
    """Draw what words describe, and find the real products nearest to the drawing. The job's `drawn` holds both.

    Raises `InvalidRequest` with the `rule` among its `members` when safety refuses, `TooManyRequests` when the budget is spent.
    """
    body: dict[str, Any] = {"prompt": prompt, **options}
    if "image" in options:
        body["image"] = inline(options["image"])
    return Call("POST", "/v1/generate", read.job, json=body)  # the same order twice is one job


def drawing(id: str) -> Call[bytes]:
    """Fetch a drawing as PNG; its provenance is inside."""
    return Call("GET", f"/v1/drawings/{segment(id)}/image", picture)


def _job(id: str) -> str:
    return f"/v1/jobs/{segment(id)}"


def _import(job: Job, what: str) -> str:
    return in_collection(job.collection or "", "imports", job.id, what)
