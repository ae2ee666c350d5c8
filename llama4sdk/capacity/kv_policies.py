"""Policies of engines for keys and values: ignoring chunks takes four times the memory for the same model.

Llama 4's local layers see one chunk of 8192 tokens. An engine that knows keeps at most that much for them; one that
does not keeps everything in every layer. Which it is depends on the engine, its version and its flags:
``kv_policies.csv`` has one row for each way.
"""

from __future__ import annotations

import csv
from importlib.resources import files
from typing import Final

from llama4sdk._text import nearest
from llama4sdk._values import Value
from llama4sdk.capacity.contexts import largest_fitting
from llama4sdk.errors import ConfigurationError
from llama4sdk.llama4.config import TextConfig


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
        """Bytes for ``sequences`` contexts of ``context`` tokens, in all layers or these; a value has 2 in bf16."""
        per_token = 2 * config.num_kv_heads * config.head_dim * value_bytes
        counted = range(config.num_layers) if layers is None else layers
        local = len(config.chunked_layers.intersection(counted)) if self.chunk_aware else 0
        total = context * sequences
        chunks = (config.chunk_size or context) * sequences + self.extra_tokens
        local_tokens = min(total, -(-chunks // self.pad) * self.pad)
        return int(per_token * ((len(counted) - local) * total + local * local_tokens))

    def longest_context(self, config: TextConfig, memory: int, *, value_bytes: float = 2) -> int:
        """The longest single sequence that ``memory`` bytes hold, within the model's own limit."""

        def fits(context: int) -> bool:
            return self.bytes(config, context, value_bytes=value_bytes) <= memory

        return largest_fitting(fits, config.max_context)


with files("llama4sdk.capacity").joinpath("kv_policies.csv").open(encoding="utf-8") as _file:
    KV_POLICIES: Final = tuple(KVPolicy.model_validate(row) for row in csv.DictReader(_file))


def find_policy(name: str) -> KVPolicy:
    """The policy of this name. Raises ConfigurationError with the nearest."""
    policies = {policy.name: policy for policy in KV_POLICIES}
    if name in policies:
        return policies[name]
    hint = nearest(name, policies, "Known engines")
    raise ConfigurationError(f"Nothing is known of how '{name}' keeps its cache.", hint=hint)
