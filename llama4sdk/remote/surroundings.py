"""What the environment says of reaching a server: which certificates to trust, and through which proxy to go."""

from __future__ import annotations

import os
import ssl
from functools import cached_property
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from llama4sdk.errors import ConfigurationError

__all__ = ["Trust", "proxy_for"]


class Trust:
    """The certificates an engine trusts: read once, and only when something is encrypted."""

    def __init__(self, path: str | None = None) -> None:
        """Raises ConfigurationError at once when ``path`` cannot be read."""
        self._path = path
        if path:
            _ = self.context

    @cached_property
    def context(self) -> ssl.SSLContext:
        """Of that file or directory, or of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, or httpx's own."""
        source = self._path or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        if not source:
            return httpx.create_ssl_context(trust_env=False)
        try:
            if Path(source).is_dir():
                return ssl.create_default_context(capath=source)
            return ssl.create_default_context(cafile=source)
        except OSError as error:
            raise ConfigurationError(
                f"The certificates in '{source}' cannot be read: {error}.", hint="Give a file in PEM format."
            ) from error


def proxy_for(url: httpcore.URL, trust: Trust) -> httpcore.Proxy | None:
    """The proxy that the environment names for such addresses.

    Raises ConfigurationError for one that cannot be used, without its address, which may hold a password.
    """
    scheme, host = url.scheme.decode(), url.host.decode()
    proxies = getproxies()
    named = proxies.get(scheme) or proxies.get("all")
    if not named or proxy_bypass(host if url.port is None or ":" in host else f"{host}:{url.port}"):
        return None
    try:
        proxy = httpx.Proxy(named if "://" in named else f"http://{named}")
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None or not proxy.url.host:
        raise ConfigurationError(
            f"The proxy that the environment names for {scheme} cannot be used.",
            hint=f"Look at {scheme.upper()}_PROXY and ALL_PROXY: http://, https:// or socks5://, a host and a port.",
        )
    return httpcore.Proxy(
        url=httpcore.URL(
            scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=proxy.url.raw_path
        ),
        auth=proxy.raw_auth,
        headers=proxy.headers.raw,
        ssl_context=trust.context if proxy.url.scheme == "https" else None,
    )
