"""The Python client of a Semblance server: `from api.client import Semblance` (or `AsyncSemblance`).

Here belongs what a program needs to call the server over HTTP. It loads httpx and pydantic, nothing of the engine or the server.
"""

from api.client.asynchronous import AsyncSemblance
from api.client.jobs import Drawing, DrawingOptions, Drawn, Job, JobEvent, RefusedRow, RefusedRows
from api.client.problems import (
    ClientProblem,
    Conflict,
    InvalidRequest,
    KeyRefused,
    NotFound,
    Problem,
    ServerFailed,
    TooManyRequests,
    Unavailable,
    Unfinished,
    Unreachable,
)
from api.client.results import (
    Alias,
    BulkResult,
    Collection,
    Document,
    Evidence,
    Facet,
    FacetRange,
    FacetValue,
    Generation,
    Hit,
    ItemStatus,
    Model,
    Relaxation,
    SearchResult,
    Snapshot,
    VoiceResult,
)
from api.client.retrying import Retries
from api.client.searches import FacetSearch, NewDocument, Options, Term
from api.client.synchronous import Semblance

__all__ = [
    "Alias",
    "AsyncSemblance",
    "BulkResult",
    "ClientProblem",
    "Collection",
    "Conflict",
    "Document",
    "Drawing",
    "DrawingOptions",
    "Drawn",
    "Evidence",
    "Facet",
    "FacetRange",
    "FacetSearch",
    "FacetValue",
    "Generation",
    "Hit",
    "InvalidRequest",
    "ItemStatus",
    "Job",
    "JobEvent",
    "KeyRefused",
    "Model",
    "NewDocument",
    "NotFound",
    "Options",
    "Problem",
    "RefusedRow",
    "RefusedRows",
    "Relaxation",
    "Retries",
    "SearchResult",
    "Semblance",
    "ServerFailed",
    "Snapshot",
    "Term",
    "TooManyRequests",
    "Unavailable",
    "Unfinished",
    "Unreachable",
    "VoiceResult",
]
