"""A small runner of exported graphs, as plain as can be: numpy in, numpy out, one buffer for past and present."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
from llama4sdk_onnx import interface
from llama4sdk_onnx.export.graphs.text import DEFAULT_OPSET, text_graph
from llama4sdk_onnx.export.weights.text_weights import DTYPES, text_weight_files
from llama4sdk_onnx.export.weights.weight_file import WeightFile
from llama4sdk_onnx.manifest import Kind

from llama4sdk.llama4.config import TextConfig
from llama4sdk.quantization import QuantizationConfig
from llama4sdk.weights.checkpoint import Checkpoint

Array = npt.NDArray[np.generic]


def write_weights(files: Sequence[WeightFile], folder: Path) -> None:
    """The files of weights."""
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        values = file.values()
        with path.open("wb") as out:
            for tensor, offset in file.offsets():
                out.seek(offset)
                while out.tell() < offset + tensor.nbytes:
                    array = next(values)
                    assert array.dtype == tensor.dtype, tensor.name
                    out.write(np.ascontiguousarray(array).tobytes())
                assert out.tell() == offset + tensor.nbytes, tensor.name
        assert next(values, None) is None
        assert path.stat().st_size == file.size


def export(
    checkpoint: Checkpoint,
    folder: Path,
    quantization: str,
    *,
    kind: Kind = "fast",
    opset: int = DEFAULT_OPSET,
    patch_token: int | None = None,
    accuracy: int | None = None,
) -> Exported:
    """A checkpoint's graph and weights, ready to run. ``accuracy`` replaces the graph's own level."""
    config = QuantizationConfig.of(quantization)
    files = text_weight_files(checkpoint, config, kind=kind)
    write_weights(files, folder)
    model = text_graph(
        checkpoint.config,
        files,
        dtype=DTYPES[config.dtype],
        kind=kind,
        opset=opset,
        patch_token=patch_token,
    )
    for node in model.graph:
        if accuracy is not None and "accuracy_level" in node.attributes:
            node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", accuracy)
    ir.save(model, folder / "model.onnx")
    return Exported(folder, checkpoint.config, kind)


class Exported:
    """An export directory with a session of one thread."""

    def __init__(self, folder: Path, config: TextConfig, kind: Kind) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.config = config
        self.session = ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.dtype = np.float16 if "float16" in self.session.get_inputs()[-1].type else np.float32
        self.kind = kind

    def start(self, batch: int = 1, room: int = 64) -> Sequences:
        """Sequences without tokens yet."""
        return Sequences(self, batch, room)


class Sequences:
    """``batch`` sequences in one cache, each at its own length."""

    def __init__(self, exported: Exported, batch: int, room: int) -> None:
        self._exported = exported
        self.lengths = np.zeros(batch, np.int64)
        c = exported.config
        self._caches: dict[str, Array] = {}
        for layer in range(c.num_layers):
            slots = min(room, c.chunk_size or room) if layer in c.chunked_layers else room
            slots = 0 if exported.kind == "portable" else slots
            for name in interface.past(layer):
                self._caches[name] = np.zeros((batch, c.num_kv_heads, slots, c.head_dim), exported.dtype)

    def feed(
        self, tokens: npt.ArrayLike, counts: Sequence[int] | None = None, images: Array | None = None
    ) -> tuple[Array, Array]:
        """Logits and states of [batch, tokens] further tokens, cut where chunks end; behind ``counts`` is padding."""
        ids = np.array(tokens, np.int64)
        chunk = self._exported.config.chunk_size if self._exported.config.chunked_layers else None
        logits, states, begin = [], [], 0
        while begin < ids.shape[1]:
            left = ids.shape[1] - begin
            if chunk:
                left = min(left, int((chunk - self.lengths % chunk).min()))
            part = self._run(ids[:, begin : begin + left], counts, images)
            logits.append(part[0])
            states.append(part[1])
            begin += left
        return np.concatenate(logits, 1), np.concatenate(states, 1)

    def _run(self, ids: Array, counts: Sequence[int] | None, images: Array | None) -> list[Array]:
        batch, tokens = ids.shape
        e, c = self._exported, self._exported.config
        added = np.full(batch, tokens) if counts is None else np.array(counts)
        feeds: dict[str, Array] = {
            interface.IDS: ids,
            interface.POSITIONS: self.lengths[:, None] + np.arange(tokens),
            interface.LOGITS_AT: np.arange(batch * tokens),
        }
        wanted = {entry.name for entry in e.session.get_inputs()}
        if interface.IMAGES in wanted:
            feeds[interface.IMAGES] = np.zeros((0, c.hidden_size), e.dtype) if images is None else images
        local = self.lengths % c.chunk_size if c.chunk_size else self.lengths
        for names, before in (
            ((interface.GLOBAL_LAST, interface.GLOBAL_TOTAL), self.lengths),
            ((interface.LOCAL_LAST, interface.LOCAL_TOTAL), local),
        ):
            if names[0] in wanted:
                ends = before + added
                feeds[names[0]] = (ends - 1).astype(np.int32)
                feeds[names[1]] = np.array([ends.max()], np.int32)
        if e.kind == "portable":
            for layer in c.chunked_layers:
                for name in interface.past(layer):
                    self._caches[name] = self._caches[name][:, :, : int(local[0])]
            outputs = e.session.run(None, feeds | self._caches)
            self._caches = dict(zip(self._caches, outputs[2:], strict=True))
        else:
            outputs = self._bound(feeds)
        self.lengths = self.lengths + added
        return [outputs[0].reshape(batch, tokens, -1), outputs[1]]

    def _bound(self, feeds: dict[str, Array]) -> list[Array]:
        binding = self._exported.session.io_binding()
        held = {name: np.ascontiguousarray(value) for name, value in feeds.items()}  # ONNX Runtime keeps addresses
        for name, value in held.items():
            binding.bind_cpu_input(name, value)
        binding.bind_output(interface.LOGITS)
        binding.bind_output(interface.HIDDEN)
        for layer in range(self._exported.config.num_layers):
            for before, after in zip(interface.past(layer), interface.present(layer), strict=True):
                cache = self._caches[before]
                place = cache.dtype, cache.shape, cache.ctypes.data
                binding.bind_input(before, "cpu", 0, *place)
                binding.bind_output(after, "cpu", 0, *place)
        self._exported.session.run_with_iobinding(binding)
        outputs: list[Array] = binding.copy_outputs_to_cpu()[:2]
        return outputs
