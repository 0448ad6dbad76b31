"""What can go wrong with a call, as exceptions that mirror the server's `application/problem+json` answers.

ClientProblem             anything of the below
├── Unreachable           no answer came: refused, cut off, or too late
├── Unfinished            a job has not ended in the time it was waited for
└── Problem               the server answered with an error
    ├── InvalidRequest    400, 413, 415, 422: the request cannot be served as it is; `errors` names the places
    ├── KeyRefused        401, 403: no key, an unknown one, or one that may not do this
    ├── NotFound          404: no such collection, product or address
    ├── Conflict          409: it exists already, or was built with another encoder
    ├── TooManyRequests   429: `retry_after_s` says when to come again
    ├── Unavailable       503, 504, and 502 of a proxy: the server is busy or starting
    └── ServerFailed      any other status: its log has the reason under `request_id`
"""

from collections.abc import Mapping
from typing import Any

import httpx

from api.client.retrying import retry_after_s

MEDIA_TYPE = "application/problem+json"


class ClientProblem(Exception):
    """A call that brought no result."""


class Unreachable(ClientProblem):
    """No answer came from the server: refused, cut off, or too late."""


class Unfinished(ClientProblem):
    """A job has not ended in the time it was waited for."""


class Problem(ClientProblem):
    """An error answer of the server, with the members of its problem document.

    `type` is its URN, `errors` lists what is wrong where, `column` is the place in a filter, `retry_after_s` what the server asked
    to wait. Whatever else the document holds is in `members`.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.members = _members(response)
        self.status = response.status_code
        self.type = str(self.members.get("type", "about:blank"))
        self.title = str(self.members.get("title") or response.reason_phrase)
        self.detail = str(self.members.get("detail") or _without_problem(response))
        self.request_id = str(self.members.get("request_id") or response.headers.get("x-request-id", ""))
        self.errors: list[dict[str, str]] = self.members.get("errors", [])
        self.column: int | None = self.members.get("column")
        self.retry_after_s = retry_after_s(response)
        super().__init__(f"{self.title} ({self.status}): {self.detail}")


class InvalidRequest(Problem):
    """The request cannot be served as it is (400, 413, 415, 422)."""


class KeyRefused(Problem):
    """The key is missing, unknown, or may not do this (401, 403)."""


class NotFound(Problem):
    """There is no such collection, product or address (404)."""


class Conflict(Problem):
    """It is there already, or was built with another encoder (409)."""


class TooManyRequests(Problem):
    """The key asks too often (429)."""


class Unavailable(Problem):
    """The server is busy, starting, or took too long (502, 503, 504)."""


class ServerFailed(Problem):
    """The server failed on the request; its log has the reason."""


_KINDS: Mapping[int, type[Problem]] = {
    400: InvalidRequest,
    401: KeyRefused,
    403: KeyRefused,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def problem_of(response: httpx.Response) -> Problem:
    """Make the exception for an error answer whose body has been read."""
    return _KINDS.get(response.status_code, ServerFailed)(response)


def _members(response: httpx.Response) -> dict[str, Any]:
    if response.headers.get("content-type", "").partition(";")[0] != MEDIA_TYPE:
        return {}
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _without_problem(response: httpx.Response) -> str:
    kind = response.headers.get("content-type", "nothing")
    return f"{response.url} answered with {kind}, which is no problem document: check that the address is a Semblance server"
