"""`semblance index`: a catalogue into a collection."""

from pathlib import Path
from typing import Annotated

import typer

from cli import options
from cli.failures import ROWS_REFUSED, usage_error
from cli.output import note, say, say_json
from cli.progress import meter


def index() -> None:
    """Index."""
