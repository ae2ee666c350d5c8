"""Speeds by the roofline model: bytes read and operations computed for each token, over the machine's rates. Pure.

Decoding reads every weight a token passes through, and the cache of what was said before; a batch shares the weights,
but its tokens choose different experts. Prefill computes. Neither reaches the speed a machine is specified for: how far
an engine gets is its calibration, and differs so much (17 to 84 % have been measured) that a prediction is an interval.

Not modelled: speculative decoding, prefix caches, an uneven choice of experts, the network between machines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from pydantic import Field, field_validator

from llama4sdk._values import Value
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.sizes import kv_cache_bytes, linears
from llama4sdk.quantization import ModuleClass

#: Bytes of all weights of each class.
ClassBytes: TypeAlias = Mapping[ModuleClass, int]


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
    """The shares of specified rates that an engine reaches on one kind of machine, cautious and hopeful."""

    engine: str
    version: str
    site: Literal["accelerator", "unified", "cpu"]
    #: The schemes of the weights that were measured; empty for all that no other entry names.
    schemes: tuple[str, ...] = ()
    bandwidth: tuple[float, float]
    compute: tuple[float, float]
    #: Seconds that a step takes besides.
    overhead: float = Field(default=0.0, ge=0, lt=1)
    label: Literal["measured", "modelled", "guessed"]
    source: str
    #: The month it was measured, published or guessed.
    date: str = Field(pattern=r"^\d{4}-\d\d$")

    @field_validator("bandwidth", "compute")
    @classmethod
    def _check_share(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not 0 < ends[0] <= ends[1] <= 1:
            raise ValueError("a share lies between 0 and 1, its cautious end first")
        return ends


class Site(Value):
    """A place where weights lie and are computed with: equal devices, or a processor with its memory."""

    name: str
    #: Bytes per second of all devices together.
    bandwidth: int
    #: Operations per second of all together, in the format the weights are computed in.
    flops: float


class NetworkPart(Value):
    """The classes of modules that lie at one site, with the engine's calibration there."""

    modules: frozenset[ModuleClass]
    site: Site
    calibration: Calibration
    #: The share of the routed experts that lie here, where they are among the modules.
    experts: float = 1.0


def step_bytes(
    config: TextConfig,
    weights: ClassBytes,
    modules: frozenset[ModuleClass],
    *,
    tokens: int = 1,
    experts: float = 1.0,
) -> float:
    """Bytes of weights that one step over ``tokens`` tokens reads from these classes, and this share of the experts.

    Of the routed experts those are read that some token chose; every expert is taken to be as likely.
    """
    chosen = 1.0
    if config.num_experts:
        chosen = (1 - (1 - config.experts_per_token / config.num_experts) ** tokens) * experts
    counted = modules - {"embedding", "vision"}  # of an embedding one row is read; vision has no part in decoding
    read = sum(size * (chosen if module == "experts" else 1.0) for module, size in weights.items() if module in counted)
    if config.tied_embeddings and "head" in modules and "head" not in weights:
        read += weights.get("embedding", 0)
    return read


def token_flops(config: TextConfig, modules: frozenset[ModuleClass], context: int, *, experts: float = 1.0) -> float:
    """Operations of one token behind ``context`` others: two for each weight it passes through, and attention."""
    chosen = config.experts_per_token / config.num_experts * experts if config.num_experts else 1.0
    flops = 0.0
    for linear in linears(config):
        if linear.module in modules and linear.module != "embedding":
            flops += 2 * linear.parameters * (chosen if linear.module == "experts" else 1.0)
    if "attention" in modules:
        local = min(context, config.chunk_size or context)
        chunked = len(config.chunked_layers)
        attended = (config.num_layers - chunked) * context + chunked * local
        flops += 4 * config.num_heads * config.head_dim * attended
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
    """Tokens per second of all ``batch`` answers, each behind ``context`` tokens; ``value_bytes`` is 2 for bf16."""

    def step_seconds(end: Literal[0, 1]) -> float:
        """Seconds for one token of each answer; parts at different sites wait for each other."""
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

    return Interval(low=batch / step_seconds(0), high=batch / step_seconds(1))


def prefill_speed(config: TextConfig, parts: Sequence[NetworkPart], *, tokens: int) -> Interval:
    """Tokens per second of a prompt of ``tokens`` tokens, which on average attend to half of it."""

    def seconds(end: Literal[0, 1]) -> float:
        total = 0.0
        for part in parts:
            flops = token_flops(config, part.modules, tokens // 2, experts=part.experts)
            total += tokens * flops / (part.site.flops * part.calibration.compute[end])
        return total

    return Interval(low=tokens / seconds(0), high=tokens / seconds(1))
