"""When a call is made again, and after how long. No waiting and no HTTP happens here.

Every call of this client can safely be repeated: searches change nothing, and writes carry an `Idempotency-Key`, under which the
server acts once.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeAlias

import httpx

RETRIED = frozenset({408, 429, 502, 503, 504})
Outcome: TypeAlias = httpx.Response | httpx.TransportError
"""What became of one attempt: an answer of any status, or why none came."""

CUT_OFF = "the answer was cut off"
UNDER_WAY = 409  # with Retry-After: the first of two equal writes has not been answered yet


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently to try: `attempts` in all, waiting about `base_s`, twice that, ... up to `max_s` in between.

    A server's `Retry-After` is waited out in full; one longer than `max_s` is not waited for: the call fails and says so. Waits are
    drawn from the upper half of the stated time, so that clients that failed together do not come back together.
    """

    attempts: int = 4
    base_s: float = 0.2
    max_s: float = 20.0
    random: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.base_s <= self.max_s:
            raise ValueError(f"{self} cannot be: give attempts >= 1 and 0 <= base_s <= max_s")

    def wait_s(self, attempt: int, outcome: Outcome) -> float | None:
        """Say how long to wait after the `attempt`-th outcome (from 1) before trying again; None: this one is final."""
        if attempt >= self.attempts or not _worth_another_try(outcome):
            return None
        asked = retry_after_s(outcome) if isinstance(outcome, httpx.Response) else None
        backoff = min(self.max_s, self.base_s * 2.0 ** (attempt - 1)) * (1 + self.random()) / 2
        if asked is None:
            return backoff
        return None if asked > self.max_s else max(asked, backoff)


def retry_after_s(response: httpx.Response) -> float | None:
    """Read `Retry-After`: seconds or an HTTP date; None when there is none that can be read."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _worth_another_try(outcome: Outcome) -> bool:
    if isinstance(outcome, httpx.TransportError):
        return not isinstance(outcome, httpx.UnsupportedProtocol)  # a mistyped address stays one
    return outcome.status_code in RETRIED or (outcome.status_code == UNDER_WAY and "retry-after" in outcome.headers)
