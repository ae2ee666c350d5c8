"""Trusted certificates and proxies, as the endpoint's settings and the environment name them."""

from __future__ import annotations

import os
import ssl
from functools import cached_property
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import httpx

from llama4sdk.errors import ConfigurationError


class TrustStore:
    """The certificates an engine trusts: read once, and only when something is encrypted."""

    def __init__(self, path: str | None = None) -> None:
        """Raises ConfigurationError at once when ``path`` cannot be read."""
        self._path = path
        if path:
            _ = self.context

    @cached_property
    def context(self) -> ssl.SSLContext:
        """From the given file or directory, else ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, else httpx's own."""
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


def proxy_for(url: httpx.URL, trust_store: TrustStore) -> httpx.Proxy | None:
    """The proxy that the environment names for such addresses.

    Raises ConfigurationError for one that cannot be used, without its address, which may hold a password.
    """
    proxies = getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address or proxy_bypass(url.host if url.port is None or ":" in url.host else f"{url.host}:{url.port}"):
        return None
    scheme = url.scheme.upper()
    try:
        proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None or not proxy.url.host:
        raise ConfigurationError(
            f"The proxy that the environment names for {url.scheme} cannot be used.",
            hint=f"Look at {scheme}_PROXY and ALL_PROXY: http://, https:// or socks5://, a host and a port.",
        )
    if proxy.url.scheme == "https":
        proxy.ssl_context = trust_store.context
    return proxy
