"""When a plan turns out not to fit: what was needed, what there was, and what would fit instead."""

from __future__ import annotations

from collections.abc import Callable

from llama4sdk.errors import DeviceMemoryError, Llama4Error
from llama4sdk.hardware import Hardware
from llama4sdk.planning.plan import Plan
from llama4sdk.text import gb

__all__ = ["too_large"]


def too_large(
    plan: Plan, hardware: Hardware, error: Llama4Error, plan_for: Callable[[Hardware], Plan]
) -> DeviceMemoryError:
    """The error for a plan that ran out of memory; ``plan_for`` plans for a machine with less of it."""
    sizes = [(size, hardware.free(device), device) for device, size in plan.memory.items()]
    told = "; ".join(f"needs {gb(size)} on {device}, where {gb(have)} are free" for size, have, device in sizes)
    need, have, _ = max(sizes, default=(None, None, ""))
    message = f"{error.message} '{plan.model}' {told or 'needs more than there is'}."
    return DeviceMemoryError(message, need=need, have=have, hint=_next_best(plan, hardware, plan_for) or error.hint)


def _next_best(plan: Plan, hardware: Hardware, plan_for: Callable[[Hardware], Plan]) -> str | None:
    """What would be planned where this plan does not fit; ``None`` where that is nothing."""
    for device, size in plan.memory.items():
        hardware = hardware.with_free(device, min(hardware.free(device), size - 1))
    try:
        other = plan_for(hardware)
    except Llama4Error:
        return None
    if other.memory == plan.memory:  # it does not say what it needs, and nothing smaller can be told
        return None
    held = f" in {other.quantization}" if other.quantization else ""
    where = " and ".join(f"{gb(size)} on {device}" for device, size in other.memory.items()) or "no memory to speak of"
    return (
        f"Next best: '{other.model}'{held} with context_length={other.context_length} on '{other.backend}', which "
        f"takes {where}. Or free some memory and try again."
    )
