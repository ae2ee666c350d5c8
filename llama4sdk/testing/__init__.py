"""Tools for authors of backends, and for tests of programs that use one.

BackendConformance               the contract as pytest tests; subclass it (needs pytest)
ScriptedBackend, ScriptedEngine  a backend that plays a script, and records its calls
MACHINES, LAPTOP, H100_X8, …     hardware to plan for without owning it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama4sdk.testing.machines import CRAMPED, GPU_24GB, H100_X1, H100_X8, LAPTOP, MAC_64GB, MACHINES, machine
from llama4sdk.testing.registry import scripted_registry
from llama4sdk.testing.scripted import ScriptedBackend, ScriptedEngine, Step

if TYPE_CHECKING:
    from llama4sdk.testing.conformance import BackendConformance

__all__ = [
    "CRAMPED",
    "GPU_24GB",
    "H100_X1",
    "H100_X8",
    "LAPTOP",
    "MACHINES",
    "MAC_64GB",
    "BackendConformance",
    "ScriptedBackend",
    "ScriptedEngine",
    "Step",
    "machine",
    "scripted_registry",
]


def __getattr__(name: str) -> object:
    """Import ``BackendConformance``, which needs pytest, when it is asked for."""
    if name != "BackendConformance":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llama4sdk.testing.conformance import BackendConformance

    return BackendConformance
