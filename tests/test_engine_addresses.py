"""Which hosts and addresses may be reached."""

import httpx
import pytest

from engine.addresses import AllowList, is_public, meant_by
from engine.errors import FetchError


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://cdn.shop.com/x", True),
        ("https://CDN.Shop.com./x", True),
        ("https://cdn.shop.com:444/x", True),
        ("https://img.shop.org/x", True),
        ("https://a.b.shop.org/x", True),
        ("https://shop.org/x", False),
        ("https://evilshop.org/x", False),
        ("https://cdn.shop.com.evil.com/x", False),
        ("https://cdn.shop.com@evil.com/x", False),
        ("https://port.shop.com:8443/x", True),
        ("https://port.shop.com/x", False),
        ("https://bücher.example/x", True),
        ("http://127.0.0.1/x", False),
        ("http://2130706433/x", False),
    ],
)
def test_the_allow_list(url, allowed):
    hosts = AllowList(["cdn.shop.com", "*.shop.org", "port.shop.com:8443", "bücher.example"])
    if allowed:
        return hosts.check(httpx.URL(url))
    with pytest.raises(FetchError):
        hosts.check(httpx.URL(url))


@pytest.mark.parametrize(
    "address",
    (
        "127.0.0.1 10.1.2.3 192.168.0.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 240.0.0.1 ::1 :: fe80::1%eth0 fc00::1 ff02::1 "
        "::ffff:127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 2002:7f00:1:: ::127.0.0.1"
    ).split(),
)
def test_addresses_inside_are_refused(address):
    with pytest.raises(FetchError, match="private network"):
        AllowList(["shop.com"]).check_address("shop.com", address)
    listed = AllowList(["shop.com", "*", address, f"[{address}]", f"{address}:80", "localhost"], public_only=True)
    with pytest.raises(FetchError, match="no public address") as refusal:
        listed.check_address("shop.com", address)
    assert str(meant_by(address)) not in str(refusal.value)


def test_addresses_outside_or_listed_are_reached():
    hosts = AllowList(["shop.com", "10.0.0.5", "[fc00::5]"])
    for address in ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "10.0.0.5", "fc00::5", "64:ff9b::5db8:d822"):
        hosts.check_address("shop.com", address)


def test_what_an_address_means():
    assert str(meant_by("fe80::1%eth0")) == "fe80::1"
    assert str(meant_by("::ffff:10.0.0.1")) == "10.0.0.1"
    assert str(meant_by("64:ff9b::a00:1")) == "10.0.0.1"
    assert str(meant_by("2002:a00:1::")) == "10.0.0.1"
    assert is_public(meant_by("2002:5db8:d822::"))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://anywhere.example/x", True),
        ("http://anywhere.example/x", True),
        ("https://anywhere.example:443/x", True),
        ("https://anywhere.example:80/x", False),
        ("http://anywhere.example:22/x", False),
        ("http://odd.example:8080/x", True),
        ("http://odd.example:8081/x", False),
    ],
)
def test_a_star_admits_every_host_on_the_usual_ports(url, allowed):
    hosts = AllowList(["*", "odd.example:8080"], setting="SEMBLANCE_IMAGE_URL_HOSTS", public_only=True)
    if allowed:
        return hosts.check(httpx.URL(url))
    with pytest.raises(FetchError, match="SEMBLANCE_IMAGE_URL_HOSTS"):
        hosts.check(httpx.URL(url))
