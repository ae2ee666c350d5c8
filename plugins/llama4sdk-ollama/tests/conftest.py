"""A server, and clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from llama4sdk import Client
from llama4sdk.testing.machines import LAPTOP

from .fake_server import SCOUT, Fake


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """Where ``OLLAMA_HOST`` points to."""
    with Fake() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
        yield server


@pytest.fixture
def connect(fake: Fake) -> Iterator[Callable[..., Client]]:
    """Makes clients of that server; each is closed after the test."""
    made: list[Client] = []

    def make(model: str | None = SCOUT, **options: object) -> Client:
        arguments: dict[str, object] = {"context_length": 4096, **options}
        made.append(Client(model, backend="ollama", hardware=LAPTOP, **arguments))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for client in made:
        client.close()
