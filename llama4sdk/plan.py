"""A plan, and the reasons for it: the values that planning results in."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from pydantic import Field, model_validator

from llama4sdk._error_values import Rejection
from llama4sdk._values import Value
from llama4sdk.capabilities import Capabilities
from llama4sdk.quantization import Quantization, QuantizationConfig

__all__ = [
    "Breakdown",
    "Decision",
    "PlacedModel",
    "Placement",
    "Plan",
    "Preference",
    "Quantization",
    "QuantizationConfig",
    "Rejection",
]

#: Bytes by device and purpose: a ``ModuleClass``, ``kv_cache``, ``workspace`` or ``runtime``.
Breakdown: TypeAlias = dict[str, dict[str, int]]


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


class PlacedModel(Value):
    """A model on its devices, as a backend offers it and as a plan takes it: precision, context, memory and speed."""

    model: str
    #: The file or directory of the weights; ``None`` for a backend that keeps its own.
    source: str | None = None
    placement: Placement
    #: One scheme, or one for each class of modules; ``None`` for a backend that has no weights to speak of.
    quantization: Quantization | QuantizationConfig | None = None
    #: Tokens of one conversation.
    context_length: int
    #: Conversations that there is room for at once, each with the whole context: those that ``memory`` counts. ``None``
    #: is one where memory is counted, and no bound where it is not.
    batch: int | None = Field(default=None, ge=1)
    #: Bytes needed per device, the cache and working memory included.
    memory: dict[str, int] = Field(default_factory=dict)
    #: The same by purpose, where the backend says: it adds up to ``memory`` exactly.
    breakdown: Breakdown = Field(default_factory=dict)
    #: Bytes of the weights alone, where the backend says.
    weight_bytes: int | None = None
    #: Predicted speed of all the answers of the batch together, behind short prompts.
    tokens_per_second: float | None = None

    @model_validator(mode="after")
    def _check_breakdown(self) -> Self:
        sums = {device: sum(parts.values()) for device, parts in self.breakdown.items()}
        if sums and sums != self.memory:
            raise ValueError(f"the breakdown adds up to {sums}, the memory is {self.memory}")
        return self


class Plan(PlacedModel):
    """All that ``Backend.load`` needs, with the reasons for it."""

    backend: str
    capabilities: Capabilities
    #: One line that whoever uses this plan should read.
    notice: str | None = None
    decisions: tuple[Decision, ...] = ()
    rejections: tuple[Rejection, ...] = ()

    def explain(self) -> str:
        """The decisions, then the rejections, as plain text."""
        lines = [f"{d.what}: {d.value} because {d.reason}" for d in self.decisions]
        return "\n".join([*lines, *map(str, self.rejections)])


#: ``balanced`` keeps models on accelerators, in the best precision that fits there, but leaves them before it goes
#: below four bits a weight. ``quality`` takes Maverick before Scout and precision before speed. ``speed`` takes the
#: fastest prediction, and ``context`` the longest window, both of at least four bits. ``cost`` takes the least dollars
#: a token: nothing on this machine, elsewhere the endpoint's price. Fewer than four bits, and less than 1.5 tokens a
#: second, are for want of better. ``capacity.ranking`` has the criteria.
Preference: TypeAlias = Literal["balanced", "quality", "speed", "context", "cost"]
