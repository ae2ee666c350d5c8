"""Fetching images by URL, and the URLs that are refused."""

from __future__ import annotations

import itertools
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from llama4sdk import settings
from llama4sdk.errors import ConfigurationError, InvalidRequestError
from llama4sdk.llama4.images.fetching import Limits, fetch

PUBLIC = "93.184.216.34"
PRIVATE = (
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "ff02::1",
)  # fmt: skip


class Web(httpx.BaseTransport):
    """A web of two hosts: ``pages`` by URL, and the requests received."""

    def __init__(self, pages: Mapping[str, httpx.Response]) -> None:
        self.pages = pages
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer by the Host header, as servers do."""
        self.asked.append(request)
        return self.pages[f"https://{request.headers['Host']}{request.url.raw_path.decode()}"]


def page() -> httpx.Response:
    """A picture that is sent in chunks."""
    return httpx.Response(200, stream=httpx.ByteStream(b"png"))


def resolve(host: str, port: int) -> list[str]:
    """Resolve ``inside`` to a private address, all other hosts to a public one."""
    return ["192.168.1.7"] if host == "inside" else [PUBLIC]


def test_an_image_is_fetched_from_the_address_that_was_checked() -> None:
    """The connection goes to the checked address, under the host's own name; nothing else is revealed."""
    web = Web({"https://a.example/x.png?k=1": page()})
    assert fetch("https://a.example/x.png?k=1", resolve=resolve, transport=web) == b"png"
    (request,) = web.asked
    assert request.url.host == PUBLIC
    assert request.headers["Host"] == "a.example"
    assert request.extensions["sni_hostname"] == "a.example"


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused(address: str) -> None:
    """An address that is not public, in any notation, is never connected to unless allowed."""
    web = Web({"https://a.example/": page()})
    with pytest.raises(InvalidRequestError, match="no public address") as caught:
        fetch("https://a.example/", resolve=lambda *_: [PUBLIC, address], transport=web)
    assert caught.value.hint
    assert not web.asked


def test_private_addresses_can_be_allowed() -> None:
    """Private addresses can be allowed."""
    web = Web({"https://inside/": page()})
    assert fetch("https://inside/", resolve=resolve, allow_private=True, transport=web) == b"png"


@pytest.mark.parametrize("target", ["https://inside/secret", "http://a.example/", "file:///etc/passwd"])
def test_every_redirect_is_checked(target: str) -> None:
    """A redirect to a private address or another scheme is refused."""
    web = Web({"https://a.example/": httpx.Response(302, headers={"Location": target})})
    with pytest.raises(InvalidRequestError):
        fetch("https://a.example/", resolve=resolve, transport=web)
    assert len(web.asked) == 1


def test_redirects_are_followed_but_not_for_ever() -> None:
    """A relative redirect is followed; a loop ends in an error."""
    hop = httpx.Response(302, headers={"Location": "/b"})
    web = Web({"https://a.example/": hop, "https://a.example/b": page()})
    assert fetch("https://a.example/", resolve=resolve, transport=web) == b"png"
    circle = Web({"https://a.example/b": hop})
    with pytest.raises(InvalidRequestError, match="more than 5 times"):
        fetch("https://a.example/b", resolve=resolve, transport=circle)
    assert len(circle.asked) == 6


@pytest.mark.parametrize(
    "url", ["http://a.example/x.png", "ftp://a/x", "file:///x.png", "data:image/png;base64,x", "https://u:p@a.example/"]
)
def test_only_https_is_fetched(url: str) -> None:
    """Other schemes, and passwords, are refused before any request."""
    web = Web({})
    with pytest.raises(InvalidRequestError, match="https only"):
        fetch(url, resolve=resolve, transport=web)
    assert not web.asked


@pytest.mark.parametrize("url", ["https://a:b/", "\x00", "https://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    """A malformed address raises InvalidRequestError, too."""
    with pytest.raises(InvalidRequestError):
        fetch(url, resolve=resolve, transport=Web({}))


def test_size_is_limited_while_it_arrives() -> None:
    """An endless body is aborted at the limit, whatever its headers state."""

    def endless() -> Iterator[bytes]:
        return itertools.repeat(b"x" * 1000)

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return endless()

    web = Web({"https://a.example/": httpx.Response(200, stream=Endless())})
    with pytest.raises(InvalidRequestError, match="more than 5000 bytes"):
        fetch("https://a.example/", limits=Limits(size=5000), resolve=resolve, transport=web)
    web = Web({"https://a.example/": httpx.Response(200, stream=Endless())})
    with pytest.raises(InvalidRequestError, match="longer than"):
        fetch("https://a.example/", limits=Limits(seconds=0), resolve=resolve, transport=web)


def test_failures_say_what_failed_without_the_query() -> None:
    """An error status and an unknown host are InvalidRequestErrors; a signature in the URL stays out of them."""
    web = Web({"https://a.example/x?token=secret": httpx.Response(404)})
    with pytest.raises(InvalidRequestError, match="answered 404") as caught:
        fetch("https://a.example/x?token=secret", resolve=resolve, transport=web)
    assert "secret" not in str(caught.value)

    def unknown(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    with pytest.raises(InvalidRequestError, match="no such host"):
        fetch("https://a.example/", resolve=unknown, transport=web)


def test_the_system_resolver_knows_this_machine() -> None:
    """With the default resolver, a name of this machine is refused as well."""
    with pytest.raises(InvalidRequestError, match="no public address"):
        fetch("https://localhost/x.png")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a real https server on this machine with a trusted certificate for ``pictures.test``."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    pem = tmp_path / "both.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=pictures.test"]
    names = ["-addext", "subjectAltName=DNS:pictures.test", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command, *names], cwd=tmp_path, check=True, capture_output=True)
    pem.write_bytes((tmp_path / "key.pem").read_bytes() + (tmp_path / "cert.pem").read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield http.server_port
    http.shutdown()
    thread.join()
    http.server_close()


class Pictures(BaseHTTPRequestHandler):
    """Redirects from ``/`` to ``/x.png``."""

    def do_GET(self) -> None:
        """One redirect, one picture."""
        self.send_response(302 if self.path == "/" else 200)
        self.send_header("Location", "/x.png")
        self.send_header("Content-Length", "0" if self.path == "/" else "3")
        self.end_headers()
        if self.path != "/":
            self.wfile.write(b"png")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Say nothing."""


def test_a_real_server_is_known_by_its_name_not_its_address(server: int) -> None:
    """Over real TLS, the connection goes to the checked address, and the certificate must be the host's."""

    def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    assert fetch(f"https://pictures.test:{server}/", resolve=here, allow_private=True) == b"png"
    with pytest.raises(InvalidRequestError, match="certificate"):
        fetch(f"https://other.test:{server}/", resolve=here, allow_private=True)
    with pytest.raises(InvalidRequestError, match="no public address"):
        fetch(f"https://pictures.test:{server}/", resolve=here)


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """``LLAMA4SDK_PRIVATE_IMAGE_URLS`` is off unless it is 1, and other values are refused."""
    assert not settings.private_image_urls()
    monkeypatch.setenv("LLAMA4SDK_PRIVATE_IMAGE_URLS", "1")
    assert settings.private_image_urls()
    monkeypatch.setenv("LLAMA4SDK_PRIVATE_IMAGE_URLS", "maybe")
    with pytest.raises(ConfigurationError):
        settings.private_image_urls()
