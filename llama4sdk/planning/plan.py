"""What was decided, and why: the values a planner leaves behind."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from llama4sdk._values import Value
from llama4sdk.capabilities import Capabilities

__all__ = ["Decision", "Placement", "Plan", "Quantization", "Rejection"]


class Quantization(StrEnum):
    """How weights are held in memory; the first three are full precision."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def bits(self) -> int:
        """Bits per weight, scales not counted."""
        return {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4}[self.value]

    @property
    def full_precision(self) -> bool:
        """Whether weights keep the precision they were published in."""
        return self.bits >= 16


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


class Rejection(Value):
    """What a backend could not offer: why, and what would change that."""

    backend: str
    model: str | None
    reason: str
    fix: str | None = None

    def __str__(self) -> str:
        fix = f" Fix: {self.fix}" if self.fix else ""
        return f"not {self.model or 'anything'} on {self.backend}: {self.reason}{fix}"


class Plan(Value):
    """Everything ``Backend.load`` needs, with the reasons for it."""

    model: str
    backend: str
    source: str | None = None
    """Where the weights are: a file or directory, or ``None`` for a backend that keeps its own."""
    placement: Placement
    quantization: Quantization | None = None
    context_length: int
    capabilities: Capabilities
    memory: dict[str, int] = Field(default_factory=dict)
    """Bytes needed per device."""
    tokens_per_second: float | None = None
    notice: str | None = None
    """One line that whoever uses this plan should be told."""
    decisions: tuple[Decision, ...] = ()
    rejections: tuple[Rejection, ...] = ()

    def explain(self) -> str:
        """The decisions, then what was turned down, as plain text."""
        lines = [f"{d.what}: {d.value} because {d.reason}" for d in self.decisions]
        return "\n".join([*lines, *map(str, self.rejections)])
