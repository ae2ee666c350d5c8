"""Fetch images by URL, safe against requests to this machine's private network (SSRF).

Only https; every address of a host must be public, at every redirect, and the connection goes to the address that was
checked. Size and time are bounded.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from PIL import Image

from llama4sdk import settings
from llama4sdk.errors import InvalidRequestError
from llama4sdk.llama4.images.decoding import decode

if TYPE_CHECKING:
    import httpx

#: Returns the IP addresses of a host and port. May raise OSError.
Resolver: TypeAlias = Callable[[str, int], Sequence[str]]

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of fetching one image: bytes, seconds in all, and redirects."""

    size: int = 20 * 2**20
    seconds: float = 15.0
    redirects: int = 5


def resolve_host(host: str, port: int) -> list[str]:
    """Resolve a host by the system's resolver."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def fetch(
    url: str,
    *,
    limits: Limits = Limits(),
    allow_private: bool = False,
    resolve: Resolver = resolve_host,
    transport: httpx.BaseTransport | None = None,
) -> bytes:
    """Return the bytes at an https URL; ``allow_private`` permits addresses of this machine's own network.

    Raises InvalidRequestError for other schemes, private addresses, network errors and exceeded limits.
    """
    import httpx

    try:
        target = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidRequestError("An image's URL is none.", hint=f"{error}. Write https://host/path.") from error
    deadline = time.monotonic() + limits.seconds
    # No proxy: it would receive the bare address. Redirects are followed here, so that each is checked.
    verify = httpx.create_ssl_context() if transport is None else True
    try:
        with httpx.Client(transport=transport, trust_env=False, follow_redirects=False, verify=verify) as client:
            for _ in range(limits.redirects + 1):
                request = _request(client, target, allow_private=allow_private, resolve=resolve, deadline=deadline)
                response = client.send(request, stream=True)
                try:
                    if not response.has_redirect_location:
                        return _body(response, target, limits, deadline)
                    target = target.join(response.headers["Location"])
                finally:
                    response.close()
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        raise _fetch_error(target, str(error) or type(error).__name__) from error
    raise _fetch_error(target, f"it was redirected more than {limits.redirects} times")


def _request(
    client: httpx.Client, target: httpx.URL, *, allow_private: bool, resolve: Resolver, deadline: float
) -> httpx.Request:
    if target.scheme != "https" or not target.host or target.userinfo:
        raise InvalidRequestError(
            f"An image can be fetched by https only, without a password, not from {_printable(target)}.",
            hint="Read the image yourself and pass its bytes, or use ImagePart.from_path.",
        )
    addresses = resolve(target.host, target.port or 443)
    private = [address for address in addresses if not _is_public(ipaddress.ip_address(address.partition("%")[0]))]
    if not addresses or (private and not allow_private):
        raise InvalidRequestError(
            f"{_printable(target)} leads to {private[0] if private else 'nowhere'}, which is no public address.",
            hint="Pass the image's bytes, or allow private addresses with LLAMA4SDK_PRIVATE_IMAGE_URLS=1.",
        )
    return client.build_request(
        "GET",
        target.copy_with(host=addresses[0]),
        headers={"Host": target.netloc.decode(), "Accept": "image/*", "Accept-Encoding": "identity"},
        extensions={"sni_hostname": target.host},
        timeout=max(0.1, deadline - time.monotonic()),
    )


def _is_public(address: _Address) -> bool:
    """Whether an address is in the public internet; an IPv6 address that embeds an IPv4 one is judged by that."""
    if isinstance(address, ipaddress.IPv6Address):
        translated = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else None
        inner = address.ipv4_mapped or address.sixtofour or translated
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast


def _body(response: httpx.Response, target: httpx.URL, limits: Limits, deadline: float) -> bytes:
    if not response.is_success:
        raise _fetch_error(target, f"the server answered {response.status_code}")
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > limits.size:
            raise _fetch_error(target, f"it has more than {limits.size} bytes")
        if time.monotonic() > deadline:
            raise _fetch_error(target, f"it took longer than {limits.seconds:g} seconds")
    return bytes(body)


def _fetch_error(target: httpx.URL, why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"The image at {_printable(target)} could not be fetched: {why}.", hint="Pass the image's bytes instead."
    )


def _printable(target: httpx.URL) -> str:
    """The URL without its password and its query, which may be a signature."""
    return str(target.copy_with(query=None, fragment=None, userinfo=b""))


def read_image(data: bytes | None, url: str | None) -> Image.Image:
    """Decode an image's bytes as upright RGB, fetched from its URL where there are none.

    Raises InvalidRequestError for what cannot be fetched or decoded. Only public https addresses are fetched from,
    unless ``LLAMA4SDK_PRIVATE_IMAGE_URLS`` allows others.
    """
    if data is not None:
        return decode(data)
    if url is None:
        raise InvalidRequestError("An image has neither data nor a url.", hint="Use ImagePart.from_path.")
    return decode(fetch(url, allow_private=settings.private_image_urls()))
