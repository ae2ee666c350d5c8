"""Ollama as a backend, by its native API: ``/v1`` ignores the context length that is asked for.

    address     where the server is, as Ollama's own client reads ``OLLAMA_HOST``; what may be set
    native      what all calls have in common
    server      what a server says it has, asked for a second at most
    names       which of its models is meant
    backend     offers, and engines
    dialect     requests to bytes
    reader      bytes to events, and the check that nothing of a prompt was dropped
    counting    the fewest tokens that a request can have
    pulling     fetching a model, with progress

Importing this loads no HTTP client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama4sdk.backend import BackendInfo, Capabilities
from llama4sdk.hookspecs import hookimpl

if TYPE_CHECKING:
    from llama4sdk_ollama.pulling import pull

__all__ = ["CAPABILITIES", "llama4sdk_backends", "pull"]

CAPABILITIES = Capabilities(
    features=frozenset({"generate", "chat", "embed", "images", "tools", "json_schema", "astream"}),
    remote=True,
)


@hookimpl
def llama4sdk_backends() -> list[BackendInfo]:
    """Ollama's card."""
    return [
        BackendInfo(
            name="ollama",
            summary="Asks an Ollama server, here or elsewhere.",
            cls="llama4sdk_ollama.backend:OllamaBackend",
            capabilities=CAPABILITIES,
        )
    ]


def __getattr__(name: str) -> object:
    if name == "pull":
        from llama4sdk_ollama.pulling import pull

        return pull
    raise AttributeError(f"module 'llama4sdk_ollama' has no attribute '{name}'")
