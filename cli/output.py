"""What goes to the terminal and how: the only place of the command line that prints.

Answers go to stdout, everything else to stderr. The streams are looked up at each call, so a caller may replace them.
"""

import io
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def prepare_streams() -> None:
    """Make sure that no title in any script can break a terminal that is not UTF-8, and that there are streams to write to."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # closed by whoever started us: nobody reads
    sys.stderr = sys.stderr or open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def clean(text: str) -> str:
    """Replace control characters (a feed may hold terminal escapes) and line breaks by spaces."""
    return "".join(" " if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} else c for c in text)


def repaired(argument: str) -> str:
    """Read an argument as UTF-8 where the locale could not: a non-UTF-8 shell hands over bytes as surrogates."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return argument.encode(sys.getfilesystemencoding(), "surrogateescape").decode("utf-8", "replace")
    return argument


def say(line: str) -> None:
    """Print one line of an answer to stdout."""
    print(line)


def complain(line: str) -> None:
    """Print an error to stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text("error: ", style="bold red") + Text(line))


def note(line: str) -> None:
    """Print a remark to stderr."""
    print(line, file=sys.stderr, flush=True)


def say_json(value: object) -> None:
    """Print one JSON document to stdout; pure ASCII where the terminal is not UTF-8."""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(json.dumps(value, ensure_ascii=ascii_only, indent=2 if sys.stdout.isatty() else None))


def say_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as a table on a terminal, as tab-separated lines elsewhere."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(clean(cell) for cell in row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    Console(highlight=False).print(table)
