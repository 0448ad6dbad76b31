"""Picture locations become bytes: files beside the catalogue, and URLs of hosts the operator allows.

Files: a catalogue is written by its shopkeeper, who is trusted with the machine's own files, so `..` and absolute paths mean what
they say. (Catalogues that arrive over HTTP are not read here.)

URLs: only http and https, only hosts in `SEMBLANCE_FETCH_HOSTS` (`cdn.shop.com`, `*.shop.com` for its subdomains,
`cdn.shop.com:8443` for one port). Every redirect is checked again. A host's addresses must all be public; a private,
loopback or link-local one is reached only if the address itself, or `localhost`, is in the list. The connection
goes to the checked address, so a name cannot change its mind in between. One deadline covers connecting, redirects and the
whole body; the size limit is enforced while bytes arrive. Proxies of the environment, cookies and compression are not used.
"""

import ipaddress
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urljoin

import httpcore
import httpx

from engine.config import Settings
from engine.encoders.images import read_bytes
from engine.errors import FetchError, InvalidImage

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = [(b"User-Agent", b"semblance-indexer"), (b"Accept", b"image/*"), (b"Accept-Encoding", b"identity")]


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


def is_remote(location: str) -> bool:
    """Say whether a location must be fetched."""
    return location.lower().startswith(("http://", "https://"))


class Fetcher:
    """Reads pictures from files and allowed hosts; thread-safe. Close it, or use it as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.max_image_bytes
        self._timeout = settings.fetch_timeout_s
        self._redirects = settings.fetch_redirects
        self._allowed = AllowList(settings.fetch_hosts)
        self._clock = threading.local()
        backend = _CheckedBackend(self._allowed, self._clock)
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context() if settings.fetch_hosts else None,
            max_connections=64,
            max_keepalive_connections=32,
            keepalive_expiry=30.0,
            network_backend=backend,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def read(self, location: str) -> tuple[bytes, str]:
        """Return a picture's bytes and where it is kept. Raises `InvalidImage` for files and `FetchError` for URLs."""
        if is_remote(location):
            return self._fetch(location), location
        if location.startswith("data:") or "://" in location:
            raise FetchError(f"{location[:60]!r} is of a kind that is not fetched: use a file, http:// or https://")
        return read_bytes(location, self._limit), location

    def _fetch(self, url: str) -> bytes:
        self._clock.deadline = time.monotonic() + self._timeout
        try:
            for _ in range(self._redirects + 1):
                answer = self._get(url)
                if isinstance(answer, bytes):
                    return answer
                url = answer
        except (httpcore.TimeoutException, TimeoutError):
            raise FetchError(f"{shown(url)} did not arrive within {self._timeout:g} s: try again later") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise FetchError(f"{shown(url)} could not be reached ({error or type(error).__name__}): try again later") from None
        raise FetchError(f"{shown(url)} redirects more than {self._redirects} times: give the final address")

    def _get(self, url: str) -> bytes | str:
        """Fetch one URL: its body, or the URL it redirects to."""
        target = _checked_url(url)
        self._allowed.check(target)
        host = target.netloc
        request_url = httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout)
        with self._pool.stream(
            "GET", request_url, headers=[(b"Host", host), *_HEADERS], extensions={"timeout": timeout}
        ) as response:
            headers = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS and headers.get(b"location"):
                return urljoin(url, headers[b"location"].decode("latin-1"))
            if response.status != 200:
                raise FetchError(f"{shown(url)} answered {response.status}: check the address")
            return self._body(url, headers.get(b"content-length", b""), response.iter_stream())

    def _body(self, url: str, length: bytes, chunks: Iterable[bytes]) -> bytes:
        too_large = FetchError(
            f"{shown(url)} is larger than {self._limit / 1e6:g} MB: use a smaller picture, or raise SEMBLANCE_MAX_IMAGE_MB"
        )
        if length.isdigit() and int(length) > self._limit:
            raise too_large
        data = bytearray()
        for chunk in chunks:
            data += chunk
            if len(data) > self._limit:
                raise too_large
        if not data:
            raise InvalidImage(f"{shown(url)} is empty (0 bytes): upload the picture again", reason="empty")
        return bytes(data)


class AllowList:
    """The hosts and addresses that may be reached."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = frozenset(entry.lower().rstrip(".") for entry in entries)
        self._addresses = frozenset(entry.strip("[]") for entry in self._entries)

    def check(self, url: httpx.URL) -> None:
        """Raise `FetchError` unless the URL's host is allowed."""
        host = url.host.lower().rstrip(".")
        ascii_host = url.raw_host.decode("ascii").lower().rstrip(".")
        port = url.port or (443 if url.scheme == "https" else 80)
        names = {host, ascii_host, *(f"*.{parent}" for name in (host, ascii_host) for parent in _parents(name))}
        if not any(name in self._entries or f"{name}:{port}" in self._entries for name in names):
            raise FetchError(f"the host {host!r} is not allowed: add it to SEMBLANCE_FETCH_HOSTS if its pictures are to be fetched")

    def check_address(self, host: str, address: str) -> None:
        """Raise `FetchError` for an address inside the operator's network that was not listed itself."""
        ip = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address):
            ip = ip.ipv4_mapped or ip.sixtofour or (_embedded(ip) if ip in _NAT64 else ip)
        if str(ip) in self._addresses or (ip.is_loopback and self._listed("localhost")):
            return
        if any(entry.startswith(f"{ip}:") for entry in self._addresses):
            return
        if not ip.is_global or ip.is_multicast or ip.is_reserved:
            raise FetchError(
                f"the host {host!r} is inside the private network ({ip}): add the address to SEMBLANCE_FETCH_HOSTS if that is meant"
            )

    def _listed(self, name: str) -> bool:
        return any(entry.partition(":")[0] == name for entry in self._entries)


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)


def _parents(host: str) -> list[str]:
    parts = host.split(".")
    return [".".join(parts[number:]) for number in range(1, len(parts))]


def _checked_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise FetchError(f"{shown(url)} is no valid address ({error})") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise FetchError(f"{shown(url)} is not fetched: only http:// and https:// are")
    return parsed


def shown(url: str) -> str:
    """Shorten a URL for a message, without the password it may carry."""
    return repr(re.sub(r"//[^/@]*@", "//", url)[:120])


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to addresses that have been checked, and never waits beyond the deadline of the thread's request."""

    def __init__(self, allowed: AllowList, clock: threading.local) -> None:
        self._allowed = allowed
        self._clock = clock
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve, check every address, and connect to the first that answers."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            self._allowed.check_address(host, address)
        for number, address in enumerate(addresses, start=1):
            try:
                stream = self._plain.connect_tcp(address, port, _remaining(self._clock), local_address, socket_options)
                return _DeadlineStream(stream, self._clock)
            except httpcore.ConnectError:
                if number == len(addresses):
                    raise
        raise httpcore.ConnectError(f"{host} has no address")


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, clock: threading.local) -> None:
        self._stream = stream
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(self._clock))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(self._clock))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, _remaining(self._clock)), self._clock)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _remaining(clock: threading.local) -> float:
    left = float(clock.deadline) - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("deadline")
    return left
