"""Errors of connections and of HTTP itself as the SDK's own errors. Pure."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Iterator
from typing import Final

import httpx

from llama4sdk.errors import APIConnectionError, APITimeoutError, ConfigurationError, Llama4Error
from llama4sdk.remote.deadlines import Phase

TIMEOUT_MESSAGES: Final[dict[Phase, tuple[str, str]]] = {
    "connect": ("'{}' could not be connected to in time", "Check the address, or raise Timeouts(connect=...)."),
    "first_byte": ("'{}' did not begin to answer in time", "Raise Timeouts(first_byte=...), or stream the answer."),
    "between": ("'{}' stopped sending in the middle of its answer", "Raise Timeouts(between=...)."),
    "total": ("'{}' did not finish in the time there was for everything", "Raise Timeouts(total=...)."),
}

#: Name lookups that fail in the same way the next time.
PERMANENT_LOOKUP_ERRORS: Final = (socket.EAI_NONAME, socket.EAI_FAMILY)


def transport_errors() -> tuple[type[Exception], ...]:
    """The errors that sending a request or reading its answer may raise, those of httpx2 included where it is used."""
    libraries = [httpx, *(sys.modules[name] for name in ("httpx2",) if name in sys.modules)]
    theirs = [getattr(library, name) for library in libraries for name in ("HTTPError", "InvalidURL", "StreamError")]
    return *theirs, UnicodeError, OSError


def connection_error(error: Exception, backend: str, phase: Phase) -> Llama4Error:
    """One of ``transport_errors`` as the SDK's error. ``phase`` is the one that a timeout ended.

    Its cause is set, but for an error that would show a header: a key, perhaps.
    """
    if isinstance(error, UnicodeError) or _is_a(error, "LocalProtocolError", "InvalidURL", "UnsupportedProtocol"):
        return ConfigurationError(
            f"The request to '{backend}' cannot be sent: its address or one of its headers has characters that HTTP "
            "does not allow.",
            hint="Look for line breaks and accents in the key, the headers and the url.",
        )
    explained: Llama4Error
    if isinstance(error, TimeoutError) or _is_a(error, "TimeoutException"):
        phase = "connect" if _is_a(error, "ConnectTimeout") else phase
        message, hint = TIMEOUT_MESSAGES[phase]
        explained = APITimeoutError(
            f"{message.format(backend)}.", phase=phase, backend=backend, retryable=phase == "connect", hint=hint
        )
    else:
        explained = _connection_error(error, backend)
    explained.__cause__ = error
    return explained


def is_disconnect(error: Exception) -> bool:
    """Tell whether the other side went away without an answer, as it does where it had closed an idle connection."""
    return _is_a(error, "NetworkError") or (_is_a(error, "RemoteProtocolError") and _says_disconnected(str(error)))


def status_response(error: Exception) -> httpx.Response | None:
    """The response that a hook of the user's refused with ``raise_for_status``."""
    return error.response if _is_a(error, "HTTPStatusError") else None  # type: ignore[attr-defined]


def _connection_error(error: Exception, backend: str) -> APIConnectionError:
    causes = list(_causes(error))
    reason = next((text for cause in reversed(causes) if (text := str(cause))), type(error).__name__)
    retryable, hint = True, "Check the endpoint's address, and that its server runs."
    if lookup := next((cause for cause in causes if isinstance(cause, socket.gaierror)), None):
        message = f"'{backend}' was not reached: its name leads to no address"
        retryable = lookup.errno not in PERMANENT_LOOKUP_ERRORS
        hint = "Check the address for typing errors, and the network."
    elif tls := next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None):
        message = f"'{backend}' was not reached, no secure connection: {tls}"
        retryable = isinstance(tls, ssl.SSLEOFError)
        hint = "Check the address and its certificate; Endpoint(certificates=...) trusts one of your own."
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        message = f"'{backend}' was not reached, nothing listens at its address"
    elif _is_a(error, "ProxyError"):
        message, retryable = f"'{backend}' was not reached, the proxy refused: {reason}", False
        hint = "Look at HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
    elif _is_a(error, "ConnectError"):
        message = f"'{backend}' was not reached: {reason}"
    elif _is_a(error, "RemoteProtocolError") and not _says_disconnected(reason):
        message, retryable = f"'{backend}' answered with something that is not HTTP: {reason}", False
        hint = "Check the address: http or https, the port, and what listens there."
    else:
        message = f"The connection to '{backend}' broke: {reason}"
        hint = "Try again; the server may say why in its log."
    return APIConnectionError(f"{message.rstrip('.')}.", backend=backend, retryable=retryable, hint=hint)


def _is_a(error: Exception, *names: str) -> bool:
    """Tell by name, since httpx and httpx2 have the same errors, but not in common."""
    return any(base.__name__ in names for base in type(error).__mro__)


def _says_disconnected(words: str) -> bool:
    """Tell by h11's words whether the other side went away, and not that it wrote nonsense."""
    return "disconnected" in words or "closed connection" in words


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, the attempts at each of a name's addresses included."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _causes(each)
        error = error.__cause__ or error.__context__
