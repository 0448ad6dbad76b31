"""Which hosts and addresses remote pictures may come from: the rules against requests into the operator's own network.

A host is judged by its name before anything is looked up, and by every address the name leads to before anything is connected.
Fetching itself is in `engine.fetch`.
"""

import ipaddress
from collections.abc import Iterable
from typing import TypeAlias

import httpx

from engine.errors import FetchError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

ANY = "*"
PORTS = {"http": 80, "https": 443}

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# Not assigned to any host, whatever the version of the ipaddress module says.
_NOBODYS = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))


class AllowList:
    """The hosts and addresses that may be reached.

    An entry is a host, `*.parent` for its subdomains, either with `:port`, an address, or `*` for every host. An address inside the
    operator's network is reached if the entries name it, or `localhost`; never with `public_only`.
    """

    def __init__(self, entries: Iterable[str], *, setting: str = "SEMBLANCE_FETCH_HOSTS", public_only: bool = False) -> None:
        self._entries = frozenset(entry.lower().rstrip(".") for entry in entries)
        self._addresses = frozenset(entry.strip("[]") for entry in self._entries)
        self._setting = setting
        self.public_only = public_only

    def __len__(self) -> int:
        return len(self._entries)

    def check(self, url: httpx.URL) -> None:
        """Raise `FetchError` unless the URL's host and port are allowed."""
        host = url.host.lower().rstrip(".")
        ascii_host = url.raw_host.decode("ascii").lower().rstrip(".")
        usual = PORTS.get(url.scheme, 0)
        port = url.port or usual
        names = {host, ascii_host, *(f"*.{parent}" for name in (host, ascii_host) for parent in _parents(name)), ANY}
        if any(f"{name}:{port}" in self._entries for name in names):
            return
        if not any(name in self._entries for name in names):
            raise FetchError(f"the host {host!r} is not allowed: add it to {self._setting} if its pictures are to be fetched")
        if self.public_only and port != usual:
            raise FetchError(
                f"port {port} of {host!r} is not allowed: add {f'{host}:{port}'!r} to {self._setting} if that is meant"
            )

    def check_address(self, host: str, address: str) -> None:
        """Raise `FetchError` for an address inside the operator's network that was not listed itself."""
        ip = meant_by(address)
        if self.public_only:
            if not is_public(ip):
                raise no_public_address(host)  # which address it is, is no business of whoever asks over HTTP
        elif not (self._named(ip) or is_public(ip)):
            raise FetchError(
                f"the host {host!r} is inside the private network ({ip}): add the address to {self._setting} if that is meant"
            )

    def _named(self, ip: Address) -> bool:
        if str(ip) in self._addresses or any(entry.startswith(f"{ip}:") for entry in self._addresses):
            return True
        return ip.is_loopback and any(entry.partition(":")[0] == "localhost" for entry in self._entries)


def meant_by(address: str) -> Address:
    """Read an address as the one it leads to: without zone, and taken out of the IPv6 forms that carry an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    carried = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
    return carried or ip


def is_public(ip: Address) -> bool:
    """Say whether an address belongs to the internet at large: global, unicast, assigned."""
    if any(ip in network for network in _NOBODYS if network.version == ip.version):
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def no_public_address(host: str) -> FetchError:
    """Say the same of a name that does not exist and of one inside, so that nobody can list the names inside by asking."""
    return FetchError(f"the host {host!r} has no public address: check it")


def _parents(host: str) -> list[str]:
    parts = host.split(".")
    return [".".join(parts[number:]) for number in range(1, len(parts))]
