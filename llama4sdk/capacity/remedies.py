"""What has to give where a layout lacks room: every remedy with the number it would reach, the cheapest first. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from llama4sdk._text import gb
from llama4sdk._values import Value
from llama4sdk.capacity.contexts import USUAL_CONTEXT, largest_fitting
from llama4sdk.capacity.engine_profiles import EngineProfile
from llama4sdk.capacity.layouts import Layout, layouts
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.catalog.unified_memory import largest_gpu_memory, raise_gpu_memory_command
from llama4sdk.hardware import Hardware

__all__ = ["Concession", "concessions", "on_a_mac_s_gpu"]

FEW_REQUESTS: Final = 64
"""Enough for a context so long that a table of requests is what stands in its way."""

COUNTS: Final = (1, 2, 4, 8, 16)
"""Devices of one kind that machines are sold with."""


class Concession(Value):
    """One remedy. ``layout`` is what it reaches, which fits; ``None`` where nothing but memory helps."""

    what: Literal["requests", "batch", "limit", "cache", "context", "precision", "devices", "memory"]
    text: str
    """For people: what gives, and the number."""
    layout: Layout | None


def concessions(model: ModelFacts, engine: EngineProfile, machine: Hardware, failed: Layout) -> tuple[Concession, ...]:
    """What would let ``failed`` fit: fewer requests, more of a Mac's memory, a smaller cache, a shorter context, …

    Whatever is not named stays as it was asked for. There is always one: where nothing else helps, the memory that is
    lacking. Empty where it fits already.
    """
    if failed.usable:
        return ()
    found = (
        *_fewer_requests(model, engine, machine, failed),
        *(_higher_limit(model, engine, machine, failed) if failed.kind == "single" else ()),
        *_smaller_batch(model, engine, machine, failed),
        *_smaller_cache(model, engine, machine, failed),
        *_shorter(model, engine, machine, failed),
        *_fewer_bits(model, engine, machine, failed),
        *_more_devices(model, engine, machine, failed),
    )
    if found:
        return found
    worst = max(failed.shares, key=lambda share: share.missing)
    text = f"{gb(worst.missing)} more on {worst.device}" if worst.missing else failed.remedy or failed.support[1]
    return (Concession(what="memory", text=text, layout=None),)


def _fewer_requests(
    model: ModelFacts, engine: EngineProfile, machine: Hardware, failed: Layout
) -> Iterator[Concession]:
    if engine.table_rows > FEW_REQUESTS >= failed.batch:
        fewer = engine.model_copy(update={"table_rows": FEW_REQUESTS})
        reached = _best(model, fewer, machine, failed)
        if reached:
            text = f"at most {FEW_REQUESTS} requests at once: {reached.context:,} tokens"
            yield Concession(what="requests", text=text, layout=reached)


def on_a_mac_s_gpu(model: ModelFacts, engine: EngineProfile, machine: Hardware, slow: Layout) -> tuple[Concession, ...]:
    """What would bring to a Mac's GPU what lies at its processor, where the share that macOS lends is too small."""
    usual = slow.model_copy(update={"context": min(slow.context, USUAL_CONTEXT)})  # of RAM it is all there is room for
    return tuple(_higher_limit(model, engine, machine, usual)) if slow.kind in ("cpu", "disk") else ()


def _higher_limit(model: ModelFacts, engine: EngineProfile, machine: Hardware, failed: Layout) -> Iterator[Concession]:
    """A Mac lends its GPU a part of the memory, which its owner may raise."""
    gpu = next((device for device in machine.devices if device.kind == "mps"), None)
    most = largest_gpu_memory(machine.total_memory)
    if gpu is None or gpu.total_memory >= most:
        return
    raised = gpu.model_copy(update={"total_memory": most, "free_memory": most})  # of it what the processor finds free
    wanted = failed.model_copy(update={"kind": "single"})
    reached = _best(model, engine, machine.model_copy(update={"devices": (raised,)}), wanted)
    if reached and reached.kind == "single":
        text = f"let the GPU have {gb(most)} of {gb(machine.total_memory)}: {raise_gpu_memory_command(most)}"
        yield Concession(what="limit", text=text, layout=reached)


def _smaller_batch(model: ModelFacts, engine: EngineProfile, machine: Hardware, failed: Layout) -> Iterator[Concession]:
    most = largest_fitting(lambda n: _best(model, engine, machine, failed, batch=n) is not None, failed.batch - 1)
    if most:
        reached = _best(model, engine, machine, failed, batch=most)
        yield Concession(what="batch", text=f"{most} at once, not {failed.batch}", layout=reached)


def _smaller_cache(model: ModelFacts, engine: EngineProfile, machine: Hardware, failed: Layout) -> Iterator[Concession]:
    for kv_bytes in engine.kv_bytes:
        if kv_bytes < failed.kv_bytes:
            reached = _best(model, engine, machine, failed, kv_bytes=kv_bytes)
            if reached:
                bits = round(8 * kv_bytes)
                yield Concession(
                    what="cache", text=f"a cache in {bits} bits holds {reached.context:,} tokens", layout=reached
                )
                return


def _shorter(model: ModelFacts, engine: EngineProfile, machine: Hardware, failed: Layout) -> Iterator[Concession]:
    reached = _best(model, engine, machine, failed, stretch=True)
    if reached and reached.context < failed.context:
        yield Concession(what="context", text=f"a context of {reached.context:,} tokens", layout=reached)


def _fewer_bits(model: ModelFacts, engine: EngineProfile, machine: Hardware, failed: Layout) -> Iterator[Concession]:
    later = engine.precisions[engine.precisions.index(failed.precision) + 1 :]
    for precision in later:
        reached = _best(model, engine, machine, failed, precision=precision)
        if reached:
            size = gb(sum(sum(share.weights.values()) for share in reached.shares))
            yield Concession(what="precision", text=f"{precision}: {size} of weights", layout=reached)
            return


def _more_devices(model: ModelFacts, engine: EngineProfile, machine: Hardware, failed: Layout) -> Iterator[Concession]:
    here = [device for device in machine.devices if device.kind in engine.kinds]
    if not here or here[0].unified or len({device.name for device in here}) > 1:
        return
    for count in COUNTS:
        if count > len(here):
            grown = (*here, *(here[0].model_copy(update={"index": 1000 + n}) for n in range(count - len(here))))
            reached = _best(model, engine, machine.model_copy(update={"devices": grown}), failed)
            if reached:
                yield Concession(what="devices", text=f"{count} of {here[0].name}", layout=reached)
                return


def _best(
    model: ModelFacts,
    engine: EngineProfile,
    machine: Hardware,
    failed: Layout,
    *,
    precision: str | None = None,
    kv_bytes: float | None = None,
    batch: int | None = None,
    stretch: bool = False,
) -> Layout | None:
    """The usable layout of the context that failed, or (``stretch``) of the longest; of the failed kind, if any."""
    found = layouts(
        model,
        engine,
        machine,
        precision or failed.precision,
        context=None if stretch else failed.context or 1,
        batch=batch or failed.batch,
        kv_bytes=kv_bytes or failed.kv_bytes,
    )
    usable = [layout for layout in found if layout.usable]
    return max(usable, key=lambda layout: (layout.kind == failed.kind, layout.context), default=None)
