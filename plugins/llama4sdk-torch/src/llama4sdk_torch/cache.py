"""The keys and values that sequences have left behind, so that no token is computed twice.

The cache knows the architecture: layers that see everything keep everything, layers that see their own chunk keep that
chunk alone. In those a position's slot is its place in the chunk, so that a new chunk writes over the old one, of which
nothing is read again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llama4sdk.errors import ContextLengthError
from llama4sdk.llama4.config import TextConfig
from llama4sdk_torch.slot_mapping import Slots, Span, spans

__all__ = ["KVCache"]

GRAIN = 256
"""A cache grows by multiples of so many tokens."""


class KVCache:
    """Room for ``batch`` sequences of up to ``capacity`` tokens, each with a length of its own and without padding.

    Memory is taken as tokens come: what a prompt needs at once, then a quarter more at a time, in steps of 256 tokens
    and never beyond ``capacity``. So a short answer takes little even where the context is long, and yet a token is
    copied only a few times. Growing goes layer by layer: for a moment it takes one layer's old room besides.

    ``origin`` is the position of the first token; nothing that came before it is seen. It must be a multiple of the
    chunk size. With it a position of millions is reached without the millions.
    """

    def __init__(
        self,
        config: TextConfig,
        capacity: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
        batch: int = 1,
        origin: int = 0,
    ) -> None:
        if origin % (config.chunk_size or 1):
            raise ValueError(f"origin {origin} is not a multiple of the chunk size, {config.chunk_size}")
        self.capacity = capacity
        self.origin = origin
        self.room = 0
        """Tokens of each sequence that memory was taken for."""
        self._lengths = (0,) * batch
        self._config = config
        empty = torch.empty((2, batch, config.num_kv_heads, 0, config.head_dim), device=device, dtype=dtype)
        self._layers = [empty] * config.num_layers  # each [keys and values, batch, kv_heads, slots, dim]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens each sequence has left here."""
        return self._lengths

    @property
    def bytes(self) -> int:
        """Memory taken: ``planning.estimate.kv_cache_bytes(config, room, chunk_aware=True)`` for each sequence."""
        return sum(layer.nbytes for layer in self._layers)

    def reserve(self, tokens: int) -> None:
        """Take memory for sequences of ``tokens``. Raises ContextLengthError when that exceeds ``capacity``."""
        if tokens > self.capacity:
            raise ContextLengthError(
                f"{tokens} tokens exceed the cache, which was made for {self.capacity}.",
                hint="Make a larger cache, or shorten the text.",
                limit=self.capacity,
                requested=tokens,
            )
        if tokens > self.room:
            wanted = max(tokens, self.room + self.room // 4)
            self.room = min(self.capacity, -(-wanted // GRAIN) * GRAIN)
            for number in range(len(self._layers)):
                self._grow(number)

    def spans(self, counts: Sequence[int]) -> tuple[Span, ...]:
        """How ``counts`` further tokens of the sequences are to go through the network; there will be room for them."""
        lengths = self._lengths
        self.reserve(max(length + count for length, count in zip(lengths, counts, strict=True)))
        return tuple(spans(lengths, counts, self._config.chunk_size if self._config.chunked_layers else None))

    def append(self, layer: int, keys: Tensor, values: Tensor, slots: Slots) -> tuple[Tensor, Tensor]:
        """Store one layer's keys and values, [batch, kv_heads, tokens, dim], and give back those in ``slots.seen``."""
        held = self._layers[layer]
        for store, new in zip(held, (keys, values), strict=True):
            if slots.start is not None:
                store[:, :, slots.start : slots.seen] = new
            elif slots.real is not None:
                rows, columns = slots.real
                store[rows, :, slots.of_tokens[rows, columns]] = new[rows, :, columns]
        return held[0, :, :, : slots.seen], held[1, :, :, : slots.seen]

    def advance(self, span: Span) -> None:
        """Count the tokens of ``span`` as stored: all layers have them."""
        self._lengths = tuple(length + count for length, count in zip(self._lengths, span.counts, strict=True))

    def _grow(self, layer: int) -> None:
        old = self._layers[layer]
        chunk = self._config.chunk_size if layer in self._config.chunked_layers else None
        size = min(self.room, chunk or self.room)
        if size > old.shape[3]:
            new = old.new_zeros(
                (*old.shape[:3], size, old.shape[4])
            )  # a masked slot still counts, 0 times what it holds
            filled = min(max(self._lengths), old.shape[3])
            new[:, :, :, :filled] = old[:, :, :, :filled]
            self._layers[layer] = new
