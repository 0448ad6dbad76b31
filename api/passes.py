"""Passes to pictures: a browser's `<img>` cannot send a key, so the addresses in answers carry a signature instead.

A pass opens one picture for one to two days and nothing else. It changes once a day, so that browsers can keep pictures.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Hashable
from contextvars import ContextVar

DAY_S = 86_400
PARAMETER = "pass"

_SIGNER: ContextVar["PicturePasses | None"] = ContextVar("picture_passes", default=None)


class PicturePasses:
    """Signs the paths of pictures with the secret of a data folder."""

    def __init__(self, secret: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock

    def issue(self, path: str) -> str:
        """Write the pass for a decoded path."""
        last_day = int(self._clock() // DAY_S) + 1
        return f"{last_day}.{self._signature(path, last_day)}"

    def signer(self) -> tuple["PicturePasses", int]:
        """Name what its passes depend on besides their paths: whose secret, and which day."""
        return self, int(self._clock() // DAY_S)

    def accepts(self, path: str, given: str) -> bool:
        """Say whether `given` is a pass to `path` that is still good. Compares in constant time."""
        day, _, signature = given.partition(".")
        if not (day.isascii() and day.isdigit() and len(day) < 9 and signature.isascii()):
            return False
        same = hmac.compare_digest(self._signature(path, int(day)), signature)
        return same and int(self._clock() // DAY_S) <= int(day)

    def _signature(self, path: str, day: int) -> str:
        return hashlib.blake2b(f"{day}:{path}".encode("utf-8", "replace"), digest_size=16, key=self._secret).hexdigest()


def sign_answers_with(passes: PicturePasses) -> None:
    """Let the addresses of pictures in the answer to this request carry passes."""
    _SIGNER.set(passes)


def with_pass(address: str, path: str) -> str:
    """Add a pass to the address of a picture whose decoded path is `path`, where this server asks for keys."""
    passes = _SIGNER.get()
    return address if passes is None else f"{address}?{PARAMETER}={passes.issue(path)}"


def signer() -> Hashable:
    """Name what the passes of this request depend on besides their paths: answers with equal ones carry equal addresses."""
    passes = _SIGNER.get()
    return None if passes is None else passes.signer()
