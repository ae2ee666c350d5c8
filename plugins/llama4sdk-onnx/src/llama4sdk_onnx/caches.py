"""The keys and values of sequences, in the memory of the graph's device.

``SharedCaches`` belong to fast graphs, which read and write one buffer, ``GrowingCaches`` to portable ones, which
return the past they were given with the new tokens behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from onnxruntime import IOBinding, OrtValue

from llama4sdk.capacity.torch_memory import cache_room
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.sizes import kv_cache_bytes
from llama4sdk_onnx.interface import past, present


class BufferDevice(NamedTuple):
    """The memory that buffers are in, as ONNX Runtime names it."""

    kind: str
    number: int


CPU: Final = BufferDevice("cpu", 0)


class SharedCaches:
    """Caches of sequences of up to ``context`` tokens, with one buffer for each layer's keys and one for its values.

    A buffer is [rows, kv_heads, slots, dim]: neighbouring rows are adjacent, so any range of them can be bound by
    its address. Memory is taken as sequences and their tokens come: for as many rows as there are, each of the
    longest one's tokens (``cache_room``), never beyond ``context``; layers that see their own chunk take no more than
    that chunk.
    """

    def __init__(
        self, config: TextConfig, *, context: int, dtype: npt.DTypeLike = np.float32, buffer_device: BufferDevice = CPU
    ) -> None:
        self.rows = 0
        #: Tokens of each row that memory was taken for.
        self.capacity = 0
        self._context = context
        self._config = config
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        self._buffer_device = buffer_device
        self._buffers: list[OrtValue] = []

    @property
    def bytes(self) -> int:
        """Memory taken."""
        return self._bytes(self.rows, self.capacity)

    def planned_bytes(self, tokens: Sequence[int]) -> int:
        """Memory that sequences of these lengths take."""
        return self._bytes(len(tokens), cache_room(max(tokens, default=0), self._context))

    def holds(self, rows: int, tokens: int) -> bool:
        """Whether there is room for so many rows of so many tokens."""
        return rows <= self.rows and tokens <= self.capacity

    def reserve(self, rows: Sequence[int], tokens: int, filled: int) -> None:
        """Take memory for these rows, which are numbered anew in their order, and free that of all others.

        Each gets room for ``tokens``; no row has more than ``filled`` yet. Earlier bindings must not be used again.
        """
        self.rows, self.capacity = len(rows), cache_room(tokens, self._context)
        buffers = self._buffers or [None] * (2 * self._config.num_layers)
        for number in range(len(buffers)):  # one by one, so that only one exists twice
            buffers[number] = self._copy_rows(buffers[number], rows, self._slots(number // 2, self.capacity), filled)
        self._buffers = buffers

    def release(self) -> None:
        """Free all memory. Earlier bindings must not be used again."""
        self.rows = self.capacity = 0
        self._buffers = []

    def bind(self, binding: IOBinding, first: int, rows: int) -> None:
        """Bind rows [first, first + rows) as inputs and outputs of a run."""
        c, (kind, number) = self._config, self._buffer_device
        for layer in range(c.num_layers):
            shape = (rows, c.num_kv_heads, self._slots(layer, self.capacity), c.head_dim)
            offset = first * c.num_kv_heads * self._slots(layer, self.capacity) * c.head_dim * self._dtype.itemsize
            for part, (name, out) in enumerate(zip(past(layer), present(layer), strict=True)):
                address = self._buffers[2 * layer + part].data_ptr() + offset
                binding.bind_input(name, kind, number, self._dtype, shape, address)
                binding.bind_output(out, kind, number, self._dtype, shape, address)

    def _bytes(self, rows: int, room: int) -> int:
        slot = self._config.num_kv_heads * self._config.head_dim * self._dtype.itemsize
        return 2 * rows * slot * sum(self._slots(layer, room) for layer in range(self._config.num_layers))

    def _slots(self, layer: int, room: int) -> int:
        chunk = self._config.chunk_size if layer in self._config.chunked_layers else None
        return min(room, chunk or room)

    def _copy_rows(self, old: OrtValue | None, rows: Sequence[int], slots: int, filled: int) -> OrtValue:
        shape = (len(rows), self._config.num_kv_heads, slots, self._config.head_dim)
        new = np.zeros(shape, self._dtype)  # also unseen slots are multiplied, by 0, so they must be finite
        if old is not None:
            stored = old.numpy()
            filled = min(filled, slots, stored.shape[2])
            for number, row in enumerate(rows):
                if row < len(stored):
                    new[number, :, :filled] = stored[row, :, :filled]
        return OrtValue.ortvalue_from_numpy(new, *self._buffer_device)


class GrowingCaches:
    """Caches that each run of a sequence makes anew, and that stay where the run has put them."""

    def __init__(
        self, config: TextConfig, *, dtype: npt.DTypeLike = np.float32, buffer_device: BufferDevice = CPU
    ) -> None:
        self._config = config
        self._buffer_device = buffer_device
        self._dtype = np.dtype(dtype)
        empty = np.zeros((1, config.num_kv_heads, 0, config.head_dim), dtype)
        self._empty = OrtValue.ortvalue_from_numpy(empty, *buffer_device)
        self._rows: dict[int, Sequence[OrtValue]] = {}

    @property
    def bytes(self) -> int:
        """Memory taken."""
        return sum(value.tensor_size_in_bytes() for row in self._rows.values() for value in row)

    def planned_bytes(self, tokens: Sequence[int]) -> int:
        """Memory that sequences of these lengths take."""
        size = self._dtype.itemsize
        return sum(kv_cache_bytes(self._config, count, value_bytes=size, chunk_aware=True) for count in tokens)

    def holds(self, rows: int, tokens: int) -> bool:
        """Always: runs take the memory they need themselves."""
        return True

    def drop(self, row: int) -> None:
        """Free a sequence's caches."""
        self._rows.pop(row, None)

    def release(self) -> None:
        """Free all caches."""
        self._rows.clear()

    def bind(self, binding: IOBinding, row: int, length: int) -> None:
        """Bind a row of ``length`` tokens as input, and its outputs. No other output may be bound before."""
        border = self._config.chunk_size and length % self._config.chunk_size == 0
        caches = self._rows.get(row)
        for layer in range(self._config.num_layers):
            fresh = length == 0 or (border and layer in self._config.chunked_layers)
            for part, (name, out) in enumerate(zip(past(layer), present(layer), strict=True)):
                value = self._empty if caches is None or fresh else caches[2 * layer + part]
                binding.bind_ortvalue_input(name, value)
                binding.bind_output(out, *self._buffer_device)

    def store_outputs(self, binding: IOBinding, row: int) -> None:
        """Store the caches that a run has written."""
        self._rows[row] = binding.get_outputs()[: 2 * self._config.num_layers]
