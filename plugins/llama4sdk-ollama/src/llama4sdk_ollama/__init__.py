"""Ollama as a backend, by its native API: its ``/v1`` ignores the context length that is asked for.

    address        the server's address and headers, by the rules of ``OLLAMA_HOST``; ``Endpoint.options``
    server         calls and errors of the API; lists a server's models and shows one, within a second
    model_names    matches the SDK's model names to the server's
    backend        offers, and engines
    dialect        requests to bytes
    reader         bytes to events, and the check that the server dropped nothing of a prompt
    token_bounds   a lower bound of a prompt's tokens
    pulling        downloads a model to the server, with progress

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
    """Describe the backend."""
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
