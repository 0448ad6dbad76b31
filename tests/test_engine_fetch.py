"""No request reaches a private address, whatever is said about where it goes."""

import socket
import ssl
from contextlib import suppress

import httpcore
import pytest

from engine.addresses import AllowList
from engine.errors import FetchError
from engine.fetch import CheckedNetwork, FetchLimits, RemoteFetcher

PUBLIC = "93.184.216.34"
PICTURE = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npicture"


class Internet(httpcore.NetworkBackend):
    """Whoever is connected answers with the next of `answers`; remembers the addresses that were connected."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.connected = []
        self.sent = []

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        self.connected.append((host, port))
        return Wire(self)


class Wire(httpcore.NetworkStream):
    def __init__(self, internet):
        self._internet = internet
        self._incoming = None

    def write(self, buffer, timeout=None):
        self._internet.sent.append(buffer)

    def read(self, max_bytes, timeout=None):
        if self._incoming is None:
            self._incoming = self._internet.answers.pop(0)
        data, self._incoming = self._incoming[:max_bytes], self._incoming[max_bytes:]
        return data

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        assert ssl_context.verify_mode == ssl.CERT_REQUIRED
        assert ssl_context.check_hostname
        self._internet.sent.append(b"TLS " + server_hostname.encode())
        return self

    def close(self):
        pass

    def get_extra_info(self, info):
        return None


class Names:
    """A resolver whose answer to a name changes with every question; numbers are read as the system reads them."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}

    def __call__(self, host, port):
        if host in self.answers:
            found = self.answers[host].pop(0) if len(self.answers[host]) > 1 else self.answers[host][0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found.split()]
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)


def fetcher(internet, names, *hosts, redirects=3):
    allowed = AllowList(hosts or ["*"], setting="SEMBLANCE_IMAGE_URL_HOSTS", public_only=True)
    network = CheckedNetwork(allowed, resolve=names, plain=internet)
    return RemoteFetcher(allowed, FetchLimits(1000, 1.0, redirects), network=network)


def redirect(target):
    return b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\nLocation: " + target.encode() + b"\r\n\r\n"


def test_a_public_host_is_reached_at_the_address_that_was_checked():
    internet = Internet([PICTURE])
    with fetcher(internet, Names(shop_example=[PUBLIC])) as fetch:
        assert fetch.fetch("http://shop.example/a.jpg") == b"picture"
    assert internet.connected == [(PUBLIC, 80)]
    assert b"Host: shop.example\r\n" in internet.sent[0]


def test_the_name_is_what_the_certificate_must_show():
    internet = Internet([PICTURE])
    with fetcher(internet, Names(shop_example=[PUBLIC])) as fetch:
        assert fetch.fetch("https://shop.example/a.jpg") == b"picture"
    assert (internet.connected, internet.sent[0]) == ([(PUBLIC, 443)], b"TLS shop.example")


INSIDE = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://10.0.0.1/",
    "http://0xa.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://100.64.0.1/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://user:pw@127.0.0.1/",
    "http://shop.example@127.0.0.1/",
    "http://shop.example:80@127.0.0.1/",
    "http://shop.example%40@127.0.0.1/",
    "http://127.0.0.1#@shop.example/",
    "http://127.0.0.1?@shop.example/",
    "http://127.0.0.1\\@shop.example/",
    "http://shop.example\\@127.0.0.1/",
    "http://１２７.0.0.1/",
    "http://①②⑦.0.0.1/",
    "http://127。0。0。1/",
    "http://127.0.0.1./",
    "http:///127.0.0.1/",
    "http://127.0.0.1:80:80/",
    "http://127.0.0.1%00.shop.example/",
    "http://127.0.0.1\r\nHost: shop.example/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://inside.example/",
    "http://both.example/",
    "http://mapped.example/",
]


@pytest.mark.parametrize("url", INSIDE)
def test_nothing_inside_is_connected(url):
    internet = Internet([PICTURE])
    names = Names(
        localhost=["127.0.0.1"],
        inside_example=["10.0.0.1"],
        both_example=[f"{PUBLIC} 10.0.0.1"],
        mapped_example=["::ffff:192.168.0.1"],
    )
    with fetcher(internet, names, "*", "localhost", "127.0.0.1", "10.0.0.1", "[::1]") as fetch, pytest.raises(FetchError):
        fetch.fetch(url)
    assert internet.connected == []


@pytest.mark.parametrize("url", [url for url in INSIDE if url.isascii() and url.isprintable()])  # what can stand in a header
def test_no_redirect_leads_inside(url):
    internet = Internet([redirect(url), PICTURE])
    names = Names(
        start_example=[PUBLIC],
        localhost=["127.0.0.1"],
        inside_example=["10.0.0.1"],
        both_example=[f"{PUBLIC} 10.0.0.1"],
        mapped_example=["::ffff:192.168.0.1"],
    )
    with fetcher(internet, names) as fetch, suppress(FetchError):
        assert fetch.fetch("http://start.example/") == b"picture"  # some are read as a path on the same host
    assert set(internet.connected) == {(PUBLIC, 80)}


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://shop.example/", "gopher://shop.example/", "data:image/png;base64,AA", "javascript:1"],
)
def test_other_schemes_are_not_followed(target):
    internet = Internet([redirect(target)])
    with fetcher(internet, Names(shop_example=[PUBLIC]), redirects=0) as fetch, pytest.raises(FetchError):
        fetch.fetch(target)
    assert internet.connected == []
    with fetcher(internet, Names(shop_example=[PUBLIC])) as fetch, pytest.raises(FetchError):
        fetch.fetch("http://shop.example/")
    assert internet.connected == [(PUBLIC, 80)]


def test_a_name_that_changes_its_mind_is_asked_once_per_connection_and_each_answer_is_checked():
    internet = Internet([redirect("http://rebind.example/second"), PICTURE])
    names = Names(rebind_example=[PUBLIC, "127.0.0.1"])
    with fetcher(internet, names) as fetch, pytest.raises(FetchError, match="no public address"):
        fetch.fetch("http://rebind.example/first")
    assert internet.connected == [(PUBLIC, 80)]


def test_a_name_is_not_asked_again_between_check_and_connection():
    internet = Internet([PICTURE])
    names = Names(rebind_example=[PUBLIC, "127.0.0.1"])
    with fetcher(internet, names) as fetch:
        assert fetch.fetch("http://rebind.example/") == b"picture"
    assert internet.connected == [(PUBLIC, 80)]


def test_a_name_inside_and_one_that_is_none_are_told_apart_by_nobody():
    internet = Internet([])

    def resolve(host, port):
        if host == "payroll.corp.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", port))]
        raise socket.gaierror(-2, "Name or service not known")

    said = []
    for host in ("payroll.corp.example", "no.corp.example"):
        with fetcher(internet, resolve) as fetch, pytest.raises(FetchError) as refusal:
            fetch.fetch(f"http://{host}/")
        said.append(str(refusal.value).replace(host, "HOST"))
    assert said[0] == said[1]


def test_a_redirect_that_is_refused_is_told_as_one():
    internet = Internet([redirect("http://other.example/"), PICTURE])
    with fetcher(internet, Names(shop_example=[PUBLIC], other_example=[PUBLIC]), "shop.example") as fetch:
        with pytest.raises(FetchError, match=r"'http://shop\.example/a' redirects: the host 'other\.example' is not allowed"):
            fetch.fetch("http://shop.example/a")


def test_redirects_leave_the_allow_list_no_more_than_the_first_request():
    internet = Internet([redirect("http://other.example/"), PICTURE])
    names = Names(shop_example=[PUBLIC], other_example=[PUBLIC])
    with fetcher(internet, names, "shop.example") as fetch, pytest.raises(FetchError, match="SEMBLANCE_IMAGE_URL_HOSTS"):
        fetch.fetch("http://shop.example/")
    assert len(internet.connected) == 1


def test_odd_ports_of_the_internet_are_not_spoken_to():
    internet = Internet([PICTURE])
    for port in (22, 25, 6379, 8000):
        with fetcher(internet, Names(shop_example=[PUBLIC])) as fetch, pytest.raises(FetchError, match="port"):
            fetch.fetch(f"http://shop.example:{port}/")
    assert internet.connected == []


def test_credentials_in_a_url_are_not_sent():
    internet = Internet([PICTURE])
    with fetcher(internet, Names(shop_example=[PUBLIC])) as fetch:
        fetch.fetch("http://me:secret@shop.example/")
    assert b"secret" not in b"".join(internet.sent)
    assert b"authorization" not in b"".join(internet.sent).lower()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\x01\x02",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000,
    ],
)
def test_an_answer_that_is_none_is_an_error_of_fetching(answer):
    with fetcher(Internet([answer, b""]), Names(shop_example=[PUBLIC])) as fetch, pytest.raises(FetchError):
        fetch.fetch("http://shop.example/")
