"""What breaks on the way to a server and back, in the SDK's own errors. Pure."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from typing import Final

import httpcore
import httpx

from llama4sdk.errors import APIConnectionError, APITimeoutError, ConfigurationError, Llama4Error
from llama4sdk.remote.clock import Clock, Phase

__all__ = ["BREAKS", "explained"]

BREAKS: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpx.InvalidURL,
    UnicodeError,
    OSError,
)

TOO_LATE: Final[dict[Phase, tuple[str, str]]] = {
    "connect": ("'{}' could not be connected to in time", "Check the address, or raise Timeouts(connect=...)."),
    "first_byte": ("'{}' did not begin to answer in time", "Raise Timeouts(first_byte=...), or stream the answer."),
    "between": ("'{}' stopped sending in the middle of its answer", "Raise Timeouts(between=...)."),
    "total": ("'{}' did not finish in the time there was for everything", "Raise Timeouts(total=...)."),
}

PERMANENT: Final = (socket.EAI_NONAME, socket.EAI_FAMILY)
"""Name lookups that fail in the same way the next time."""


def explained(error: Exception, clock: Clock, backend: str) -> Llama4Error:
    """One of ``BREAKS`` as the SDK's error. Its cause is set, but for one that would show a header: a key, perhaps."""
    if isinstance(error, httpcore.LocalProtocolError | httpx.InvalidURL | httpcore.UnsupportedProtocol | UnicodeError):
        return ConfigurationError(
            f"The request to '{backend}' cannot be sent: its address or one of its headers has characters that HTTP "
            "does not allow.",
            hint="Look for line breaks and accents in the key, the headers and the url.",
        )
    found: Llama4Error
    if isinstance(error, httpcore.TimeoutException):
        connecting = isinstance(error, httpcore.ConnectTimeout)
        phase = clock.exhausted(connecting=connecting)
        what, hint = TOO_LATE[phase]
        found = APITimeoutError(
            f"{what.format(backend)}.", phase=phase, backend=backend, retryable=phase == "connect", hint=hint
        )
    else:
        found = _broken(error, backend)
    found.__cause__ = error
    return found


def _broken(error: Exception, backend: str) -> APIConnectionError:
    causes = list(_causes(error))
    last = str(causes[-1]) or type(causes[-1]).__name__
    again, hint = True, "Check the endpoint's address, and that its server runs."
    if looked_up := next((cause for cause in causes if isinstance(cause, socket.gaierror)), None):
        what, again = f"'{backend}' was not reached: its name leads to no address", looked_up.errno not in PERMANENT
        hint = "Check the address for typing errors, and the network."
    elif secured := next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None):
        what, again = f"'{backend}' was not reached, no secure connection: {last}", isinstance(secured, ssl.SSLEOFError)
        hint = "Check the address and its certificate; Endpoint(certificates=...) trusts one of your own."
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes) or _all_refused(last):
        what = f"'{backend}' was not reached, nothing listens at its address"
    elif isinstance(error, httpcore.ProxyError):
        what, again = f"'{backend}' was not reached, the proxy refused: {last}", False
        hint = "Look at HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
    elif isinstance(error, httpcore.ConnectError):
        what = f"'{backend}' was not reached: {last}"
    elif isinstance(error, httpcore.RemoteProtocolError) and not _cut(last):
        what, again = f"'{backend}' answered with something that is not HTTP: {last}", False
        hint = "Check the address: http or https, the port, and what listens there."
    else:
        what, hint = f"The connection to '{backend}' broke: {last}", "Try again; the server may say why in its log."
    return APIConnectionError(f"{what.rstrip('.')}.", backend=backend, retryable=again, hint=hint)


def _cut(words: str) -> bool:
    """Whether h11 says that the other side went away, and not that it wrote nonsense."""
    return "disconnected" in words or "closed connection" in words


def _all_refused(words: str) -> bool:
    """What asyncio says when each of a name's addresses refused."""
    numbers = re.findall(r"\[Errno (\d+)\]", words)
    return bool(numbers) and all(int(number) in (61, 111, 10061) for number in numbers)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
