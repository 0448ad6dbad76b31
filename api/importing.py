"""Imports: the catalogues that came over HTTP, and the process that indexes each.

An import runs as `python -m indexer` beside the server: it cannot take searches with it when it dies, it shares no lock with them,
and it ends with the server. The package `indexer` itself is not imported here.
"""

import csv
import logging
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from api.errors import status_of
from api.jobs import FAILED_INSIDE, FOLDER, JobEnded, Jobs, Report
from api.jobstore import Job
from engine import errors
from engine.config import Settings
from engine.errors import Conflict, NotFound

logger = logging.getLogger(__name__)

KIND = "import"
COMMAND = (sys.executable, "-m", "indexer")
END_S = 60.0
SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet"})
COUNTS = ("read", "created", "updated", "unchanged", "refused", "remarks", "pruned", "seconds", "codes", "notes")
_ROOT = Path(__file__).resolve().parent.parent


def folder_of(data: Path, id: str) -> Path:
    """Say where an import keeps its catalogue, its errors.csv and its report."""
    return data.absolute() / FOLDER / f"{KIND}-{id}"


class Importer:
    """Runs import jobs: one child process each, told to end by closing its standard input."""

    def __init__(self, settings: Settings, command: Sequence[str] = COMMAND) -> None:
        self._settings = settings
        self._command = command

    def __call__(self, job: Job, report: Report, cancelled: Callable[[], bool]) -> Mapping[str, Any]:
        """Index one catalogue; returns the counts. Raises `JobEnded` when it failed or was cancelled."""
        folder = folder_of(self._settings.data, job.id)
        folder.mkdir(parents=True, exist_ok=True)
        outcome: Mapping[str, Any] = {}
        with self._process(job, folder, cancelled) as lines:
            for line in lines:
                told = orjson.loads(line)
                if "progress" in told:
                    report(told["progress"])
                else:
                    outcome = told
        return _result(job, outcome, folder)

    @contextmanager
    def _process(self, job: Job, folder: Path, cancelled: Callable[[], bool]) -> Iterator[Iterator[bytes]]:
        """Start the process and lend what it says; it has ended when this does."""
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  our own command, and no word of a client in it
                self._command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        assert process.stdin is not None  # noqa: S101  asked for above
        assert process.stdout is not None  # noqa: S101
        over = threading.Event()
        watch = threading.Thread(target=_end_when, args=(process, cancelled, over), daemon=True)
        watch.start()
        try:
            with suppress(BrokenPipeError):  # it ended at once: what it said last is in its log
                process.stdin.write(orjson.dumps(self._order(job, folder)) + b"\n")
                process.stdin.flush()
            yield iter(process.stdout)
        finally:
            over.set()
            watch.join()
            process.stdout.close()
            _end(process)

    def _order(self, job: Job, folder: Path) -> dict[str, object]:
        settings = self._settings.model_dump(mode="json", exclude={"redis_url", "cache_secret", "client_key"})
        asked = dict(job.request)
        asked.pop("name", None)
        request = asked | {"collection": job.collection, "job_folder": str(folder)}
        return {"settings": settings | {"data": str(self._settings.data.absolute())}, "request": request}


def _end_when(process: "subprocess.Popen[bytes]", cancelled: Callable[[], bool], over: threading.Event) -> None:
    """Close the process's input when the job is to end; end it by force if it does not listen."""
    while not over.wait(0.1):
        if cancelled():
            _end(process)
            return


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()  # what it committed stays, as after any crash
        process.wait()


def _result(job: Job, outcome: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Read the outcome: counts, or `JobEnded` with what there is."""
    if "report" in outcome:
        return _counts(outcome["report"])
    if "stopped" in outcome:
        raise JobEnded("the import was ended before its end; what it had committed stays", _counts(_written(folder)))
    if "error" not in outcome:
        logger.error("import %s ended without a word: %s has what it said", job.id, folder / "log.txt")
        raise JobEnded(FAILED_INSIDE)
    error = outcome["error"]
    kind = getattr(errors, error["kind"], errors.StorageError)
    result = None if error["report"] is None else _counts(error["report"])
    if status_of(kind("")) >= 500:
        logger.error("import %s failed: %s: %s", job.id, error["kind"], error["message"])
        raise JobEnded(FAILED_INSIDE, result)
    raise JobEnded(error["message"].replace(str(job.request["catalogue"]), job.request.get("name") or "the catalogue"), result)


def _written(folder: Path) -> Mapping[str, Any]:
    try:
        written = orjson.loads((folder / "report.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return written if isinstance(written, dict) else {}


def _counts(report: Mapping[str, Any]) -> dict[str, Any]:
    """Take what a client may know: no paths of this machine."""
    return {name: report[name] for name in COUNTS if name in report}


def read_errors(data: Path, id: str, offset: int, limit: int) -> tuple[list[dict[str, object]], bool]:
    """Read lines of an import's errors.csv from `offset` on, and say whether there are more."""
    try:
        with (folder_of(data, id) / "errors.csv").open(newline="", encoding="utf-8") as file:
            lines = list(islice(csv.DictReader(file), offset, offset + limit + 1))
    except FileNotFoundError:
        return [], False
    return [_plain(line) for line in lines[:limit]], len(lines) > limit


def _plain(line: Mapping[str, str]) -> dict[str, object]:
    """Take off the apostrophe that guards spreadsheets."""
    return {
        "row": int(line["row"]),
        "id": line["id"].removeprefix("'") or None,
        "reason": line["reason"].removeprefix("'"),
        "code": line["code"],
    }


def errors_file(data: Path, id: str) -> Path:
    """Find an import's errors.csv; raises `NotFound` when every row went in."""
    path = folder_of(data, id) / "errors.csv"
    if not path.is_file():
        raise NotFound(f"import {id!r} has no errors: every row it read went in")
    return path


def retry_request(data: Path, job: Job) -> dict[str, Any]:
    """Ask again for the rows that an import refused; raises `Conflict` while it runs, and when there are none."""
    if not job.ended:
        raise Conflict(f"import {job.id!r} is still {job.state}: wait for its end, then retry what it refused")
    if not (folder_of(data, job.id) / "errors.csv").is_file():
        raise Conflict(f"import {job.id!r} refused no rows: there is nothing to retry")
    if not Path(job.request["catalogue"]).exists():
        raise Conflict(f"the catalogue of import {job.id!r} is no longer there: upload it again")
    return {**job.request, "prune": False, "retry_failed": str(folder_of(data, job.id))}


def clear(data: Path, jobs: Jobs, *, older_than_s: float = 86_400) -> None:
    """Forget jobs that ended long ago, and remove the folders of imports that no job knows (an upload that was cut off)."""
    jobs.forget()
    before = time.time() - older_than_s
    for folder in (data / FOLDER).glob(f"{KIND}-*"):
        try:
            jobs.get(folder.name.removeprefix(f"{KIND}-"))
        except NotFound:
            if folder.stat().st_mtime < before:
                shutil.rmtree(folder, ignore_errors=True)
