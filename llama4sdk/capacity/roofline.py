"""How fast a model would run: what has to be read and computed for each token, over what a machine can do. Pure.

Decoding reads every weight a token passes through, and the cache of what was said before; a batch shares the weights,
but its tokens choose different experts. Prefill computes. Neither reaches the speed a machine is specified for: how far
an engine gets is its calibration, and differs so much (17 to 84 % have been measured) that a prediction is an interval.

Not modelled: speculative decoding, prefix caches, an uneven choice of experts, the network between machines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from pydantic import Field, field_validator

from llama4sdk._values import Value
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.sizes import kv_cache_bytes, linears
from llama4sdk.quantization import ModuleClass

__all__ = [
    "Calibration",
    "ClassBytes",
    "Interval",
    "NetworkPart",
    "Site",
    "decode_speed",
    "largest_batch",
    "prefill_speed",
    "served_speed",
    "step_bytes",
    "token_flops",
]

ClassBytes: TypeAlias = Mapping[ModuleClass, int]
"""Bytes of all weights of each class."""

ENDS: Final[tuple[Literal[0], Literal[1]]] = (0, 1)
"""Cautious, hopeful."""

LARGEST_BATCH: Final = 2048
"""Requests an engine answers at once, at most."""


class Interval(Value):
    """Tokens per second, between a cautious and a hopeful prediction."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The geometric mean: as far from one end as from the other."""
        return math.sqrt(self.low * self.high)

    def __str__(self) -> str:
        return f"{self.low:.3g} to {self.high:.3g} tokens/s"


class Calibration(Value):
    """How far an engine gets on one kind of machine: shares of what is specified, cautious and hopeful."""

    engine: str
    version: str
    site: Literal["accelerator", "unified", "cpu"]
    schemes: tuple[str, ...] = ()
    """What weights are held in, where the engine has been measured so; empty for all that no other entry names."""
    bandwidth: tuple[float, float]
    compute: tuple[float, float]
    overhead: float = Field(default=0.0, ge=0, lt=1)
    """Seconds that a step takes besides."""
    label: Literal["measured", "modelled", "guessed"]
    source: str
    date: str = Field(pattern=r"^\d{4}-\d\d$")
    """When it was measured or published, or guessed."""

    @field_validator("bandwidth", "compute")
    @classmethod
    def _share(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not 0 < ends[0] <= ends[1] <= 1:
            raise ValueError("a share lies between 0 and 1, its cautious end first")
        return ends


class Site(Value):
    """Where weights lie and work is done: one or more equal devices, or a processor with its memory."""

    name: str
    bandwidth: int
    """Bytes per second of all devices together."""
    flops: float
    """Operations per second of all together, in the format the weights are computed in."""


class NetworkPart(Value):
    """The classes of modules that lie at a site, and how far the engine gets there."""

    modules: frozenset[ModuleClass]
    site: Site
    calibration: Calibration
    experts: float = 1.0
    """The share of the routed experts that lie here, where they are among the modules."""


def step_bytes(
    config: TextConfig,
    weights: ClassBytes,
    modules: frozenset[ModuleClass],
    *,
    tokens: int = 1,
    experts: float = 1.0,
) -> float:
    """Bytes of weights that one step over ``tokens`` tokens reads from these classes, and this share of the experts.

    Of the routed experts those are read that some token chose; which, is taken as even chance.
    """
    read = 0.0
    for module, size in weights.items():
        if module not in modules or module in ("embedding", "vision"):
            continue  # of an embedding one row is read; vision has no part in decoding
        share = 1.0
        if module == "experts" and config.num_experts:
            share = (1 - (1 - config.experts_per_token / config.num_experts) ** tokens) * experts
        read += size * share
    if config.tied_embeddings and "head" in modules and "head" not in weights:
        read += weights.get("embedding", 0)
    return read


def token_flops(config: TextConfig, modules: frozenset[ModuleClass], context: int, *, experts: float = 1.0) -> float:
    """Operations of one token behind ``context`` others: two for each weight it passes through, and attention."""
    flops = 0.0
    for linear in linears(config):
        if linear.module not in modules or linear.module == "embedding":
            continue
        share = 1.0
        if linear.module == "experts" and config.num_experts:
            share = config.experts_per_token / config.num_experts * experts
        flops += 2 * linear.parameters * share
    if "attention" in modules:
        local = min(context, config.chunk_size or context)
        chunked = len(config.chunked_layers)
        seen = (config.num_layers - chunked) * context + chunked * local
        flops += 4 * config.num_heads * config.head_dim * seen
    return flops


def decode_speed(
    config: TextConfig,
    weights: ClassBytes,
    parts: Sequence[NetworkPart],
    *,
    context: int,
    batch: int = 1,
    value_bytes: float = 2,
) -> Interval:
    """Tokens per second of all ``batch`` answers together, each behind ``context`` tokens.

    ``value_bytes`` is what a value of the cache takes: 2 for bf16, 1 for fp8.
    """
    steps = [_step(config, weights, parts, context, batch, value_bytes, end) for end in ENDS]
    return Interval(low=batch / steps[0], high=batch / steps[1])


def prefill_speed(config: TextConfig, parts: Sequence[NetworkPart], *, tokens: int) -> Interval:
    """Tokens per second of a prompt of ``tokens`` tokens."""
    seconds = [_reading(config, parts, tokens, end) for end in ENDS]
    return Interval(low=tokens / seconds[0], high=tokens / seconds[1])


def served_speed(
    config: TextConfig,
    weights: ClassBytes,
    part: NetworkPart,
    *,
    prompt: int,
    answer: int,
    batch: int,
    value_bytes: float = 2,
) -> Interval:
    """Tokens per second of all answers together, of a server that always has ``batch`` requests of this size."""
    speeds = []
    for end in ENDS:
        step = _step(config, weights, [part], prompt + answer // 2, batch, value_bytes, end)
        seconds = answer * step + batch * _reading(config, [part], prompt, end)
        speeds.append(batch * answer / seconds)
    return Interval(low=speeds[0], high=speeds[1])


def largest_batch(pool: int, one: int) -> int:
    """Requests that a cache of ``pool`` bytes holds at once, each taking ``one``; at least one, at most 2048."""
    return max(1, min(LARGEST_BATCH, pool // max(1, one)))


def _step(
    config: TextConfig,
    weights: ClassBytes,
    parts: Sequence[NetworkPart],
    context: int,
    batch: int,
    value_bytes: float,
    end: Literal[0, 1],
) -> float:
    """Seconds of one token of each answer; layers at different sites wait for each other."""
    seconds = 0.0
    for part in parts:
        read = step_bytes(config, weights, part.modules, tokens=batch, experts=part.experts)
        if "attention" in part.modules:  # beyond its chunk a local layer reads nothing, whatever the engine keeps
            read += kv_cache_bytes(config, context, value_bytes=1, chunk_aware=True) * value_bytes * batch
        computed = token_flops(config, part.modules, context, experts=part.experts) * batch
        reading = read / (part.site.bandwidth * part.calibration.bandwidth[end])
        computing = computed / (part.site.flops * part.calibration.compute[end])
        seconds += max(reading, computing) + part.calibration.overhead
    return seconds


def _reading(config: TextConfig, parts: Sequence[NetworkPart], tokens: int, end: Literal[0, 1]) -> float:
    """Seconds a prompt takes; on average its tokens see half of it."""
    seconds = 0.0
    for part in parts:
        flops = token_flops(config, part.modules, tokens // 2, experts=part.experts)
        seconds += tokens * flops / (part.site.flops * part.calibration.compute[end])
    return seconds
