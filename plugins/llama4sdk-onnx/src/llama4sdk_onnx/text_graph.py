"""The text graph in a session, with its caches: binds inputs, runs, and returns logits or states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnxruntime import InferenceSession, IOBinding, OrtValue, RunOptions

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.config import TextConfig
from llama4sdk_onnx import interface
from llama4sdk_onnx.caches import GrowingCaches, SharedCaches
from llama4sdk_onnx.sessions import SILENT, buffer_device, run_errors

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardPass:
    """One run of the network: further tokens of neighbouring rows."""

    #: The first of the rows.
    first: int
    ids: Ints  # [rows, tokens]
    lengths: Ints  # [rows], tokens that come before
    logits_at: Ints  # [n], of the flattened ids
    features: npt.NDArray[np.generic] | None = None  # [image tokens, hidden]


class TextGraph:
    """A session of the text graph, and the caches of sequences of at most ``context`` tokens.

    One thread at a time. Raises CheckpointError when the session's inputs are not those of such a graph.
    """

    def __init__(self, session: InferenceSession, config: TextConfig, *, context: int, device: str = "cpu") -> None:
        self._session = session
        self._config = config
        self._device = device
        self._buffer_device = buffer_device(device)
        types = {value.name: value.type for value in (*session.get_inputs(), *session.get_outputs())}
        _check(types, config)
        self._names = frozenset(types)
        self._features: npt.NDArray[np.generic] | None = None
        if interface.IMAGES in types:
            self._features = np.zeros((0, config.hidden_size), _dtype(types[interface.IMAGES]))
        self._hidden = _dtype(types[interface.HIDDEN])
        #: Whether several rows can share a run.
        self.batches = interface.GLOBAL_LAST in types
        dtype = _dtype(types[interface.past(0)[0]])
        self._caches: SharedCaches | GrowingCaches
        if self.batches:
            self._caches = SharedCaches(config, context=context, dtype=dtype, buffer_device=self._buffer_device)
        else:
            self._caches = GrowingCaches(config, dtype=dtype, buffer_device=self._buffer_device)
        self._steps: dict[tuple[int, int], IOBinding] = {}
        self._options = RunOptions()
        self._options.log_severity_level = SILENT
        # The default; without it every run searches for the entry, and fails slowly.
        self._options.add_run_config_entry("gpu_graph_id", "-1")

    @property
    def cache_bytes(self) -> int:
        """Bytes that the caches take now."""
        return self._caches.bytes

    def planned_cache_bytes(self, tokens: Sequence[int]) -> int:
        """Bytes that the caches of sequences of these lengths take."""
        return self._caches.planned_bytes(tokens)

    def holds(self, rows: int, tokens: int) -> bool:
        """Whether there is memory for so many rows of so many tokens."""
        return self._caches.holds(rows, tokens)

    def reserve(self, rows: Sequence[int], tokens: int, filled: int) -> None:
        """Make room for ``rows``, in their order from now on, of ``tokens``, of which ``filled`` are stored at most.

        Raises DeviceMemoryError.
        """
        if isinstance(self._caches, SharedCaches):
            self._steps.clear()  # they have the addresses of the old buffers
            with run_errors(self._device):
                self._caches.reserve(rows, tokens, filled)

    def logits(self, part: ForwardPass) -> Floats:
        """The logits of ``part.logits_at``, [n, vocabulary], in an array that no later run writes to."""
        logits = np.empty((len(part.logits_at), self._config.vocab_size), np.float32)
        binding = self._binding(part)
        if len(logits):
            binding.bind_ortvalue_output(interface.LOGITS, OrtValue.ortvalue_from_numpy(logits))
        self._run(binding, part)
        return logits

    def hidden(self, part: ForwardPass) -> Floats:
        """The final states, [rows, tokens, hidden]."""
        states = np.empty((*part.ids.shape, self._config.hidden_size), self._hidden)
        binding = self._bind(part)
        binding.bind_ortvalue_output(interface.HIDDEN, OrtValue.ortvalue_from_numpy(states))
        self._run(binding, part)
        return states.astype(np.float32, copy=False)

    def forget(self, row: int) -> None:
        """Free the caches of a row that is no longer used."""
        if isinstance(self._caches, GrowingCaches):
            self._caches.drop(row)

    def release(self) -> None:
        """Free the memory of all caches, when no row is used any more."""
        self._steps.clear()
        self._caches.release()

    def stop(self) -> None:
        """End a run in another thread with an error there, and every later run."""
        self._options.terminate = True

    def close(self) -> None:
        """Free caches and session; no run may follow."""
        self.release()
        self._session = None

    def _binding(self, part: ForwardPass) -> IOBinding:
        """The binding of a run; those of steps are used again, since the same rows come again."""
        rows, tokens = part.ids.shape
        if not self.batches or tokens > 1:
            return self._bind(part)
        key = (part.first, rows)
        if key not in self._steps:
            self._steps[key] = self._bind(part)
        return self._steps[key]

    def _bind(self, part: ForwardPass) -> IOBinding:
        binding = self._session.io_binding()
        if isinstance(self._caches, SharedCaches):
            self._caches.bind(binding, part.first, len(part.ids))
        else:
            self._caches.bind(binding, part.first, int(part.lengths[0]))
        return binding

    def _run(self, binding: IOBinding, part: ForwardPass) -> None:
        with run_errors(self._device):
            for name, value in self._feeds(part):
                binding.bind_cpu_input(name, value)
            if self._buffer_device.kind != "cpu":
                binding.synchronize_inputs()
            self._session.run_with_iobinding(binding, self._options)
            if self._buffer_device.kind != "cpu":
                binding.synchronize_outputs()
        if isinstance(self._caches, GrowingCaches):
            self._caches.store_outputs(binding, part.first)

    def _feeds(self, part: ForwardPass) -> list[tuple[str, npt.NDArray[Any]]]:
        tokens = part.ids.shape[1]
        feeds: list[tuple[str, npt.NDArray[Any]]] = [
            (interface.IDS, part.ids),
            (interface.POSITIONS, part.lengths[:, None] + np.arange(tokens)),
            (interface.LOGITS_AT, part.logits_at),
        ]
        if self._features is not None:
            features = self._features if part.features is None else part.features
            feeds.append((interface.IMAGES, np.ascontiguousarray(features, self._features.dtype)))
        if self.batches:
            feeds += _counts(interface.GLOBAL_LAST, interface.GLOBAL_TOTAL, part.lengths, tokens)
        if interface.LOCAL_LAST in self._names:
            lengths = part.lengths % (self._config.chunk_size or 1)
            feeds += _counts(interface.LOCAL_LAST, interface.LOCAL_TOTAL, lengths, tokens)
        return feeds


def _counts(last: str, total: str, lengths: Ints, tokens: int) -> list[tuple[str, npt.NDArray[np.int32]]]:
    """The slots of the rows' last tokens, and the number of slots of the longest."""
    lasts = (lengths + (tokens - 1)).astype(np.int32)
    return [(last, lasts), (total, lasts.max(keepdims=True) + np.int32(1))]


def _check(types: dict[str, str], config: TextConfig) -> None:
    needed = [interface.IDS, interface.POSITIONS, interface.LOGITS_AT, interface.LOGITS, interface.HIDDEN]
    for layer in range(config.num_layers):
        needed += [*interface.past(layer), *interface.present(layer)]
    if missing := [name for name in needed if name not in types]:
        raise CheckpointError(
            f"The graph has no {missing[0]!r}: it is not the text network that the manifest describes.",
            hint="Export the model again.",
        )


def _dtype(kind: str) -> np.dtype[Any]:
    return np.dtype(np.float16 if kind == "tensor(float16)" else np.float32)
