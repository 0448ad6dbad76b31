"""How both clients reach the server: address, key, timeouts, and the requests and answers of `httpx`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import httpx

from api.client.call import Call, Result, Stream
from api.client.problems import ClientProblem, Unreachable, problem_of
from api.client.results import content
from api.client.retrying import Outcome, Retries

USER_AGENT = "semblance-client"
SILENCE_S = 45.0  # of a stream: the server gives a sign of life every 15 seconds


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the server is and how to speak to it. `key` is an API key; `timeout_s` bounds each attempt."""

    url: str = "http://127.0.0.1:8000"
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 30.0
    retries: Retries = field(default_factory=Retries)

    def arguments(self) -> dict[str, Any]:
        """Give what `httpx.Client` and `httpx.AsyncClient` are built with."""
        headers = {"User-Agent": USER_AGENT} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        return {"base_url": self.url.rstrip("/"), "headers": headers, "timeout": httpx.Timeout(self.timeout_s)}

    def subscription(self, stream: Stream[Result]) -> dict[str, Any]:
        """Give what `httpx.Client.stream` is called with to follow a stream."""
        patience = httpx.Timeout(self.timeout_s, read=max(self.timeout_s, SILENCE_S))
        return {"method": "GET", "url": stream.path, "headers": {"Accept": "text/event-stream"}, "timeout": patience}


@contextmanager
def sent(call: Call[Result]) -> Iterator[dict[str, Any]]:
    """Lend what `httpx.Client.stream` is called with; a file to send is open meanwhile."""
    request = {"method": call.method, "url": call.path, "params": call.params, "headers": call.headers}
    attached = call.attachment
    if attached is None:
        yield {**request, "json": call.json}
    elif isinstance(attached.content, Path):
        with attached.content.open("rb") as file:
            yield {**request, "data": attached.form, "files": {attached.name: (attached.content.name, file)}}
    else:
        yield {**request, "data": attached.form, "files": {attached.name: (attached.name, attached.content)}}


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Lend the name of a file that becomes `path` once it is whole; raises `OSError` when it cannot be written."""
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def result_of(call: Call[Result], outcome: Outcome, url: str) -> Result:
    """Read the final outcome of a call to the server at `url`.

    Raises `Unreachable` when no answer came, the `Problem` that an answer tells of, and `ClientProblem` for one of another form.
    """
    if isinstance(outcome, httpx.TransportError) or not outcome.is_success:
        fail(call.method, f"{url}{call.path}", outcome)
    try:
        return call.read(call.into or content(outcome))
    except (ValueError, KeyError, TypeError) as error:
        raise ClientProblem(f"the answer of {outcome.url} is not of the form this client knows: {error}") from error


def fail(method: str, address: str, outcome: Outcome) -> NoReturn:
    """Raise what an outcome without a result is: `Unreachable`, or the `Problem` the server told."""
    if isinstance(outcome, httpx.Response):
        raise problem_of(outcome)
    reason = str(outcome) or type(outcome).__name__
    raise Unreachable(f"{method} {address} got no answer ({reason}): check the address and that the server runs") from outcome
