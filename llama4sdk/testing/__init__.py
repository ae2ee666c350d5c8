"""Tools for authors of backends, and for tests of programs that use one.

BackendConformance               the contract as pytest tests; subclass it (needs pytest)
ScriptedBackend, ScriptedEngine  a backend that plays a script, and records its calls
MACHINES, LAPTOP, H100_X8, …     hardware to plan for without owning it
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from llama4sdk.testing.conformance import BackendConformance
    from llama4sdk.testing.machines import CRAMPED, GPU_24GB, H100_X1, H100_X8, LAPTOP, MAC_64GB, MACHINES, machine
    from llama4sdk.testing.registry import scripted_registry
    from llama4sdk.testing.scripted import ScriptedBackend, ScriptedEngine, Step

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

_HOMES: Final = {
    "BackendConformance": "llama4sdk.testing.conformance",
    "scripted_registry": "llama4sdk.testing.registry",
    "ScriptedBackend": "llama4sdk.testing.scripted",
    "ScriptedEngine": "llama4sdk.testing.scripted",
    "Step": "llama4sdk.testing.scripted",
}


def __getattr__(name: str) -> object:
    """Only ``BackendConformance`` needs pytest, so each name is looked up when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "llama4sdk.testing.machines")), name)
