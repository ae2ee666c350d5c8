"""The memory that nobody uses now, on whatever device of a plan's."""

from __future__ import annotations

from llama4sdk.probe import memory, probe

__all__ = ["free_memory"]


def free_memory(device: str) -> int:
    """Bytes of a GPU's memory, or of the machine's."""
    return memory.read().free if device == "cpu" else probe().free(device)
