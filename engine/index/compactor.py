"""Compaction in a process of its own: a search beside it has the interpreter to itself, and gives it up to nobody.

`compact_apart` starts the process, hands it the lock of the collection's compactions and waits for its end. The process is one like
any other that compacts: it writes a segment and puts it in force, and may be killed at any point, which is then tried again later.
It gives way to every search, is what the system ends first when memory runs out, and ends when the one that started it does. What a
compaction is, and why it may be killed, stands in `engine.index.compaction`.
"""

import logging
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from engine.database import Database
from engine.errors import SemblanceError, StorageError
from engine.folder import DATABASE
from engine.index.ann import Kind
from engine.index.compaction import Segments, compaction_lock
from engine.index.merging import Extent

NICENESS = 10  # beside two busy threads it still gets a tenth of a core: with 19 a compaction under load might never end
ENDED_FIRST = "500"  # of 1000: added to what the system reckons when memory runs out
START = "import sys; sys.path[:] = sys.argv[2:]; from engine.index.compactor import main; main()"


@dataclass(frozen=True, slots=True)
class Order:
    """What the process is told: the folder of a collection, and how it is compacted."""

    folder: str
    threads: int
    kind: Kind | None
    busy_timeout_ms: int
    extent: Extent = "due"


def compact_apart(order: Order) -> bool:
    """Publish a new segment from another process; false when somebody is doing so already.

    Raises `StorageError` when the process fails or is ended: what was in force stays so then.
    """
    with compaction_lock(Path(order.folder), wait=False) as lock:
        if lock is None:
            return False
        code, said = _run(order, lock)
    if code != 0:
        reason = said.strip() or "it said nothing, as when it is killed"
        raise StorageError(f"the process that compacts {order.folder} ended with {code}: {reason}")
    return True


def command_of(order: Order) -> list[str]:
    """Compose the command line; modules are looked for where this process looks for them."""
    return [sys.executable, "-P", "-c", START, orjson.dumps(asdict(order)).decode(), *sys.path]


def _run(order: Order, lock: int) -> tuple[int, str]:
    try:
        process = subprocess.Popen(  # noqa: S603  our own command
            command_of(order),
            stdin=subprocess.PIPE,  # never written to: it closes when this process ends, however that ends
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(lock,),  # the lock is let go of when both have ended
            process_group=0,  # ctrl-C is for this process, which decides; a session of its own would share cores evenly
        )
    except OSError as error:
        raise StorageError(f"a process that compacts {order.folder} cannot be started: {error}") from error
    with process:
        assert process.stderr is not None  # noqa: S101  asked for above
        said = process.stderr.read().decode(errors="replace")
        return process.wait(), said


def main() -> None:
    """Be that process."""
    order = Order(**orjson.loads(sys.argv[1]))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.nice(NICENESS)
    with suppress(OSError):  # only Linux has it
        Path("/proc/self/oom_score_adj").write_text(ENDED_FIRST, encoding="ascii")
    try:
        database = Database(Path(order.folder) / DATABASE, busy_timeout_ms=order.busy_timeout_ms)
        Segments(Path(order.folder), database, threads=order.threads, kind=order.kind).publish_locked(order.extent)
    except (SemblanceError, FileNotFoundError) as error:
        sys.exit(str(error))


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)
