"""From exceptions to HTTP: one table of statuses, one form of answer (`application/problem+json`, RFC 9457).

Every answer that is not a success is made here, also those of the framework (404, 405, 413, 422). What a status means is decided
by the table and nowhere else. A 5xx answer carries an id to look up in the log, never the exception's text.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from engine import errors

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "semblance.request_id"
RETRY_AFTER_S = 1
SHOWN_CHARACTERS = 60

STATUSES: Mapping[type[errors.SemblanceError], int] = {
    errors.SemblanceError: 500,
    errors.ConfigurationError: 500,
    errors.MissingExtra: 500,
    errors.BundleError: 500,
    errors.ModelError: 500,
    errors.InvalidInput: 422,
    errors.InvalidDocument: 422,
    errors.InvalidQuery: 422,
    errors.InvalidFilter: 422,
    errors.InvalidImage: 422,
    errors.GenerationRefused: 422,
    errors.InvalidAudio: 422,
    errors.InvalidCatalogue: 422,
    errors.NotFound: 404,
    errors.CollectionNotFound: 404,
    errors.DocumentNotFound: 404,
    errors.Conflict: 409,
    errors.CollectionExists: 409,
    errors.EncoderMismatch: 409,
    errors.KeyCollision: 409,
    errors.GenerationCancelled: 409,
    errors.FetchError: 422,
    errors.StorageError: 507,
    errors.CollectionBusy: 503,
    errors.CollectionCorrupt: 500,
    errors.Unavailable: 503,
    errors.Overloaded: 503,
    errors.DeadlineExceeded: 504,
}

# What a caller is told instead of the text of an exception that concerns the operator.
PUBLIC_DETAILS: Mapping[int, str] = {
    500: "The server failed on this request. Its log has the reason under the request id.",
    503: f"The server cannot take this request now: try again in {RETRY_AFTER_S} s.",
    507: "The disk of the server refuses: it is full, cannot be written, or fails. The log has the reason under the request id.",
    504: "The request took longer than the server allows: ask for less, or try again.",
}


def status_of(error: errors.SemblanceError) -> int:
    """Look up the status of the nearest class in the table."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def problem(
    scope: Scope,
    status: int,
    detail: str | None = None,
    *,
    kind: str | None = None,
    headers: Mapping[str, str] | None = None,
    **members: Any,  # noqa: ANN401  extension members of RFC 9457
) -> Response:
    """Build a problem+json answer. `kind` is a class name; without one the problem is named for its status."""
    phrase = HTTPStatus(status).phrase
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind) if kind else phrase
    request_id = scope.get(REQUEST_ID, "")
    body = {
        "type": f"urn:semblance:problem:{words.lower().replace(' ', '-')}",
        "title": words.capitalize() if kind else phrase,
        "status": status,
        "detail": detail or PUBLIC_DETAILS.get(status, phrase),
        "instance": f"urn:semblance:request:{request_id}",
        "request_id": request_id,
        **members,
    }
    retry = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    return Response(orjson.dumps(body), status, headers={**retry, **(headers or {})}, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make `app` answer every exception as a problem."""
    app.add_exception_handler(errors.SemblanceError, _on_engine_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)


async def _on_engine_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.SemblanceError)  # noqa: S101  narrows the type; the table above registered this class
    status = status_of(error)
    kind = type(error).__name__
    if status >= 500:
        logger.log(
            logging.ERROR if status in (500, 507) else logging.WARNING,
            "request %s failed: %s: %s",
            request.scope.get(REQUEST_ID),
            kind,
            error,
            exc_info=error if status == 500 else None,
        )
        return problem(request.scope, status, kind=kind if status != 500 else None)
    members = {name: getattr(error, name) for name in ("column", "reason", "rule") if hasattr(error, name)}
    return problem(request.scope, status, _printable(str(error)), kind=kind, **members)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    phrase = HTTPStatus(error.status_code).phrase
    detail = error.detail if error.detail != phrase else _DETAILS.get(error.status_code)
    return problem(request.scope, error.status_code, detail, headers=error.headers)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    found = [{"location": _location(item), "message": message_of(item), "type": item["type"]} for item in error.errors()[:20]]
    if found[0]["location"] == "body" and found[0]["type"] != "missing" and "json" not in request.headers.get("content-type", ""):
        return problem(request.scope, 415, "Send the body as JSON, with the header `Content-Type: application/json`.")
    detail = "; ".join(f"{item['location']}: {item['message']}" for item in found[:5])
    return problem(request.scope, 422, detail, kind="InvalidRequest", errors=found)


def _location(item: Mapping[str, Any]) -> str:
    parts = item["loc"][:1] if item["type"] == "json_invalid" else item["loc"]  # the message names line and column
    return place_of(parts)


def place_of(parts: Sequence[str | int]) -> str:
    """Write where in a body something is wrong; names in <> are the schema's own and mean nothing to a client."""
    return _printable(".".join(str(part)[:100] for part in parts if not str(part).startswith("<")))


def message_of(item: Mapping[str, Any]) -> str:
    """Write what is wrong there."""
    context = item.get("ctx", {}).get("error")
    if item["type"] == "json_invalid" and context:
        return _printable(f"the body is not JSON: {context}")
    return _printable(item["msg"] + _seen(item))


def _seen(item: Mapping[str, Any]) -> str:
    """Name a plain value that breaks a rule of pydantic's; our own rules name it themselves, and an address may hold a secret."""
    value = item.get("input")
    if item["type"] not in _RULES or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, str) and _ADDRESS.search(value):
        return ""
    return f", not {_shortened(value)}"


def _shortened(value: str | float) -> str:
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return f"{value[:SHOWN_CHARACTERS]!r}... of {len(value)} characters"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a number of more than 77 digits"  # Python refuses to write the longest of them
    return repr(value)


def _printable(text: str) -> str:
    """Replace what UTF-8 cannot carry: half surrogate pairs of a hostile body."""
    return text.encode("utf-8", "replace").decode("utf-8")


_DETAILS: Mapping[int, str] = {
    404: "There is nothing at this address: `/docs` lists what there is.",
    405: "This address does not take that method: the header `Allow` lists those it takes.",
}

_ADDRESS = re.compile(r"://|^data:|^smb_")
_RULES = frozenset(
    "bool_parsing bool_type dict_type enum finite_number float_parsing float_type greater_than greater_than_equal int_from_float "
    "int_parsing int_parsing_size int_type less_than less_than_equal list_type literal_error model_attributes_type model_type "
    "string_pattern_mismatch string_too_long string_too_short string_type".split()
)
