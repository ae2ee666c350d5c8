"""The one thing that touches the network: once for threads, once for asyncio.

It lies directly on httpx's transports. What ``httpx.Client`` adds is left out on purpose: redirects are never followed,
since credentials would follow them; cookies are not kept; bodies are unpacked here, within bounds.
"""

from __future__ import annotations

import os
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any, Final
from urllib.request import getproxies, proxy_bypass

import httpx

from llama4sdk.errors import APIConnectionError, APIError, APITimeoutError, ConfigurationError
from llama4sdk.remote.clock import Clock, Limit, Phase
from llama4sdk.remote.dialect import Call, Head
from llama4sdk.remote.patience import AsyncPatientTransport, PatientTransport

__all__ = ["LARGEST", "AsyncReply", "AsyncTransport", "Reply", "Transport"]

LARGEST: Final = 64 * 2**20
"""Bytes that an answer read whole, or one piece of a stream unpacked, may have."""

POOL: Final = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)


class Reply:
    """An answer whose body is still to be read."""

    def __init__(self, response: httpx.Response, clock: Clock, backend: str) -> None:
        self.head = _head(response)
        self._stream: Any = response.stream
        self._clock = clock
        self._backend = backend
        self._unpack = _unpacker(self.head, backend)

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives, unpacked."""
        with _translated(self._clock, self._backend):
            for data in self._stream:
                self._clock.arrived()
                yield self._unpack(data)

    def read(self, most: int = LARGEST) -> bytes:
        """The whole body. Raises APIError for one of more than ``most`` bytes."""
        body = bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > most:
                raise _too_large(most, self._backend)
        return bytes(body)


class Transport:
    """Sends calls; safe to use from several threads."""

    def __init__(self, *, certificates: str | None = None) -> None:
        verify = _certificates(certificates)
        self._direct = PatientTransport(verify=verify, limits=POOL, trust_env=False)
        self._proxied: dict[str, PatientTransport] = {}
        self._verify = verify

    @contextmanager
    def open(self, call: Call, clock: Clock, backend: str) -> Iterator[Reply]:
        """Send a call; leaving the block before the body's end closes the connection."""
        with _translated(clock, backend):
            response = self._for(call.url).handle_request(_request(call, clock))
        try:
            yield Reply(response, clock, backend)
        finally:
            response.close()

    def close(self) -> None:
        """Close every connection."""
        for transport in (self._direct, *self._proxied.values()):
            transport.close()

    def _for(self, url: str) -> PatientTransport:
        proxy = _proxy(url)
        if proxy is None:
            return self._direct
        if proxy not in self._proxied:
            self._proxied[proxy] = PatientTransport(verify=self._verify, limits=POOL, trust_env=False, proxy=proxy)
        return self._proxied[proxy]


class AsyncReply:
    """The twin of ``Reply``."""

    def __init__(self, response: httpx.Response, clock: Clock, backend: str) -> None:
        self.head = _head(response)
        self._stream: Any = response.stream
        self._clock = clock
        self._backend = backend
        self._unpack = _unpacker(self.head, backend)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, unpacked."""
        with _translated(self._clock, self._backend):
            async for data in self._stream:
                self._clock.arrived()
                yield self._unpack(data)

    async def read(self, most: int = LARGEST) -> bytes:
        """The whole body. Raises APIError for one of more than ``most`` bytes."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > most:
                raise _too_large(most, self._backend)
        return bytes(body)


class AsyncTransport:
    """The twin of ``Transport``, for one event loop."""

    def __init__(self, *, certificates: str | None = None) -> None:
        verify = _certificates(certificates)
        self._direct = AsyncPatientTransport(verify=verify, limits=POOL, trust_env=False)
        self._proxied: dict[str, AsyncPatientTransport] = {}
        self._verify = verify

    @asynccontextmanager
    async def open(self, call: Call, clock: Clock, backend: str) -> AsyncIterator[AsyncReply]:
        """Send a call; leaving the block before the body's end closes the connection."""
        with _translated(clock, backend):
            response = await self._for(call.url).handle_async_request(_request(call, clock))
        try:
            yield AsyncReply(response, clock, backend)
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close every connection."""
        for transport in (self._direct, *self._proxied.values()):
            await transport.aclose()

    def _for(self, url: str) -> AsyncPatientTransport:
        proxy = _proxy(url)
        if proxy is None:
            return self._direct
        if proxy not in self._proxied:
            self._proxied[proxy] = AsyncPatientTransport(verify=self._verify, limits=POOL, trust_env=False, proxy=proxy)
        return self._proxied[proxy]


def _request(call: Call, clock: Clock) -> httpx.Request:
    clock.begin()
    limit = Limit(clock)
    patience = {"connect": clock.connecting(), "read": limit, "write": limit, "pool": limit}
    headers = {"Accept-Encoding": "identity", "User-Agent": _agent(), **call.headers}
    return httpx.Request(
        call.method, _url(call.url), headers=headers, content=call.content, extensions={"timeout": patience}
    )


@lru_cache(maxsize=256)
def _url(url: str) -> httpx.URL:
    return httpx.URL(url)


@lru_cache(maxsize=1)
def _agent() -> str:
    from importlib.metadata import version

    return f"llama4sdk/{version('llama4sdk')}"


def _head(response: httpx.Response) -> Head:
    return Head(response.status_code, {name.lower(): value for name, value in response.headers.items()})


def _certificates(path: str | None) -> ssl.SSLContext | bool:
    """What to trust: that file, or those of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, or httpx's own."""
    source = path or os.environ.get("SSL_CERT_FILE")
    try:
        if source:
            return ssl.create_default_context(cafile=source)
        if folder := os.environ.get("SSL_CERT_DIR"):
            return ssl.create_default_context(capath=folder)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"The certificates in '{source}' cannot be read: {error}.", hint="Give a file in PEM format."
        ) from error
    return True


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this address."""
    proxies = getproxies()
    if not proxies:
        return None
    target = _url(url)
    if proxy_bypass(target.host):
        return None
    found = proxies.get(target.scheme) or proxies.get("all")
    return found if not found or "://" in found else f"http://{found}"


def _unpacker(head: Head, backend: str) -> Any:
    """What makes of the bytes on the wire those of the body, a bounded piece at a time."""
    coding = head.headers.get("content-encoding", "identity").lower()
    if coding in ("identity", ""):
        return _as_it_is
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise APIError(f"'{backend}' answered in '{coding}', which was not asked for.", backend=backend)
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, whichever it is

    def unpack(data: bytes) -> bytes:
        try:
            whole = unpacker.decompress(data, LARGEST)
        except zlib.error as error:
            raise APIError(f"'{backend}' sent a damaged body: {error}.", backend=backend) from error
        if unpacker.unconsumed_tail:
            raise _too_large(LARGEST, backend)
        return whole

    return unpack


def _as_it_is(data: bytes) -> bytes:
    return data


def _too_large(most: int, backend: str) -> APIError:
    return APIError(
        f"'{backend}' answered with more than {most // 2**20} MiB.",
        backend=backend,
        hint="It does not speak the protocol expected, or its answer is damaged.",
    )


@contextmanager
def _translated(clock: Clock, backend: str) -> Iterator[None]:
    """Errors of httpx as the SDK's."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise _too_late(error, clock, backend) from error
    except (httpx.LocalProtocolError, httpx.InvalidURL, UnicodeError):  # which would show the header, a key perhaps
        raise ConfigurationError(
            f"The request to '{backend}' cannot be sent: its address or one of its headers has characters that HTTP "
            "does not allow.",
            hint="Look for line breaks and accents in the key, the headers and the url.",
        ) from None
    except (httpx.TransportError, OSError) as error:
        raise _unreachable(error, backend) from error


def _too_late(error: httpx.TimeoutException, clock: Clock, backend: str) -> APITimeoutError:
    connecting = isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
    phase: Phase = "connect" if connecting and clock.remaining > 0 else clock.exhausted
    what, hint = TOO_LATE[phase]
    return APITimeoutError(f"{what.format(backend)}.", phase=phase, backend=backend, retryable=connecting, hint=hint)


TOO_LATE: Final[dict[Phase, tuple[str, str]]] = {
    "connect": ("'{}' could not be connected to in time", "Check the address, or raise Timeouts(connect=...)."),
    "first_byte": ("'{}' did not begin to answer in time", "Raise Timeouts(first_byte=...), or stream the answer."),
    "between": ("'{}' stopped sending in the middle of its answer", "Raise Timeouts(between=...)."),
    "total": ("'{}' did not finish in the time there was for everything", "Raise Timeouts(total=...)."),
}


def _unreachable(error: Exception, backend: str) -> APIConnectionError:
    causes = list(_causes(error))
    hint = "Check the endpoint's address, and that its server runs."
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        what, hint = "its name leads to no address", "Check the address for typing errors, and the network."
    elif any(isinstance(cause, ssl.SSLError) for cause in causes):
        what = f"no secure connection: {causes[-1]}"
        hint = "Check the address and its certificate; Endpoint(certificates=...) trusts one of your own."
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        what = "nothing listens at its address"
    else:
        what = f"the connection broke: {str(error) or type(error).__name__}"
    return APIConnectionError(f"'{backend}' was not reached, {what}.", backend=backend, retryable=True, hint=hint)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
