"""Policies of engines for keys and values: ignoring chunks takes four times the memory for the same model.

Llama 4's local layers see one chunk of 8192 tokens. An engine that knows keeps at most that much for them; one that
does not keeps everything in every layer. Which it is depends on the engine, its version and its flags. Pure.
"""

from __future__ import annotations

from typing import Final

from llama4sdk._text import nearest
from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError
from llama4sdk.llama4.config import TextConfig

#: Tokens of which llama.cpp's caches are multiples.
LLAMA_CPP_PAD: Final = 256


class KVPolicy(Value):
    """The way one engine, in these versions and with these flags, keeps keys and values."""

    name: str
    engine: str
    versions: str
    chunk_aware: bool
    #: The flag or variable that changes it to the other way, or why there is none.
    switch: str
    #: Tokens a local layer keeps beyond its chunk: the block that is being read.
    extra_tokens: int = 0
    #: Tokens of which its caches are multiples.
    pad: int = 1
    source: str

    def bytes(
        self,
        config: TextConfig,
        context: int,
        *,
        value_bytes: float = 2,
        sequences: int = 1,
        layers: range | None = None,
    ) -> int:
        """Bytes for ``sequences`` contexts of ``context`` tokens, in all layers or in these.

        ``value_bytes`` is 2 for bf16 and 1 for fp8.
        """
        per_token = 2 * config.num_kv_heads * config.head_dim * value_bytes
        counted = range(config.num_layers) if layers is None else layers
        local = len(config.chunked_layers.intersection(counted)) if self.chunk_aware else 0
        total = context * sequences
        chunks = (config.chunk_size or context) * sequences + self.extra_tokens
        local_tokens = min(total, -(-chunks // self.pad) * self.pad)
        return int(per_token * ((len(counted) - local) * total + local * local_tokens))

    def longest_context(self, config: TextConfig, memory: int, *, value_bytes: float = 2) -> int:
        """The longest single sequence that ``memory`` bytes hold, within the model's own limit."""
        low, high = 0, config.max_context
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.bytes(config, middle, value_bytes=value_bytes) <= memory
            low, high = (middle, high) if fits else (low, middle - 1)
        return low


KV_POLICIES: Final = (
    KVPolicy(
        name="llama4sdk",
        engine="llama4sdk-torch",
        versions="all",
        chunk_aware=True,
        switch="always on",
        source="this project's cache, whose bytes its tests count",
    ),
    KVPolicy(
        name="llama.cpp",
        engine="llama.cpp",
        versions="since May 2025",
        chunk_aware=True,
        extra_tokens=512,
        pad=LLAMA_CPP_PAD,
        switch="--swa-full keeps everything, which shifting a context and reusing caches need",
        source="reproduced with llama-fit-params, build 11434",
    ),
    KVPolicy(
        name="llama.cpp --swa-full",
        engine="llama.cpp",
        versions="all",
        chunk_aware=False,
        switch="leave out --swa-full",
        source="reproduced with llama-fit-params, build 11434",
    ),
    KVPolicy(
        name="vllm",
        engine="vLLM",
        versions="0.32 and later",
        chunk_aware=True,
        extra_tokens=8192,
        pad=16,
        switch="--disable-hybrid-kv-cache-manager keeps everything; EAGLE does so, too",
        source="vLLM 0.32.0 on a CPU",
    ),
    KVPolicy(
        name="vllm-0.14",
        engine="vLLM",
        versions="up to at least 0.14",
        chunk_aware=False,
        switch="VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE=1",
        source="logs of vLLM 0.12.0 and 0.14.0rc1: 196,608 bytes a token",
    ),
    KVPolicy(
        name="sglang",
        engine="SGLang",
        versions="with hybrid KV",
        chunk_aware=True,
        switch="--hybrid-kvcache-ratio",
        source="SGLang's documentation of Llama 4",
    ),
    KVPolicy(
        name="sglang-full",
        engine="SGLang",
        versions="before hybrid KV",
        chunk_aware=False,
        switch="--hybrid-kvcache-ratio",
        source="SGLang's documentation of Llama 4",
    ),
    KVPolicy(
        name="transformers",
        engine="transformers and Meta's scripts",
        versions="all",
        chunk_aware=False,
        switch="none that is counted on: memory for the whole context is set aside",
        source="Meta's reference implementation, whose cache has every layer's whole length",
    ),
)


def find_policy(name: str) -> KVPolicy:
    """The policy of this name. Raises ConfigurationError with the nearest."""
    for policy in KV_POLICIES:
        if policy.name == name:
            return policy
    hint = nearest(name, [policy.name for policy in KV_POLICIES], "Known engines")
    raise ConfigurationError(f"Nothing is known of how '{name}' keeps its cache.", hint=hint)
