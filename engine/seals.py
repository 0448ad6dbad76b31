"""Cached values as bytes: a seal that shows a foreign or damaged one, a stamp that says how old it is and what it cost.

Here belongs the form of a value. Where values are kept is in `engine.cache`.
"""

import hashlib
import hmac
import math
import random
import struct
import time
from dataclasses import dataclass

_SEAL = struct.Struct("<B8s")
_SEAL_VERSION = 1
_STAMP = struct.Struct("<df")
STAMP_BYTES = _STAMP.size
_LONGEST_DRAW = 37.0
"""The greatest -log(1 - random()), whose 53 bits do not reach beyond 36.8."""


def sealed(key: bytes, value: bytes, secret: bytes = b"") -> bytes:
    """Put a digest over key and value before the value; with a secret of at most 64 bytes, one that nobody else can make."""
    return _SEAL.pack(_SEAL_VERSION, _digest(key, value, secret)) + value


def unsealed(key: bytes, reply: bytes, secret: bytes = b"") -> bytes | None:
    """Take the seal off; None for bytes that were not sealed under this key and secret. Compares in constant time."""
    seal, value = reply[: _SEAL.size], reply[_SEAL.size :]
    return value if hmac.compare_digest(seal, _SEAL.pack(_SEAL_VERSION, _digest(key, value, secret))) else None


def _digest(key: bytes, value: bytes, secret: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=8, key=hashlib.blake2b(key, digest_size=32, key=secret).digest()).digest()


@dataclass(frozen=True, slots=True)
class Stamped:
    """A value with the time it was made (seconds since 1970) and the seconds it took to make."""

    value: bytes
    made: float
    cost_s: float = 0.0

    def pack(self) -> bytes:
        """Write it as bytes."""
        return _STAMP.pack(self.made, self.cost_s) + self.value

    @classmethod
    def unpack(cls, data: bytes) -> "Stamped":
        """Read what `pack` wrote."""
        made, cost_s = _STAMP.unpack_from(data)
        return cls(data[_STAMP.size :], made, cost_s)

    def due(self, ttl_s: float, now: float | None = None) -> bool:
        """Say whether to make it anew: after its time, and by chance shortly before.

        The chance grows towards the end and with what the value costs, so that of many who ask one makes it anew early, while the
        others still have the old one ("Optimal Probabilistic Cache Stampede Prevention", Vattani et al. 2015; XFetch with beta 1).
        """
        left = self.made + ttl_s - (time.time() if now is None else now)
        return left <= -self.cost_s * math.log(1.0 - random.random())  # noqa: S311  no secret

    def may_be_due(self, ttl_s: float, now: float | None = None) -> bool:
        """Say whether `due` could say so: for whoever would leave the draw to somebody else."""
        left = self.made + ttl_s - (time.time() if now is None else now)
        return left <= _LONGEST_DRAW * self.cost_s
