"""The hyper-parameters of Llama 4's text network, read from Hugging Face's ``config.json``.

Per-layer facts (which layers rotate, which are mixtures) are derived here once, for all engines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Final

from pydantic import Field, JsonValue, TypeAdapter, ValidationError, model_validator

from llama4sdk._text import in_words
from llama4sdk._values import Value
from llama4sdk.errors import CheckpointError

Positive = Annotated[int, Field(ge=1)]

#: Most layers, and most experts, of a valid network; more come from a damaged file and would exhaust memory.
MAX_MODULES: Final = 4096


class RopeScaling(Value):
    """Llama 3's frequency scaling. With low = high (Scout) it is a step at the original context length."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def divisor(self, frequency: float) -> float:
        """The divisor of a pair's rotation, given its ``frequency`` in radians per token: 1 for fast pairs."""
        turns = self.original_context * frequency / (2 * math.pi)
        if turns < self.low_freq_factor:
            return self.factor
        if turns > self.high_freq_factor or self.high_freq_factor == self.low_freq_factor:
            return 1.0
        smooth = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        return 1 / ((1 - smooth) / self.factor + smooth)


class TextConfig(Value):
    """A text network. Sizes are counts of elements; positions and lengths are tokens."""

    vocab_size: Positive
    hidden_size: Positive
    num_layers: Positive
    num_heads: Positive
    num_kv_heads: Positive
    head_dim: Positive
    #: Inner width of a routed or shared expert.
    expert_size: Positive
    #: Inner width of a dense feed-forward layer.
    dense_size: Positive
    num_experts: Annotated[int, Field(le=MAX_MODULES)] = 0
    experts_per_token: int = 1
    moe_layers: frozenset[int] = frozenset()
    #: Layers without rotary positions.
    nope_layers: frozenset[int] = frozenset()
    #: Layers that attend only within a chunk; the others attend to all earlier positions.
    chunked_layers: frozenset[int] = frozenset()
    chunk_size: Positive | None = None
    rope_theta: float
    rope_scaling: RopeScaling | None = None
    qk_norm: bool = False
    temperature_tuning: bool = False
    floor_scale: float = 8192
    attn_scale: float = 0.1
    norm_eps: float
    max_context: Positive
    tied_embeddings: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> TextConfig:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"{self.num_heads} query heads do not divide among {self.num_kv_heads} key/value heads")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd, but rotary positions turn pairs")
        if self.chunked_layers and self.chunk_size is None:
            raise ValueError("layers are chunked but no chunk size is given")
        if self.moe_layers and not 1 <= self.experts_per_token <= self.num_experts:
            raise ValueError(f"{self.experts_per_token} experts per token out of {self.num_experts}")
        return self

    @classmethod
    def from_hf(cls, config: Mapping[str, JsonValue]) -> TextConfig:
        """Read a Hugging Face ``config.json`` of ``llama4_text``, or the text part of a ``llama4`` one.

        Raises CheckpointError naming the missing or malformed field, or another architecture.
        """
        is_multimodal = config.get("model_type") == "llama4"
        text = config.get("text_config") if is_multimodal else config
        if is_multimodal and not isinstance(text, Mapping):
            raise CheckpointError("config.json does not describe a Llama 4 text network: text_config is missing.")
        if (
            not isinstance(text, Mapping)
            or text.get("model_type", "llama4_text" if is_multimodal else None) != "llama4_text"
        ):
            raise CheckpointError(
                f"The checkpoint's architecture is {config.get('model_type')!r}, not 'llama4' or 'llama4_text'.",
                hint="Only Llama 4 networks, and Llama networks in GGUF form, can be loaded.",
            )
        with config_errors("config.json does not describe a Llama 4 text network"):
            return _read_hf(text)


@contextmanager
def config_errors(problem: str) -> Iterator[None]:
    """Raise errors in reading a configuration as CheckpointError with ``problem``; a KeyError is a missing field."""
    try:
        yield
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{problem}: {_cause(error)}.") from error


def _cause(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return in_words(error)
    if isinstance(error, ArithmeticError):
        return f"its sizes make no network ({error})"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


_INTS = TypeAdapter(list[int])
_KINDS = TypeAdapter(list[str])
_NUMBERS: TypeAdapter[dict[str, float | str | None]] = TypeAdapter(dict[str, float | str | None])


def _read_hf(c: Mapping[str, JsonValue]) -> TextConfig:
    if c.get("hidden_act", "silu") != "silu":
        raise ValueError(f"its activation is {c['hidden_act']!r}, not 'silu'")
    layers = layer_count(c, "num_hidden_layers")
    experts = int(number(c, "num_local_experts", 16))
    heads = int(number(c, "num_attention_heads"))
    hidden = int(number(c, "hidden_size"))
    chunk = None if c.get("attention_chunk_size", 8192) is None else int(number(c, "attention_chunk_size", 8192))
    nope = _nope_layers(c, layers)
    rope = _NUMBERS.validate_python(c.get("rope_parameters") or c.get("rope_scaling") or {})
    return TextConfig(
        vocab_size=int(number(c, "vocab_size")),
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=int(number(c, "num_key_value_heads", heads)),
        head_dim=int(number(c, "head_dim", hidden // heads)),
        expert_size=int(number(c, "intermediate_size")),
        dense_size=int(number(c, "intermediate_size_mlp", number(c, "intermediate_size"))),
        num_experts=experts,
        experts_per_token=int(number(c, "num_experts_per_tok", 1)),
        moe_layers=_moe_layers(c, layers) if experts else frozenset(),
        nope_layers=nope,
        chunked_layers=_chunked_layers(c, layers, nope) if chunk else frozenset(),
        chunk_size=chunk,
        rope_theta=float(rope.get("rope_theta") or number(c, "rope_theta", 500000.0)),
        rope_scaling=_rope_scaling(rope),
        qk_norm=bool(c.get("use_qk_norm", True)),
        temperature_tuning=bool(c.get("attn_temperature_tuning", True)),
        floor_scale=number(c, "floor_scale", 8192),
        attn_scale=number(c, "attn_scale", 0.1),
        norm_eps=number(c, "rms_norm_eps", 1e-5),
        max_context=int(number(c, "max_position_embeddings", 131072)),
        tied_embeddings=bool(c.get("tie_word_embeddings", False)),
    )


def number(c: Mapping[str, JsonValue], key: str, default: float | None = None) -> float:
    """The number under ``key``, or the default. Raises KeyError if it is missing, TypeError if it is no number."""
    value = c.get(key)
    if value is None:
        if default is None:
            raise KeyError(key)
        return default
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{key} is {value!r}, not a number")
    return value


def layer_count(c: Mapping[str, JsonValue], key: str) -> int:
    """The number of layers under ``key``. Raises like ``number``, and ValueError outside the valid range."""
    layers = int(number(c, key))
    if not 1 <= layers <= MAX_MODULES:
        raise ValueError(f"{key} is {layers}, not between 1 and {MAX_MODULES}")
    return layers


def _positive_step(c: Mapping[str, JsonValue], key: str, default: int) -> int:
    step = int(number(c, key, default))
    if step < 1:
        raise ValueError(f"{key} is {step}, not at least 1")
    return step


def _moe_layers(c: Mapping[str, JsonValue], layers: int) -> frozenset[int]:
    if c.get("moe_layers") is not None:
        return frozenset(_INTS.validate_python(c["moe_layers"]))
    step = _positive_step(c, "interleave_moe_layer_step", 1)
    return frozenset(range(step - 1, layers, step))


def _nope_layers(c: Mapping[str, JsonValue], layers: int) -> frozenset[int]:
    """Layers without rotation: those marked 0 in ``no_rope_layers``, or, if it is empty, those of the interval."""
    if flags := _INTS.validate_python(c.get("no_rope_layers") or []):
        return frozenset(i for i, rope in enumerate(flags[:layers]) if not rope)
    if kinds := _KINDS.validate_python(c.get("layer_types") or []):
        return frozenset(i for i, kind in enumerate(kinds) if kind == "full_attention")
    interval = _positive_step(c, "no_rope_layer_interval", 4)
    return frozenset(range(interval - 1, layers, interval))


def _chunked_layers(c: Mapping[str, JsonValue], layers: int, nope: frozenset[int]) -> frozenset[int]:
    if kinds := _KINDS.validate_python(c.get("layer_types") or []):
        return frozenset(i for i, kind in enumerate(kinds) if kind == "chunked_attention")
    return frozenset(range(layers)) - nope


def _rope_scaling(rope: Mapping[str, float | str | None]) -> RopeScaling | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(f"rope scaling of type {kind!r} is unknown for this architecture")
    return RopeScaling(
        factor=float(rope["factor"] or 1),
        low_freq_factor=float(rope["low_freq_factor"] or 1),
        high_freq_factor=float(rope["high_freq_factor"] or 1),
        original_context=int(rope["original_max_position_embeddings"] or 8192),
    )
