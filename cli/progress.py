"""Shows how far long work is: a bar with rate and time left on a terminal, an occasional line elsewhere. Always on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from cli.output import note

SECONDS_BETWEEN_LINES = 5.0


class Meter(Protocol):
    """Something that shows a count; `total` is None as long as nobody knows it."""

    def show(self, done: int, total: int | None = None, remark: str = "") -> None:
        """Show the state of the work."""


@contextmanager
def meter(label: str, unit: str) -> Iterator[Meter]:
    """Open the meter that suits stderr; close it at the end of the `with` block."""
    if not sys.stderr.isatty():
        yield LineMeter(label, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(unit),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[remark]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield BarMeter(progress, label)


class BarMeter:
    """A live bar."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=None, remark="")

    def show(self, done: int, total: int | None = None, remark: str = "") -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done, total=total, remark=remark)


class LineMeter:
    """A plain line at most every few seconds, for logs and pipes."""

    def __init__(self, label: str, unit: str) -> None:
        self._label, self._unit = label, unit
        self._started = self._shown = time.monotonic()

    def show(self, done: int, total: int | None = None, remark: str = "") -> None:
        """Print a line if the last one is old enough."""
        now = time.monotonic()
        if now - self._shown < SECONDS_BETWEEN_LINES:
            return
        self._shown = now
        rate = done / (now - self._started)
        of_total = f" of {total}" if total else ""
        left = f", {_clock((total - done) / rate)} left" if total and rate else ""
        note(f"{self._label}: {done}{of_total} {self._unit}, {rate:.1f}/s{left}{'; ' + remark if remark else ''}")


class RateColumn(ProgressColumn):
    """Units a second over the last moments."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Draw the column."""
        return Text(f"{task.speed:,.1f} {self._unit}/s" if task.speed else f"- {self._unit}/s", style="progress.data.speed")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
