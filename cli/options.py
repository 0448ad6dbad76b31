"""Options that several commands share, so that they are spelt and explained alike."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from engine.config import Settings
    from engine.search import SearchEngine

Collection: TypeAlias = Annotated[
    str, typer.Option("--collection", "-c", metavar="NAME", help="The collection: a named set of documents.")
]
Data: TypeAlias = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Folder of the collections.  (default: SEMBLANCE_DATA or semblance-data)"),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def settings_for(data: Path | None = None, **overrides: object) -> "Settings":
    """Read the environment, with the command's own options on top."""
    from engine.config import load_settings

    return load_settings(data=data, **overrides)


def open_engine_for(data: Path | None = None, **overrides: object) -> "SearchEngine":
    """Open the engine of a command, as `settings_for` reads its settings; close it, or use it as a context manager."""
    settings = settings_for(data, **overrides)
    from engine import open_engine  # after the settings: a wrong one is told before anything slow is imported

    return open_engine(settings)
