"""Run Llama 4 wherever it can run.

>>> from llama4sdk import Client
>>> with Client("echo") as client:
...     print(client.chat("Hello, llama!"))
Hello, llama!

Every public name below is imported when it is first used, so that ``import llama4sdk`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama4sdk.aclient import AsyncClient
    from llama4sdk.batch.items import BatchItem
    from llama4sdk.client import Client
    from llama4sdk.endpoint import Endpoint, RetryPolicy, Timeouts
    from llama4sdk.errors import Llama4Error
    from llama4sdk.events import Attempt, Event, Finish, TextDelta, TokenLogprob, ToolCallDelta, Usage
    from llama4sdk.hardware import Hardware
    from llama4sdk.messages import ImagePart, Message, TextPart, ToolCall, VideoPart
    from llama4sdk.plan import Plan
    from llama4sdk.planning.policy import Place, Policy
    from llama4sdk.quantization import Quantization, QuantizationConfig
    from llama4sdk.requests import SamplingParams, Tool
    from llama4sdk.results import Completion, Embeddings, Scores
    from llama4sdk.streams import AsyncStream, Stream

    __version__: str

_NAMES = {
    "aclient": ("AsyncClient",),
    "batch.items": ("BatchItem",),
    "client": ("Client",),
    "endpoint": ("Endpoint", "RetryPolicy", "Timeouts"),
    "errors": ("Llama4Error",),
    "events": ("Attempt", "Event", "Finish", "TextDelta", "TokenLogprob", "ToolCallDelta", "Usage"),
    "hardware": ("Hardware",),
    "messages": ("ImagePart", "Message", "TextPart", "ToolCall", "VideoPart"),
    "plan": ("Plan",),
    "planning.policy": ("Place", "Policy"),
    "quantization": ("Quantization", "QuantizationConfig"),
    "requests": ("SamplingParams", "Tool"),
    "results": ("Completion", "Embeddings", "Scores"),
    "streams": ("AsyncStream", "Stream"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "Attempt",
    "BatchItem",
    "Client",
    "Completion",
    "Embeddings",
    "Endpoint",
    "Event",
    "Finish",
    "Hardware",
    "ImagePart",
    "Llama4Error",
    "Message",
    "Place",
    "Plan",
    "Policy",
    "Quantization",
    "QuantizationConfig",
    "RetryPolicy",
    "SamplingParams",
    "Scores",
    "Stream",
    "TextDelta",
    "TextPart",
    "Timeouts",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "VideoPart",
    "__version__",
]


def __getattr__(name: str) -> object:
    import importlib

    if name == "__version__":
        from importlib.metadata import version

        return version("llama4sdk")
    if name not in _HOMES:
        raise AttributeError(f"module 'llama4sdk' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"llama4sdk.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
