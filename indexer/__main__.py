"""The indexing job as a process of its own, for a server that imports beside serving; people use `semblance index`.

An order comes in as one line of JSON on standard input, progress and the outcome go out as lines of JSON on standard output.
The job ends when standard input does: so whoever ordered it stops it by closing the pipe, or by dying. Committed work stays.
"""

import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from engine import open_engine
from engine.config import Settings
from engine.errors import SemblanceError
from indexer.job import IndexRequest, Progress, index_catalogue
from indexer.report import JobFailed

LOWER_PRIORITY = 10
STANDARD_INPUT = 0


def main() -> int:
    """Run the one job that standard input asks for; 0 when the outcome was told, whatever it is."""
    order = orjson.loads(_first_line())
    if hasattr(os, "nice"):
        os.nice(LOWER_PRIORITY)  # searches come first
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        with open_engine(Settings(**order["settings"])) as engine:
            report = index_catalogue(engine, _request(order["request"]), progress=_tell_progress)
        _tell({"report": report.as_dict()})
    except KeyboardInterrupt:
        _tell({"stopped": True})
    except SemblanceError as error:
        cause = error.__cause__ or error
        report_so_far = error.report.as_dict() if isinstance(error, JobFailed) else None
        _tell({"error": {"kind": type(cause).__name__, "message": str(error), "report": report_so_far}})
    return 0


def _request(fields: Mapping[str, Any]) -> IndexRequest:
    paths = {name: Path(fields[name]) for name in ("catalogue", "retry_failed", "job_folder", "pictures") if fields.get(name)}
    return IndexRequest(**{**fields, **paths})


def _tell_progress(progress: Progress) -> None:
    _tell({"progress": asdict(progress) | {"eta_s": progress.eta_s}})


def _tell(message: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(message) + b"\n")
    sys.stdout.buffer.flush()


def _first_line() -> bytes:
    """Read the order, unbuffered: the thread that waits for the end holds no lock when the interpreter ends."""
    line = b""
    while not line.endswith(b"\n") and (piece := os.read(STANDARD_INPUT, 65_536)):
        line += piece
    return line


def _end_with_input() -> None:
    while os.read(STANDARD_INPUT, 4_096):
        pass
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
