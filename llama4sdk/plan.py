"""What was decided, and why: the values a planner leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self, TypeAlias

from pydantic import Field, model_validator

from llama4sdk._error_values import Rejection
from llama4sdk._values import Value
from llama4sdk.capabilities import Capabilities
from llama4sdk.quantization import Quantization, QuantizationConfig

__all__ = [
    "Breakdown",
    "Decision",
    "Placement",
    "Plan",
    "Preference",
    "Quantization",
    "QuantizationConfig",
    "Rejection",
    "check_breakdown",
]

Breakdown: TypeAlias = dict[str, dict[str, int]]
"""Bytes by device and what they are for: a ``ModuleClass``, ``kv_cache``, ``workspace`` or ``runtime``."""


def check_breakdown(breakdown: Breakdown, memory: Mapping[str, int]) -> None:
    """Raise ValueError where a breakdown is given that is not that of ``memory``."""
    sums = {device: sum(parts.values()) for device, parts in breakdown.items()}
    if breakdown and sums != memory:
        raise ValueError(f"the breakdown adds up to {sums}, the memory is {dict(memory)}")


class Placement(Value):
    """Where the model runs: devices named as torch names them, or an endpoint's name when remote."""

    kind: Literal["local", "offload", "remote"]
    devices: tuple[str, ...]

    def __str__(self) -> str:
        where = " + ".join(self.devices)
        return where if self.kind == "local" else f"{where} ({self.kind})"


class Decision(Value):
    """One choice and the reason for it."""

    what: str
    value: str
    reason: str


class Plan(Value):
    """Everything ``Backend.load`` needs, with the reasons for it."""

    model: str
    backend: str
    source: str | None = None
    """Where the weights are: a file or directory, or ``None`` for a backend that keeps its own."""
    placement: Placement
    quantization: Quantization | QuantizationConfig | None = None
    """One scheme, or one for each class of modules; ``None`` for a backend that has no weights to speak of."""
    context_length: int
    """Tokens of one conversation."""
    batch: int | None = None
    """Conversations it has room for at once, each with the whole context; ``None`` where the backend bounds none."""
    capabilities: Capabilities
    memory: dict[str, int] = Field(default_factory=dict)
    """Bytes needed per device."""
    breakdown: Breakdown = Field(default_factory=dict)
    """What these are for, where the backend says."""
    weight_bytes: int | None = None
    """What the weights alone take, where the backend says."""
    tokens_per_second: float | None = None
    """Of all the answers of the batch together, as predicted."""
    notice: str | None = None
    """One line that whoever uses this plan should be told."""
    decisions: tuple[Decision, ...] = ()
    rejections: tuple[Rejection, ...] = ()

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        check_breakdown(self.breakdown, self.memory)
        return self

    def explain(self) -> str:
        """The decisions, then what was turned down, as plain text."""
        lines = [f"{d.what}: {d.value} because {d.reason}" for d in self.decisions]
        return "\n".join([*lines, *map(str, self.rejections)])


Preference: TypeAlias = Literal["balanced", "quality", "speed", "context", "cost"]
"""``balanced`` keeps models on accelerators, in the best precision that fits there, but leaves them before it goes
below four bits a weight; ``quality`` takes Maverick before Scout and precision before speed; ``speed`` the fastest
prediction, and ``context`` the longest window, of at least four bits, too; ``cost`` the least dollars a token: nothing
on this machine, elsewhere what is known of the endpoint's price. Fewer than four bits, and less than 1.5 tokens a
second, are for want of better."""
