"""The keys and values of sequences, in the buffers that the graph reads and writes on its device.

``SharedCaches`` are of fast graphs, one buffer for what goes in and what comes out, ``GrowingCaches`` of portable ones,
which give back all they were given and what is new behind it.
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

__all__ = ["CPU", "BufferDevice", "GrowingCaches", "SharedCaches"]


class BufferDevice(NamedTuple):
    """Where buffers are, as ONNX Runtime names it."""

    kind: str
    number: int


CPU: Final = BufferDevice("cpu", 0)


class SharedCaches:
    """Room for sequences of up to ``context`` tokens, in one buffer for each layer's keys and one for its values.

    A buffer is [rows, kv_heads, slots, dim]: what neighbouring rows hold lies together, so any range of them can be
    bound by its address. Memory is taken as sequences and their tokens come: for as many rows as there are, each of the
    longest one's tokens (``cache_room``), never beyond ``context``; layers that see their own chunk take no more than
    that chunk.
    """

    def __init__(
        self, config: TextConfig, *, context: int, dtype: npt.DTypeLike = np.float32, buffer_device: BufferDevice = CPU
    ) -> None:
        self.rows = 0
        self.room = 0
        """Tokens of each row that memory was taken for."""
        self._context = context
        self._config = config
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        self._buffer_device = buffer_device
        self._buffers: list[OrtValue] = []

    @property
    def bytes(self) -> int:
        """Memory taken."""
        return self._bytes(self.rows, self.room)

    def planned_bytes(self, tokens: Sequence[int]) -> int:
        """Memory that sequences of these lengths take."""
        return self._bytes(len(tokens), cache_room(max(tokens, default=0), self._context))

    def holds(self, rows: int, tokens: int) -> bool:
        """Whether there is room for so many rows of so many tokens."""
        return rows <= self.rows and tokens <= self.room

    def reserve(self, rows: Sequence[int], tokens: int, filled: int) -> None:
        """Take memory for these rows, which are numbered anew in their order, and give back that of all others.

        Each gets room for ``tokens``, of which no row has more than ``filled`` yet. What was bound before must not be
        used again.
        """
        self.rows, self.room = len(rows), cache_room(tokens, self._context)
        buffers = self._buffers or [None] * (2 * self._config.num_layers)
        for number in range(len(buffers)):  # one by one: only one is there twice
            buffers[number] = self._moved(buffers[number], rows, self._slots(number // 2, self.room), filled)
        self._buffers = buffers

    def release(self) -> None:
        """Give all memory back. What was bound must not be used again."""
        self.rows = self.room = 0
        self._buffers = []

    def bind(self, binding: IOBinding, first: int, rows: int) -> None:
        """Make rows [first, first + rows) what a run reads and writes."""
        c, (kind, number) = self._config, self._buffer_device
        for layer in range(c.num_layers):
            shape = (rows, c.num_kv_heads, self._slots(layer, self.room), c.head_dim)
            before = first * c.num_kv_heads * self._slots(layer, self.room) * c.head_dim * self._dtype.itemsize
            for part, (name, out) in enumerate(zip(past(layer), present(layer), strict=True)):
                address = self._buffers[2 * layer + part].data_ptr() + before
                binding.bind_input(name, kind, number, self._dtype, shape, address)
                binding.bind_output(out, kind, number, self._dtype, shape, address)

    def _bytes(self, rows: int, room: int) -> int:
        slot = self._config.num_kv_heads * self._config.head_dim * self._dtype.itemsize
        return 2 * rows * slot * sum(self._slots(layer, room) for layer in range(self._config.num_layers))

    def _slots(self, layer: int, room: int) -> int:
        chunk = self._config.chunk_size if layer in self._config.chunked_layers else None
        return min(room, chunk or room)

    def _moved(self, old: OrtValue | None, rows: Sequence[int], slots: int, filled: int) -> OrtValue:
        shape = (len(rows), self._config.num_kv_heads, slots, self._config.head_dim)
        new = np.zeros(shape, self._dtype)  # a slot nobody sees still counts, 0 times what it holds
        if old is not None:
            stored = old.numpy()
            filled = min(filled, slots, stored.shape[2])
            for number, row in enumerate(rows):
                if row < len(stored):
                    new[number, :, :filled] = stored[row, :, :filled]
        return OrtValue.ortvalue_from_numpy(new, *self._buffer_device)


class GrowingCaches:
    """What each sequence has left behind, made anew by each run and kept where that has put it."""

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
        """Runs take what memory they need themselves."""
        return True

    def drop(self, row: int) -> None:
        """Forget a sequence."""
        self._rows.pop(row, None)

    def release(self) -> None:
        """Forget all."""
        self._rows.clear()

    def bind(self, binding: IOBinding, row: int, length: int) -> None:
        """Make a row of ``length`` tokens what a run reads. No other output may be bound before."""
        border = self._config.chunk_size and length % self._config.chunk_size == 0
        held = self._rows.get(row)
        for layer in range(self._config.num_layers):
            fresh = length == 0 or (border and layer in self._config.chunked_layers)
            for part, (name, out) in enumerate(zip(past(layer), present(layer), strict=True)):
                value = self._empty if held is None or fresh else held[2 * layer + part]
                binding.bind_ortvalue_input(name, value)
                binding.bind_output(out, *self._buffer_device)

    def keep(self, binding: IOBinding, row: int) -> None:
        """Take over what a run has written."""
        self._rows[row] = binding.get_outputs()[: 2 * self._config.num_layers]
