"""Many rejections in fewer words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from llama4sdk._text import gb
from llama4sdk.errors import DeviceMemoryError, Llama4Error
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan, Rejection
from llama4sdk.planning.offers import kept_here

__all__ = ["FEW", "grouped", "too_large"]

FEW: Final = 2
"""So many remote backends are told one by one."""


def grouped(found: Sequence[Rejection], remote: frozenset[str]) -> list[Rejection]:
    """The rejections with one for all remote backends and models."""
    quiet = [one for one in found if one.backend in remote]
    names = {one.backend for one in quiet}
    if len(names) <= FEW:
        return list(found)
    barred = any(one.reason == kept_here(one.backend).reason for one in quiet)
    lack = "they need a key or an address, or have no such model"
    whole = Rejection(
        backend=f"{len(names)} remote ones",
        model=None,
        reason=f"{lack}, or prompts would leave this machine, and the policy keeps them here."
        if barred
        else f"{lack}.",
        fix=f"'llama4sdk backends' says what each needs{'; --backend or --remote allows it' if barred else ''}.",
    )
    return [*(one for one in found if one.backend not in remote), whole]


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
