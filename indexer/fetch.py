"""Picture locations become bytes: files beside the catalogue, and URLs of hosts the operator allows.

Files: a catalogue is written by its shopkeeper, who is trusted with the machine's own files, so `..` and absolute paths mean what
they say. A catalogue that came over HTTP is confined: to picture files below one folder, and to public addresses.

URLs: only of hosts in `SEMBLANCE_FETCH_HOSTS` (`cdn.shop.com`, `*.shop.com` for its subdomains, `cdn.shop.com:8443` for one port).
A private, loopback or link-local address is reached only if the address itself, or `localhost`, is in the list. What else holds
for them is in `engine.fetch`.
"""

import os
import re
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from engine.addresses import AllowList
from engine.config import Settings
from engine.encoders.images import read_bytes
from engine.errors import FetchError
from engine.fetch import FetchLimits, RemoteFetcher, is_remote

__all__ = ["Fetcher", "is_remote", "locate"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def locate(cell: str, base: Path) -> str:
    """Turn what a catalogue says into an absolute path or a URL; paths are relative to `base`."""
    if cell.startswith("//"):
        return f"https:{cell}"
    scheme = _SCHEME.match(cell)
    if scheme and scheme[1].lower() == "file":
        host, slash, path = cell[len("file:") :].removeprefix("//").partition("/")
        return unquote(slash + path) if host in ("", "localhost") else cell
    if (scheme and cell.startswith(f"{scheme[1]}:/")) or cell.startswith("data:"):
        return cell
    path = os.path.abspath(base / cell)
    if "\\" in cell and os.sep == "/" and not os.path.exists(path):
        return os.path.abspath(base / cell.replace("\\", "/"))
    return path


class Fetcher:
    """Reads pictures from files and allowed hosts; thread-safe. Close it, or use it as a context manager."""

    def __init__(self, settings: Settings, root: Path | None = None) -> None:
        """Read what the settings allow; with `root` only files below it, and only public addresses."""
        self._limit = settings.max_image_bytes
        self._root = None if root is None else root.resolve()
        limits = FetchLimits(self._limit, settings.fetch_timeout_s, settings.fetch_redirects)
        hosts = settings.fetch_hosts if root is None else (*settings.fetch_hosts, *settings.image_url_hosts)
        self._remote = RemoteFetcher(AllowList(hosts, public_only=root is not None), limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._remote.close()

    def read(self, location: str) -> tuple[bytes, str]:
        """Return a picture's bytes and where it is kept. Raises `InvalidImage` for files and `FetchError` for URLs."""
        if is_remote(location):
            return self._remote.fetch(location), location
        if location.startswith("data:") or "://" in location:
            raise FetchError(f"{location[:60]!r} is of a kind that is not fetched: use a file, http:// or https://")
        if self._root is not None and not Path(location).resolve().is_relative_to(self._root):
            raise FetchError(
                f"the picture {location[:200]!r} lies outside the import's folder: give the address of the picture instead"
            )
        return read_bytes(location, self._limit), location
