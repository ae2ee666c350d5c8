"""Remedies for a layout that does not fit: each with the number it would reach, the cheapest first. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from llama4sdk._text import gb
from llama4sdk._values import Value
from llama4sdk.capacity.contexts import USUAL_CONTEXT, largest_fitting
from llama4sdk.capacity.engine_profiles import EngineProfile
from llama4sdk.capacity.layout import Layout
from llama4sdk.capacity.layouts import layouts
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.catalog.unified_memory import largest_gpu_memory, raise_gpu_memory_command
from llama4sdk.hardware import Hardware

#: Requests that are enough for a context so long that the table of requests is the obstacle.
FEW_REQUESTS: Final = 64

#: Devices of one kind that machines are sold with.
DEVICE_COUNTS: Final = (1, 2, 4, 8, 16)


class Remedy(Value):
    """One remedy. ``layout`` is the one it reaches, which fits; ``None`` where nothing but memory helps."""

    what: Literal["requests", "batch", "limit", "cache", "context", "precision", "devices", "memory"]
    #: The change and the number it reaches, for people.
    text: str
    layout: Layout | None


class _Problem(NamedTuple):
    """A layout that failed, and what it was made for."""

    model: ModelFacts
    engine: EngineProfile
    machine: Hardware
    failed: Layout

    def solve(
        self,
        *,
        precision: str | None = None,
        kv_bytes: float | None = None,
        batch: int | None = None,
        longest_context: bool = False,
    ) -> Layout | None:
        """The usable layout of the context that failed, or of the longest; of the failed kind if there is one."""
        failed = self.failed
        possible = layouts(
            self.model,
            self.engine,
            self.machine,
            precision or failed.precision,
            context=None if longest_context else failed.context or 1,
            batch=batch or failed.batch,
            kv_bytes=kv_bytes or failed.kv_bytes,
        )
        usable = [layout for layout in possible if layout.usable]
        return max(usable, key=lambda layout: (layout.kind == failed.kind, layout.context), default=None)


def find_remedies(model: ModelFacts, engine: EngineProfile, machine: Hardware, failed: Layout) -> tuple[Remedy, ...]:
    """The changes that would let ``failed`` fit: fewer requests, a smaller cache, a shorter context, and so on.

    All else stays as it was asked for. There is always one: where nothing else helps, the memory that is lacking.
    Empty for a layout that fits.
    """
    if failed.usable:
        return ()
    problem = _Problem(model, engine, machine, failed)
    remedies = (
        *_fewer_requests(problem),
        *(_higher_gpu_limit(problem) if failed.kind == "single" else ()),
        *_smaller_batch(problem),
        *_smaller_cache(problem),
        *_shorter_context(problem),
        *_fewer_bits(problem),
        *_more_devices(problem),
    )
    if remedies:
        return remedies
    worst = max(failed.shares, key=lambda share: share.missing)
    text = f"{gb(worst.missing)} more on {worst.device}" if worst.missing else failed.remedy or failed.support[1]
    return (Remedy(what="memory", text=text, layout=None),)


def mac_gpu_remedy(model: ModelFacts, engine: EngineProfile, machine: Hardware, slow: Layout) -> tuple[Remedy, ...]:
    """The higher limit that would bring a layout from a Mac's processor to its GPU; empty where it would not."""
    if slow.kind not in ("cpu", "disk"):
        return ()
    usual = slow.model_copy(update={"context": min(slow.context, USUAL_CONTEXT)})  # a processor's is all that fits
    return tuple(_higher_gpu_limit(_Problem(model, engine, machine, usual)))


def _fewer_requests(problem: _Problem) -> Iterator[Remedy]:
    engine = problem.engine
    if engine.table_rows > FEW_REQUESTS >= problem.failed.batch:
        smaller_table = engine.model_copy(update={"table_rows": FEW_REQUESTS})
        if layout := problem._replace(engine=smaller_table).solve():
            text = f"at most {FEW_REQUESTS} requests at once: {layout.context:,} tokens"
            yield Remedy(what="requests", text=text, layout=layout)


def _higher_gpu_limit(problem: _Problem) -> Iterator[Remedy]:
    """A Mac lends its GPU a part of the memory, which its owner may raise."""
    machine = problem.machine
    gpu = next((device for device in machine.devices if device.kind == "mps"), None)
    limit = largest_gpu_memory(machine.total_memory)
    if gpu is None or gpu.total_memory >= limit:
        return
    raised = gpu.model_copy(update={"total_memory": limit, "free_memory": limit})  # no more than the processor has free
    on_gpu = problem._replace(
        machine=machine.model_copy(update={"devices": (raised,)}),
        failed=problem.failed.model_copy(update={"kind": "single"}),
    )
    layout = on_gpu.solve()
    if layout and layout.kind == "single":
        text = f"let the GPU have {gb(limit)} of {gb(machine.total_memory)}: {raise_gpu_memory_command(limit)}"
        yield Remedy(what="limit", text=text, layout=layout)


def _smaller_batch(problem: _Problem) -> Iterator[Remedy]:
    batch = largest_fitting(lambda count: problem.solve(batch=count) is not None, problem.failed.batch - 1)
    if batch:
        text = f"{batch} at once, not {problem.failed.batch}"
        yield Remedy(what="batch", text=text, layout=problem.solve(batch=batch))


def _smaller_cache(problem: _Problem) -> Iterator[Remedy]:
    for kv_bytes in problem.engine.kv_bytes:
        if kv_bytes < problem.failed.kv_bytes and (layout := problem.solve(kv_bytes=kv_bytes)):
            text = f"a cache in {round(8 * kv_bytes)} bits holds {layout.context:,} tokens"
            yield Remedy(what="cache", text=text, layout=layout)
            return


def _shorter_context(problem: _Problem) -> Iterator[Remedy]:
    layout = problem.solve(longest_context=True)
    if layout and layout.context < problem.failed.context:
        yield Remedy(what="context", text=f"a context of {layout.context:,} tokens", layout=layout)


def _fewer_bits(problem: _Problem) -> Iterator[Remedy]:
    precisions = problem.engine.precisions
    for precision in precisions[precisions.index(problem.failed.precision) + 1 :]:
        if layout := problem.solve(precision=precision):
            size = gb(sum(sum(share.weights.values()) for share in layout.shares))
            yield Remedy(what="precision", text=f"{precision}: {size} of weights", layout=layout)
            return


def _more_devices(problem: _Problem) -> Iterator[Remedy]:
    devices = [device for device in problem.machine.devices if device.kind in problem.engine.kinds]
    if not devices or devices[0].unified or len({device.name for device in devices}) > 1:
        return
    for count in DEVICE_COUNTS:
        if count <= len(devices):
            continue
        added = (devices[0].model_copy(update={"index": 1000 + number}) for number in range(count - len(devices)))
        larger = problem.machine.model_copy(update={"devices": (*devices, *added)})
        if layout := problem._replace(machine=larger).solve():
            yield Remedy(what="devices", text=f"{count} of {devices[0].name}", layout=layout)
            return
