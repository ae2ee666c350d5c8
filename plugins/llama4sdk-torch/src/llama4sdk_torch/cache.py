"""The keys and values of a sequence, so that no token is computed twice.

The cache knows the architecture: layers that see everything keep everything, layers that see their own chunk keep that
chunk alone. In those a position's slot is its place in the chunk, so that a new chunk writes over the old one, of which
nothing is read again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from llama4sdk.capacity.torch_memory import PROMPT_BLOCK, cache_room
from llama4sdk.errors import ContextLengthError
from llama4sdk.llama4.config import TextConfig


class Slots(NamedTuple):
    """Slots [first, end) of one kind of layers take a sequence's next tokens, each of which sees all up to its own."""

    first: int
    end: int

    @property
    def causal(self) -> bool:
        """Whether several tokens fill the cache from its beginning, so that the plain triangle is their mask."""
        return self.first == 0 and self.end > 1

    @property
    def masked(self) -> bool:
        """Whether a mask must say which slots each token sees."""
        return self.first > 0 and self.end - self.first > 1

    def mask(self, begin: int, end: int, device: torch.device) -> Tensor:
        """True where a token, of the next ones' [begin, end), sees a slot: [tokens, slots]."""
        own = torch.arange(self.first + begin, min(self.first + end, self.end), device=device)
        return own.unsqueeze(1) >= torch.arange(self.end, device=device)


class KVCache:
    """Keys and values of one sequence of up to ``capacity`` tokens.

    Memory is taken as tokens come, in steps of about a quarter (``cache_room``) and never beyond ``capacity``. So a
    short answer takes little even where the context is long, and yet a token is copied only a few times. Growing goes
    layer by layer: for a moment it takes one layer's old room besides.

    ``origin`` is the position of the first token; nothing that came before it is seen. It must be a multiple of the
    chunk size. With it a position of millions is reached without the millions.
    """

    def __init__(
        self, config: TextConfig, capacity: int, *, device: torch.device, dtype: torch.dtype, origin: int = 0
    ) -> None:
        if origin % (config.chunk_size or 1):
            raise ValueError(f"origin {origin} is not a multiple of the chunk size, {config.chunk_size}")
        self.capacity = capacity
        self.origin = origin
        self.length = 0  #: Tokens that were stored.
        self.room = 0  #: Tokens that memory was taken for.
        self._config = config
        empty = torch.empty((2, config.num_kv_heads, 0, config.head_dim), device=device, dtype=dtype)
        self._layers = [empty] * config.num_layers  # each [keys and values, kv_heads, slots, dim]

    @property
    def bytes(self) -> int:
        """Memory taken: ``kv_cache_bytes(config, room, chunk_aware=True)``."""
        return sum(layer.nbytes for layer in self._layers)

    def next_block(self, count: int) -> int:
        """How many of ``count`` further tokens may go through the network at once: none crosses a chunk's border."""
        chunk = self._config.chunk_size if self._config.chunked_layers else None
        return min(count, PROMPT_BLOCK, chunk - self.length % chunk if chunk else PROMPT_BLOCK)

    def slots(self, count: int, *, chunked: bool) -> Slots:
        """The slots of ``count`` further tokens in layers that keep one chunk, or everything."""
        first = self.length % self._config.chunk_size if chunked and self._config.chunk_size else self.length
        return Slots(first, first + count)

    def reserve(self, tokens: int) -> None:
        """Take memory for ``tokens`` in all. Raises ContextLengthError when that exceeds ``capacity``."""
        if tokens > self.capacity:
            raise ContextLengthError(
                f"{tokens} tokens exceed the cache, which was made for {self.capacity}.",
                hint="Make a larger cache, or shorten the text.",
                limit=self.capacity,
                requested=tokens,
            )
        if tokens > self.room:
            self.room = cache_room(tokens, self.capacity)
            for number in range(len(self._layers)):
                self._grow(number)

    def append(self, layer: int, keys: Tensor, values: Tensor, slots: Slots) -> tuple[Tensor, Tensor]:
        """Store one layer's keys and values, [tokens, kv_heads, dim], and give back all up to theirs.

        [tokens, kv_heads, dim] -> [kv_heads, slots, dim] each.
        """
        stored = self._layers[layer]
        stored[0, :, slots.first : slots.end] = keys.transpose(0, 1)
        stored[1, :, slots.first : slots.end] = values.transpose(0, 1)
        return stored[0, :, : slots.end], stored[1, :, : slots.end]

    def advance(self, count: int) -> None:
        """Count further tokens as stored: all layers have them."""
        self.length += count

    def _grow(self, layer: int) -> None:
        old = self._layers[layer]
        chunk = self._config.chunk_size if layer in self._config.chunked_layers else None
        slots = min(self.room, chunk or self.room)
        if slots > old.shape[2]:
            new = old.new_zeros((*old.shape[:2], slots, old.shape[3]))
            filled = min(self.length, old.shape[2])
            new[:, :, :filled] = old[:, :, :filled]
            self._layers[layer] = new
