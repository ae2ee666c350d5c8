"""A registry that holds one scripted backend: a whole client without any plugin or model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

from llama4sdk.backend import BackendInfo, Capabilities, Feature, Offer, Unavailable
from llama4sdk.registry import Registered, Registry
from llama4sdk.testing.scripted import ANSWER, OFFER, ScriptedBackend, Step

__all__ = ["EVERYTHING", "scripted_registry"]

#: Every feature a synchronous engine can declare.
EVERYTHING: Final = Capabilities(features=frozenset(get_args(Feature)) - {"astream"})


def scripted_registry(
    steps: Sequence[Step] = ANSWER,
    *,
    later: Sequence[Sequence[Step]] = (),
    answer: Offer | Unavailable | BaseException = OFFER,
    capabilities: Capabilities = EVERYTHING,
) -> tuple[Registry, ScriptedBackend]:
    """The registry, and the backend in it, so that a test can see what was asked of it.

    ``steps`` answer the first request, each of ``later`` one after it.

    Use it as ``Client("scripted", registry=registry)``.
    """
    info = BackendInfo(
        name=ScriptedBackend.name,
        summary="Plays a script.",
        cls="llama4sdk.testing.scripted:ScriptedBackend",
        models=("scripted",),
        capabilities=capabilities,
    )
    registry = Registry([Registered(info=info, plugin="scripted", distribution="llama4sdk", version="0")])
    backend = registry.backend(info.name)
    assert isinstance(backend, ScriptedBackend)  # noqa: S101 - it was named two lines above
    backend.answer, backend.steps, backend.later = answer, tuple(steps), tuple(later)
    return registry, backend
