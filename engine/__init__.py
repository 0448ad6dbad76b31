"""The engine: text and pictures in, products out. Synchronous and batch-first; no HTTP, no argv.

from engine import Document, open_engine
"""

from typing import TYPE_CHECKING, Any

from engine.config import Settings, load_settings
from engine.datatypes import Document, DocumentRef, Hit, Query, SearchResult, Term
from engine.errors import SemblanceError

if TYPE_CHECKING:
    from engine.build import open_engine
    from engine.search import SearchEngine

__all__ = [
    "Document",
    "DocumentRef",
    "Hit",
    "Query",
    "SearchEngine",
    "SearchResult",
    "SemblanceError",
    "Settings",
    "Term",
    "load_settings",
    "open_engine",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  a module attribute
    """Import the engine proper on first use: it loads FAISS and OpenVINO, which `semblance --help` does not need."""
    if name == "open_engine":
        from engine.build import open_engine  # noqa: PLC0415

        return open_engine
    if name == "SearchEngine":
        from engine.search import SearchEngine  # noqa: PLC0415

        return SearchEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
