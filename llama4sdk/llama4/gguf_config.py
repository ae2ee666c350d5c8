"""Read a network's hyper-parameters from the metadata of a GGUF file.

A Llama network is a Llama 4 network without experts, chunks, QK norm and temperature tuning. The rows of q and k are
already in Llama 4's order: adjacent pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.config import RopeScaling, TextConfig, layer_count, number

#: The published (low, high) frequency factors: Llama 3.1 to 3.3, and Scout.
FREQUENCY_FACTORS: Final = ((1.0, 4.0), (1.0, 1.0))


def config_from_gguf(
    metadata: Mapping[str, JsonValue], *, tied_embeddings: bool, rope_factors: Sequence[float] = ()
) -> TextConfig:
    """Read the metadata of a GGUF file of architecture ``llama4`` or ``llama``.

    ``rope_factors`` is its ``rope_freqs.weight``, one divisor per rotated pair. Raises CheckpointError naming the
    missing or malformed field, or another architecture.
    """
    architecture = metadata.get("general.architecture")
    if architecture not in ("llama", "llama4"):
        raise CheckpointError(
            f"The GGUF file's architecture is {architecture!r}, not 'llama4' or 'llama'.",
            hint="Only Llama 4 networks, and Llama networks in GGUF form, can be loaded.",
        )
    prefix = f"{architecture}."
    fields = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    try:
        if architecture == "llama" and fields.get("expert_count"):
            raise ValueError("it is a mixture of experts of another kind (Mixtral)")
        common = _common_config(fields, rope_factors, tied=tied_embeddings)
        return common if architecture == "llama" else _llama4_config(fields, common)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        missing = f"{prefix}{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"The GGUF metadata do not describe a {architecture} network: {missing}.") from error


def _llama4_config(f: Mapping[str, JsonValue], common: TextConfig) -> TextConfig:
    """Facts that the format omits (chunk size, NoPE interval, QK norm by expert count) follow llama.cpp."""
    experts = int(number(f, "expert_count"))
    layers = layer_count(f, "block_count")
    step = int(number(f, "interleave_moe_layer_step"))
    full_attention = f.get("attention.sliding_window") == 0
    nope = frozenset() if full_attention else frozenset(range(3, layers, 4))
    return TextConfig.model_validate(
        common.model_dump()
        | {
            "expert_size": int(number(f, "expert_feed_forward_length")),
            "num_experts": experts,
            "experts_per_token": int(number(f, "expert_used_count", 1)),
            "moe_layers": frozenset(range(step - 1, layers, step)) if experts else frozenset(),
            "nope_layers": nope,
            "chunked_layers": frozenset() if full_attention else frozenset(range(layers)) - nope,
            "chunk_size": None if full_attention else 8192,
            "qk_norm": experts != 128,
            "temperature_tuning": not full_attention,
        }
    )


def _common_config(f: Mapping[str, JsonValue], rope_factors: Sequence[float], *, tied: bool) -> TextConfig:
    heads = int(number(f, "attention.head_count"))
    hidden = int(number(f, "embedding_length"))
    head_dim = int(number(f, "attention.key_length", hidden // heads))
    theta = _decimal(number(f, "rope.freq_base", 10000.0))
    if f.get("rope.scaling.type") not in (None, "none"):
        raise ValueError(f"rope scaling of type {f['rope.scaling.type']!r} is unknown for this architecture")
    if int(number(f, "rope.dimension_count", head_dim)) != head_dim:
        raise ValueError(f"only {f['rope.dimension_count']} of {head_dim} head dimensions are rotated")
    width = int(number(f, "feed_forward_length"))
    return TextConfig(
        vocab_size=int(number(f, "vocab_size")),
        hidden_size=hidden,
        num_layers=layer_count(f, "block_count"),
        num_heads=heads,
        num_kv_heads=int(number(f, "attention.head_count_kv", heads)),
        head_dim=head_dim,
        expert_size=width,
        dense_size=width,
        rope_theta=theta,
        rope_scaling=_find_scaling(rope_factors, theta, head_dim),
        norm_eps=_decimal(number(f, "attention.layer_norm_rms_epsilon")),
        max_context=int(number(f, "context_length")),
        tied_embeddings=tied,
    )


def _find_scaling(factors: Sequence[float], theta: float, head_dim: int) -> RopeScaling | None:
    """The scaling rule that gives these divisors; the format does not contain the rule's constants."""
    if not factors or max(factors) == 1:
        return None
    if len(factors) != head_dim // 2:
        raise ValueError(f"rope_freqs.weight has {len(factors)} divisors for {head_dim // 2} pairs")
    for low, high in FREQUENCY_FACTORS:
        rule = RopeScaling(factor=max(factors), low_freq_factor=low, high_freq_factor=high, original_context=8192)
        expected = [rule.divisor(theta ** (-2 * i / head_dim)) for i in range(head_dim // 2)]
        if all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(expected, factors, strict=True)):
            return rule
    raise ValueError("rope_freqs.weight follows no known scaling rule")


def _decimal(value: float) -> float:
    """Undo the rounding to float32: GGUF stores 1e-05 as 9.99999975e-06."""
    return float(f"{value:.7g}")
