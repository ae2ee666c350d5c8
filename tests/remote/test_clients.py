"""Requests are spread over httpx clients, as few as they need, and clients that fall idle are closed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace

import httpx
import pytest

from llama4sdk.endpoint import Endpoint
from llama4sdk.remote import clients
from llama4sdk.remote.clients import MAX_IDLE_SECONDS, MAX_REQUESTS_PER_CLIENT, Clients
from llama4sdk.remote.tls_and_proxy import TrustStore

URL = httpx.URL("http://llama.example")


def test_requests_are_spread_over_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client takes so many at a time; the first with room is used, and later ones are closed after a while."""
    now = 0.0
    monkeypatch.setattr(clients, "time", SimpleNamespace(monotonic=lambda: now))

    async def main() -> None:
        nonlocal now
        pool = Clients(TrustStore(), Endpoint())
        async with AsyncExitStack() as requests:
            senders = [
                await requests.enter_async_context(pool.use(URL)) for _ in range(2 * MAX_REQUESTS_PER_CLIENT + 1)
            ]
            assert len(set(senders)) == 3
            assert len(set(senders[:MAX_REQUESTS_PER_CLIENT])) == 1
            async with pool.use(httpx.URL("http://other.example")) as other:
                assert other not in senders
        (shards,) = (shards for origin, shards in pool._shards.items() if origin[1] == URL.host)
        async with pool.use(URL) as again:
            assert again is senders[0]
        assert len(shards) == 3
        now += MAX_IDLE_SECONDS + 1
        async with pool.use(URL) as again:
            assert again is senders[0]
        assert len(shards) == 1
        await pool.close()

    asyncio.run(main())
