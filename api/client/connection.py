"""How both clients reach the server: address, key, timeouts, and the requests and answers of `httpx`."""

from dataclasses import dataclass, field
from typing import Any

import httpx

from api.client.calls import Call, Result
from api.client.problems import ClientProblem, Unreachable, problem_of
from api.client.results import content
from api.client.retrying import Outcome, Retries

USER_AGENT = "semblance-client"


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


def sent(call: Call[Result]) -> dict[str, Any]:
    """Give what `httpx.Client.request` is called with."""
    return {"method": call.method, "url": call.path, "json": call.json, "params": call.params, "headers": call.headers}


def result_of(call: Call[Result], outcome: Outcome, url: str) -> Result:
    """Read the final outcome of a call to the server at `url`.

    Raises `Unreachable` when no answer came, the `Problem` that an answer tells of, and `ClientProblem` for one of another form.
    """
    if isinstance(outcome, httpx.TransportError):
        reason = str(outcome) or type(outcome).__name__
        raise Unreachable(
            f"{call.method} {url}{call.path} got no answer ({reason}): check the address and that the server runs"
        ) from outcome
    if not outcome.is_success:
        raise problem_of(outcome)
    try:
        return call.read(content(outcome))
    except (ValueError, KeyError, TypeError) as error:
        raise ClientProblem(f"the answer of {outcome.url} is not of the form this client knows: {error}") from error
