"""What is said to Redis: connecting, and each command in one round trip.

Timeouts, failures and what they mean are in `engine.cache`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from engine.errors import ConfigurationError

KEY_PREFIX = b"semblance:2:"
"""Begins every Redis key; the number changes when the form of the values does."""

CLAIM = KEY_PREFIX + b"claim:"


def connection_options(timeout_s: float) -> dict[str, Any]:
    """Give what every client is made with, the asynchronous one too: short waits, and silence about itself."""
    return {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "protocol": 2, "driver_info": None}


def connect_lazily(url: SecretStr, timeout_s: float) -> Any:  # noqa: ANN401  redis is imported only when it is used
    """Make a client that connects at its first call, tries once and says nothing about itself."""
    from redis import Redis  # noqa: PLC0415  a sixth of a second that a shop without Redis need not wait for
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    try:
        return Redis.from_url(url.get_secret_value(), retry=Retry(NoBackoff(), 0), **connection_options(timeout_s))
    except (ValueError, TypeError):
        raise ConfigurationError(
            "SEMBLANCE_REDIS_URL is not a Redis address: write redis://HOST:PORT/0, rediss://... or unix:///PATH"
        ) from None


def fetch(client: Any, keys: Sequence[bytes]) -> list[bytes | None]:  # noqa: ANN401
    """Read values in one round trip; None where there is none, empty bytes where there is something else than bytes."""
    replies = client.mget([KEY_PREFIX + key for key in keys])
    if not isinstance(replies, list) or len(replies) != len(keys):
        raise ValueError(f"MGET of {len(keys)} keys answered with {type(replies).__name__}")
    return [reply if reply is None or isinstance(reply, bytes) else b"" for reply in replies]


def claim(client: Any, keys: Sequence[bytes], lease_ms: int) -> set[bytes]:  # noqa: ANN401
    """Mark keys as being worked on, in one round trip; returns those that were not marked."""
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.set(CLAIM + key, b"", nx=True, px=lease_ms)
    return {key for key, reply in zip(keys, pipeline.execute(raise_on_error=False), strict=True) if reply is True}


def store(client: Any, items: Mapping[bytes, bytes], ttl_ms: int) -> int:  # noqa: ANN401
    """Write items that are sealed in one round trip; returns how many the server refused, for example because it is full."""
    pipeline = client.pipeline(transaction=False)
    for key, value in items.items():
        pipeline.set(KEY_PREFIX + key, value, px=ttl_ms)
    return sum(reply is not True for reply in pipeline.execute(raise_on_error=False))
