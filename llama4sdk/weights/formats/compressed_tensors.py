"""Quantized weights as the compressed-tensors package stores them: the tensors of each weight, and its values.

    X.weight, X.weight_scale                     8-bit floats or integers, a scale per tensor or output channel
    X.weight_packed, X.weight_scale, X.weight_shape    4- or 8-bit integers in int32 words, lowest bits first, and a
                                                 scale per output channel or per group of inputs

with ``X.weight_zero_point`` where the integers are not symmetric and ``X.weight_g_idx`` where groups are not in order.
A weight is quantized when it has a scale, whatever the configuration's list of ignored modules says. Scales of
activations (``X.input_scale``) are ignored: activations are not quantized here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from llama4sdk.errors import CheckpointError
from llama4sdk.quantization import MatrixFormat, Quantization
from llama4sdk.weights.checkpoint import TensorInfo
from llama4sdk.weights.formats.quantized import QuantizedTensor

FORMATS: Final = ("dense", "float-quantized", "naive-quantized", "int-quantized", "pack-quantized", "mixed-precision")
COMPANIONS: Final = ("packed", "scale", "shape", "zero_point", "g_idx")
ACTIVATION_SCALES: Final = re.compile(r".*\.(input_(scale|zero_point|global_scale)|[qkv]_scale)$")
SCHEMES: Final = {"F8_E4M3": Quantization.FP8, "I8": Quantization.INT8, "I4": Quantization.INT4}
FLOATS: Final = {"F32": Quantization.FP32, "BF16": Quantization.BF16, "F16": Quantization.FP16}
#: Width of the integers that narrower ones are packed into.
WORD_BITS: Final = 32

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]


def check_scheme(config: Mapping[str, JsonValue]) -> bool:
    """Whether a ``config.json`` states a supported quantization. Raises CheckpointError for an unsupported one."""
    scheme = config.get("quantization_config") or config.get("compression_config")
    if scheme is None:
        return False
    fields = scheme if isinstance(scheme, Mapping) else {}
    method, form = fields.get("quant_method", "compressed-tensors"), fields.get("format", "dense")
    if method == "compressed-tensors" and form in FORMATS:
        return True
    name = f"'{form}' of {method}" if method == "compressed-tensors" else f"{method!r}"
    raise CheckpointError(
        f"The checkpoint is quantized as {name}, which cannot be read.",
        hint=f"Formats that can: {', '.join(FORMATS[1:])} of compressed-tensors, and those of GGUF files.",
    )


class CompressedTensors:
    """The weights that stored tensors make up. ``quantized`` are the names of those with scales.

    ``stored`` describes the stored tensors, ``read`` returns the values of one. Raises CheckpointError for packed
    weights without their other parts.
    """

    def __init__(self, stored: Mapping[str, TensorInfo], read: Callable[[str], Array]) -> None:
        self._stored = stored
        self._read = read
        names = {name.removesuffix("_scale") for name in stored if name.endswith(".weight_scale")}
        names |= {name.removesuffix("_packed") for name in stored if name.endswith(".weight_packed")}
        parts = {f"{name}_{kind}" for name in names for kind in COMPANIONS}
        plain = {name: info for name, info in stored.items() if name not in parts and not ACTIVATION_SCALES.match(name)}
        self.quantized = frozenset(names)
        self.tensors = plain | {name: self._info(name) for name in names}

    def dequantize(self, name: str) -> Floats:
        """The values of a quantized weight. Raises CheckpointError when its parts do not fit together."""
        scale = self._read(f"{name}_scale").astype(np.float32)
        if self._has(name, "packed"):
            columns = self._shape(name)[1]
            values = _unpack(self._packed(name), columns, self._bits(name, columns))
        else:
            values = self._read(name).astype(np.float32)
        zero = self._zero_point(name, values.shape) if self._has(name, "zero_point") else None
        order = self._read(f"{name}_g_idx") if self._has(name, "g_idx") else None
        try:
            return _scale(values, scale, zero, order)
        except (ValueError, IndexError) as error:
            raise CheckpointError(
                f"The parts of the quantized tensor '{name}' do not fit together: {error}."
            ) from error

    def stored_form(self, name: str) -> MatrixFormat | None:
        """The format of a quantized weight that ``read_quantized`` can return; ``None`` for others."""
        info, scale = self.tensors[name], self._stored[f"{name}_scale"]
        if self._has(name, "zero_point") or self._has(name, "g_idx") or scale.dtype not in FLOATS:
            return None
        scheme = SCHEMES.get(info.dtype)
        rows, groups = scale.shape if len(scale.shape) == 2 else (scale.size, 1)
        outputs, inputs = info.shape if len(info.shape) == 2 else (0, 0)
        if scheme is None or not groups or inputs % groups or (rows != outputs and scale.size != 1):
            return None
        group_size = inputs // groups if groups > 1 else None
        return MatrixFormat(scheme=scheme, group_size=group_size, scale=FLOATS[scale.dtype])

    def read_quantized(self, name: str) -> QuantizedTensor:
        """Read codes and scales of a weight that has a ``stored_form``; a scale of the whole is repeated per row."""
        form = self.stored_form(name)
        if form is None:
            raise CheckpointError(f"The quantized tensor '{name}' cannot be kept as it is stored.")
        outputs, inputs = self.tensors[name].shape
        if self._has(name, "packed"):
            width = -(-inputs * form.scheme.bits // 8)
            packed = np.ascontiguousarray(self._packed(name).view(np.uint8)[:, :width])
            int8 = form.scheme is Quantization.INT8  # packed integers are offset by half their range
            codes: Array = (packed ^ np.uint8(0x80)).view(np.int8) if int8 else packed
        else:
            codes = self._read(name)
        scale = self._read(f"{name}_scale").reshape(-1, inputs // form.group_size if form.group_size else 1)
        return QuantizedTensor(form=form, codes=codes, scale=np.broadcast_to(scale, (outputs, scale.shape[1])))

    def _has(self, name: str, kind: str) -> bool:
        return f"{name}_{kind}" in self._stored

    def _info(self, name: str) -> TensorInfo:
        parts = (name, *(f"{name}_{kind}" for kind in COMPANIONS))
        nbytes = sum(self._stored[part].nbytes for part in parts if part in self._stored)
        if not self._has(name, "packed"):
            if name not in self._stored:
                raise CheckpointError(f"The checkpoint has '{name}_scale', but no '{name}'.")
            return self._stored[name]._replace(nbytes=nbytes)
        if not self._has(name, "scale"):
            raise CheckpointError(f"The checkpoint has '{name}_packed', but no '{name}_scale'.")
        shape = self._shape(name)
        return TensorInfo(shape, f"I{self._bits(name, shape[1])}", nbytes)

    def _shape(self, name: str) -> tuple[int, int]:
        if not self._has(name, "shape") or self._stored[f"{name}_shape"].shape != (2,):
            raise CheckpointError(f"The checkpoint has '{name}_packed', but its '{name}_shape' is no pair of numbers.")
        rows, columns = (int(size) for size in self._read(f"{name}_shape").tolist())
        return rows, columns

    def _bits(self, name: str, columns: int) -> int:
        """Width of the packed integers: the one with which ``columns`` of them fill the stored words."""
        packed = self._stored[f"{name}_packed"]
        for bits in (4, 8):
            if packed.dtype == "I32" and len(packed.shape) == 2 and -(-columns * bits // WORD_BITS) == packed.shape[1]:
                return bits
        description = f"{list(packed.shape)} in {packed.dtype}"
        raise CheckpointError(
            f"'{name}_packed' is {description}, which does not hold {columns} columns of 4 or 8 bits."
        )

    def _packed(self, name: str) -> Array:
        """The packed words of a weight, [out, words]."""
        packed, rows = self._read(f"{name}_packed"), self._shape(name)[0]
        if len(packed) != rows:
            raise CheckpointError(f"'{name}_packed' has {len(packed)} rows, but '{name}_shape' says {rows}.")
        return np.ascontiguousarray(packed)

    def _zero_point(self, name: str, shape: tuple[int, ...]) -> Floats:
        """Zero points in the shape of the scale; those of packed weights are packed along the output channels."""
        values = self._read(f"{name}_zero_point")
        if not self._has(name, "packed") or values.dtype != np.int32:
            return values.astype(np.float32)
        return _unpack(values.T, shape[0], self._bits(name, shape[1])).T


def _unpack(words: Array, columns: int, bits: int) -> Floats:
    """[rows, words] -> [rows, columns]: signed integers, stored with an offset of half their range."""
    shifts = np.arange(0, WORD_BITS, bits, dtype=np.uint32)
    pieces = (np.ascontiguousarray(words).view(np.uint32)[:, :, None] >> shifts) & np.uint32(2**bits - 1)
    unsigned = pieces.reshape(len(words), -1)[:, :columns].astype(np.float32)
    return unsigned - np.float32(2 ** (bits - 1))


def _scale(values: Floats, scale: Floats, zero: Floats | None, order: Array | None) -> Floats:
    """Scale ``values`` [out, in]; ``scale`` and ``zero``: one number, [out, 1] or [out, groups]; ``order``: [in]."""
    if scale.ndim == 1 and scale.size > 1:
        scale, zero = scale[:, None], None if zero is None else zero.reshape(-1, 1)
    if scale.size == 1:
        scale, zero = scale.reshape(1, 1), None if zero is None else zero.reshape(1, 1)
    if order is not None and order.min() >= 0:  # all -1: groups are in order
        scale, zero = scale[:, order], None if zero is None else zero[:, order]
    if scale.shape[0] not in (1, values.shape[0]) or values.shape[1] % scale.shape[1]:
        raise ValueError(f"scales of shape {list(scale.shape)} for values of {list(values.shape)}")
    grouped = values.reshape(values.shape[0], scale.shape[1], -1)  # [out, groups, inputs of a group]
    if zero is not None:
        grouped = grouped - zero[:, :, None]
    with np.errstate(invalid="ignore", over="ignore"):  # loading checks for values that are not finite
        return (grouped * scale[:, :, None]).reshape(values.shape)
