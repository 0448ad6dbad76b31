"""The Python client of a Semblance server: `from api.client import Semblance` (or `AsyncSemblance`).

Here belongs what a program needs to call the server over HTTP. It loads httpx and pydantic, nothing of the engine or the server.
"""

from api.client.asynchronous import AsyncSemblance
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
    Unreachable,
)
from api.client.results import (
    BulkResult,
    Collection,
    Document,
    Evidence,
    Facet,
    FacetRange,
    FacetValue,
    Hit,
    ItemStatus,
    SearchResult,
)
from api.client.retrying import Retries
from api.client.searches import FacetSearch, NewDocument, Options, Term
from api.client.synchronous import Semblance

__all__ = [
    "AsyncSemblance",
    "BulkResult",
    "ClientProblem",
    "Collection",
    "Conflict",
    "Document",
    "Evidence",
    "Facet",
    "FacetRange",
    "FacetSearch",
    "FacetValue",
    "Hit",
    "InvalidRequest",
    "ItemStatus",
    "KeyRefused",
    "NewDocument",
    "NotFound",
    "Options",
    "Problem",
    "Retries",
    "SearchResult",
    "Semblance",
    "ServerFailed",
    "Term",
    "TooManyRequests",
    "Unavailable",
    "Unreachable",
]
