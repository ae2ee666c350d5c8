"""Clients that retry quickly, and plan for a fixed machine."""

from __future__ import annotations

from typing import Any, TypeVar

from llama4sdk.aclient import AsyncClient
from llama4sdk.client import BaseClient, Client
from llama4sdk.endpoint import Endpoint, RetryPolicy, Timeouts
from llama4sdk.messages import ImagePart, Message, TextPart
from llama4sdk.requests import Tool
from llama4sdk.testing.machines import LAPTOP

from .fake_server import FakeServer

QUICK = RetryPolicy(base=0.01, throttled=0.01)
PATIENT = Timeouts(first_byte=20, between=20)
WEATHER = Tool(
    name="weather",
    description="The weather of a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
AnyClient = TypeVar("AnyClient", bound=BaseClient)


def connect(
    kind: type[AnyClient],
    fake: FakeServer,
    model: str | None = "scout",
    *,
    options: dict[str, Any] | None = None,
    api_key: str | None = None,
    context_length: int | None = None,
    **endpoint: Any,
) -> AnyClient:
    """A client of either kind, with the fake's backend."""
    endpoint = Endpoint(**{"url": fake.url, "retry": QUICK, "timeouts": PATIENT, "options": options or {}, **endpoint})
    return kind(
        model,
        backend=fake.service,
        endpoint=endpoint,
        api_key=api_key,
        hardware=LAPTOP,
        context_length=context_length,
    )


def make_client(fake: FakeServer, model: str | None = "scout", **settings: Any) -> Client:
    """A synchronous client."""
    return connect(Client, fake, model, **settings)


def make_async_client(fake: FakeServer, model: str | None = "scout", **settings: Any) -> AsyncClient:
    """An asynchronous client."""
    return connect(AsyncClient, fake, model, **settings)


def image_message(data: bytes) -> Message:
    """A message with an image."""
    return Message(role="user", content=(TextPart(text="What is this?"), ImagePart(data=data)))
