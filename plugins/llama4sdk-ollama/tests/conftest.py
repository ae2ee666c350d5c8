"""A fake server, and clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from llama4sdk import Client
from llama4sdk.testing.machines import LAPTOP

from .fake_server import SCOUT, Fake


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """The server at ``OLLAMA_HOST``."""
    with Fake() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
        yield server


@pytest.fixture
def connect(fake: Fake) -> Iterator[Callable[..., Client]]:
    """A factory of clients of that server; each is closed after the test."""
    clients: list[Client] = []

    def make(model: str | None = SCOUT, **options: object) -> Client:
        arguments: dict[str, object] = {"context_length": 4096, **options}
        clients.append(Client(model, backend="ollama", hardware=LAPTOP, **arguments))  # type: ignore[arg-type]
        return clients[-1]

    yield make
    for client in clients:
        client.close()
