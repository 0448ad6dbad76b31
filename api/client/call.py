"""What the server is asked, as values: what to send and how to read the answer. Both clients send them; nothing here does."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

from api.client.problems import ClientProblem

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file sent as a form, in the field `name`, beside the fields `form`; read anew at each attempt."""

    name: str
    content: bytes | Path
    form: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """One call: it can be sent several times; `read` makes its result of what the answer holds.

    The answer's body goes `into` a file if one is named, and `read` gets its path.
    """

    method: str
    path: str
    read: Callable[[Any], Result]
    json: Mapping[str, Any] | None = None
    params: Mapping[str, str | list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    attachment: Attachment | None = None
    into: Path | None = None


@dataclass(frozen=True, slots=True)
class Series(Generic[Result]):
    """Calls that follow one another: each result says the next call, or that there is none; `pause_s` passes in between."""

    first: Call[Result]
    then: Callable[[Result], Call[Result] | None]
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stream(Generic[Result]):
    """Server-sent events: `read` makes a result of a name and its data, `last` says that it ends the stream."""

    path: str
    read: Callable[[str, Any], Result]
    last: Callable[[Result], bool]


OnePlan: TypeAlias = Call[Result] | Series[Result]
"""What has one result: that of the call, or the last of the series."""

ManyPlan: TypeAlias = Series[Result] | Stream[Result]
"""What has several results, one after another."""


def write(method: str, path: str, read: Callable[[Any], Result], json: Mapping[str, Any] | None = None) -> Call[Result]:
    """Describe a write. One key for all attempts: however often it is sent, the server acts once."""
    return Call(method, path, read, json=json, headers={"Idempotency-Key": uuid.uuid4().hex})


def in_collection(collection: str, *more: str) -> str:
    """Write the address of a collection, or of something in it."""
    return "/".join(["/v1/collections", *map(segment, (collection, *more))])


def segment(name: str) -> str:
    """Encode a name as one step of a path; raises `ClientProblem` for those that would lead to another address.

    Whatever passes on a request may take `..` out of its path, also percent-encoded: a product's address becomes its collection's.
    """
    if name in ("", ".", ".."):
        raise ClientProblem(f"nothing can have the name {name!r} in an address: check the id, or the name of the collection")
    return quote(name, safe="")
