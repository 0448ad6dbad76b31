"""Whether the model hub answers, asked before its client is: that one tries again and again for up to a minute.

Here belongs nothing but that question. What is loaded from the hub is in `engine.encoders.openclip` and `.huggingface`.
"""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

logger = logging.getLogger(__name__)

PATIENCE_S = 3.0


@contextmanager
def offline_unless_reachable() -> Iterator[None]:
    """Let the hub's client use what it has on disk alone, at once, while the hub cannot be connected within `PATIENCE_S`."""
    from huggingface_hub import constants  # noqa: PLC0415  an extra

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def reachable(address: str) -> bool:
    """Say whether the host of a URL, or the proxy in front of it, accepts a connection."""
    scheme = urlsplit(address).scheme
    target = urlsplit(getproxies().get(scheme) or address)
    port = target.port or (80 if target.scheme == "http" else 443)
    try:
        socket.create_connection((target.hostname or "", port), timeout=PATIENCE_S).close()
    except OSError as error:
        logger.warning("the model hub %s cannot be reached (%s): only models already on disk can be loaded", address, error)
        return False
    return True
