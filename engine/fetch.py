"""Pictures behind URLs become bytes, within rules: for catalogues and for HTTP clients alike.

Only http and https, only hosts of an allow-list. Every redirect is checked again. All addresses of a host are checked
after the name was looked up and before anything is connected, and the connection goes to the checked address, so a name cannot
change its mind in between. One deadline covers looking up, connecting, redirects and the whole body; the size limit is enforced
while bytes arrive. Proxies of the environment, cookies, credentials in URLs and compression are not used.
"""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import httpcore
import httpx

from engine.addresses import PORTS, AllowList, no_public_address
from engine.errors import FetchError, InvalidImage

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = [(b"User-Agent", b"semblance"), (b"Accept", b"image/*"), (b"Accept-Encoding", b"identity")]

Resolve = Callable[[str, int], "list[Any]"]


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """The most one picture may cost: bytes, seconds for everything together, redirects."""

    max_bytes: int
    timeout_s: float
    redirects: int


class RemoteFetcher:
    """Fetches pictures of allowed hosts; thread-safe. Close it, or use it as a context manager."""

    def __init__(self, allowed: AllowList, limits: FetchLimits, *, network: "CheckedNetwork | None" = None) -> None:
        self._allowed = allowed
        self._limits = limits
        self._network = network or CheckedNetwork(allowed)
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls() if allowed else None,
            max_connections=64,
            max_keepalive_connections=32,
            keepalive_expiry=30.0,
            network_backend=self._network,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def fetch(self, url: str) -> bytes:
        """Fetch a picture; raises `FetchError`, or `InvalidImage` for an empty one."""
        trail = [url]
        try:
            return self._follow(trail)
        except FetchError as error:
            if len(trail) == 1:
                raise
            raise FetchError(f"{shown(url)} redirects: {error}") from None

    def _follow(self, trail: list[str]) -> bytes:
        """Fetch the last of `trail`, and what it redirects to, which is added."""
        timeout = self._limits.timeout_s
        self._network.clock.deadline = time.monotonic() + timeout
        try:
            for _ in range(self._limits.redirects + 1):
                url = trail[-1]
                answer = self._get(url)
                if isinstance(answer, bytes):
                    return answer
                trail.append(answer)
        except (httpcore.TimeoutException, TimeoutError):
            raise FetchError(f"{shown(url)} did not arrive within {timeout:g} s: try again later") from None
        except socket.gaierror as error:
            if self._allowed.public_only:
                raise no_public_address(_host(url)) from None
            raise _unreachable(url, error) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError, UnicodeError) as error:
            raise _unreachable(url, error) from None
        raise FetchError(f"{shown(url)} redirects more than {self._limits.redirects} times: give the final address")

    def _get(self, url: str) -> bytes | str:
        """Fetch one URL: its body, or the URL it redirects to."""
        target = _checked_url(url)
        self._allowed.check(target)
        request_url = httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), self._limits.timeout_s)
        headers = [(b"Host", target.netloc), *_HEADERS]
        with self._pool.stream("GET", request_url, headers=headers, extensions={"timeout": timeout}) as response:
            answered = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS and answered.get(b"location"):
                return _next(url, answered[b"location"].decode("latin-1"))
            if response.status != 200:
                raise FetchError(f"{shown(url)} answered {response.status}: check the address")
            return self._body(url, answered.get(b"content-length", b""), response.iter_stream())

    def _body(self, url: str, length: bytes, chunks: Iterable[bytes]) -> bytes:
        limit = self._limits.max_bytes
        too_large = FetchError(
            f"{shown(url)} is larger than {limit / 1e6:g} MB: use a smaller picture, or raise SEMBLANCE_MAX_IMAGE_MB"
        )
        if length.isdigit() and (len(length) > 18 or int(length) > limit):
            raise too_large
        data = bytearray()
        for chunk in chunks:
            data += chunk
            if len(data) > limit:
                raise too_large
        if not data:
            raise InvalidImage(f"{shown(url)} is empty (0 bytes): upload the picture again", reason="empty")
        return bytes(data)


@cache
def _tls() -> ssl.SSLContext:
    """Read the machine's trusted certificates once: that takes longer than a small picture."""
    return ssl.create_default_context()


def is_remote(location: str) -> bool:
    """Say whether a location must be fetched."""
    return location.lower().startswith(("http://", "https://"))


def shown(url: str) -> str:
    """Shorten a URL for a message, without the password it may carry."""
    return repr(re.sub(r"//[^/@]*@", "//", url)[:120])


def _unreachable(url: str, error: Exception) -> FetchError:
    return FetchError(f"{shown(url)} could not be reached ({error or type(error).__name__}): try again later")


def _next(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise FetchError(f"{shown(url)} redirects to no valid address ({error}): give the final address") from None


def _host(url: str) -> str:
    return httpx.URL(url).host


def _checked_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise FetchError(f"{shown(url)} is no valid address ({error})") from None
    if parsed.scheme not in PORTS or not parsed.host:
        raise FetchError(f"{shown(url)} is not fetched: only http:// and https:// are")
    return parsed


def _look_up(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class CheckedNetwork(httpcore.NetworkBackend):
    """Connects to addresses that have been checked, and never waits beyond the deadline of the thread's request.

    `resolve` answers as `socket.getaddrinfo`; `plain` is who connects.
    """

    def __init__(self, allowed: AllowList, *, resolve: Resolve = _look_up, plain: httpcore.NetworkBackend | None = None) -> None:
        self.clock = threading.local()
        self._allowed = allowed
        self._resolve = resolve
        self._plain = plain or httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve, check every address, and connect to the first that answers."""
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in self._resolve(host, port)))
        for address in addresses:
            self._allowed.check_address(host, address)
        for number, address in enumerate(addresses, start=1):
            try:
                stream = self._plain.connect_tcp(address, port, _remaining(self.clock), local_address, socket_options)
                return _DeadlineStream(stream, self.clock)
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
