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
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from llama4sdk.errors import CheckpointError
from llama4sdk.quantization import MatrixFormat, Quantization

if TYPE_CHECKING:
    from llama4sdk.weights.checkpoint import TensorInfo
    from llama4sdk.weights.formats.quantized import QuantizedTensor

__all__ = ["check_scheme", "quantized_weights", "read_quantized", "restore", "stored_form"]

FORMATS: Final = ("dense", "float-quantized", "naive-quantized", "int-quantized", "pack-quantized", "mixed-precision")
COMPANIONS: Final = ("packed", "scale", "shape", "zero_point", "g_idx")
ACTIVATION_SCALES: Final = re.compile(r".*\.(input_(scale|zero_point|global_scale)|[qkv]_scale)$")
SCHEMES: Final = {
    "F8_E4M3": Quantization.FP8,
    "I8": Quantization.INT8,
    "I4": Quantization.INT4,
}
FLOATS: Final = {"F32": Quantization.FP32, "BF16": Quantization.BF16, "F16": Quantization.FP16}
#: Width of the integers that narrower ones are packed into.
WORD_BITS: Final = 32

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Read = Callable[[str], Array]


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


def quantized_weights(stored: Mapping[str, TensorInfo], read: Read) -> tuple[dict[str, TensorInfo], frozenset[str]]:
    """All weights by name, and the names of the quantized ones.

    ``read`` returns the values of a stored tensor. Raises CheckpointError for incomplete packed weights.
    """
    bases = {name.removesuffix("_scale") for name in stored if name.endswith(".weight_scale")}
    bases |= {name.removesuffix("_packed") for name in stored if name.endswith(".weight_packed")}
    parts = {f"{base}_{kind}" for base in bases for kind in COMPANIONS}
    plain = {name: info for name, info in stored.items() if name not in parts and not ACTIVATION_SCALES.match(name)}
    return plain | {base: _weight_info(base, stored, read) for base in bases}, frozenset(bases)


def restore(name: str, stored: Mapping[str, TensorInfo], read: Read) -> Floats:
    """Dequantize a weight. Raises CheckpointError when its parts do not fit together."""
    scale = read(f"{name}_scale").astype(np.float32)
    packed = f"{name}_packed" in stored
    values = _unpack_weight(name, stored, read) if packed else read(name).astype(np.float32)
    zero = None
    if f"{name}_zero_point" in stored:
        zero = _zero_point(name, values.shape, stored, read)
    order = read(f"{name}_g_idx") if f"{name}_g_idx" in stored else None
    try:
        return _dequantize(values, scale, zero, order)
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"The parts of the quantized tensor '{name}' do not fit together: {error}.") from error


def stored_form(name: str, info: TensorInfo, stored: Mapping[str, TensorInfo]) -> MatrixFormat | None:
    """The format of a quantized weight that ``read_quantized`` can return; ``None`` for others.

    ``info`` is its entry in ``quantized_weights``.
    """
    scale = stored[f"{name}_scale"]
    if f"{name}_zero_point" in stored or f"{name}_g_idx" in stored or scale.dtype not in FLOATS:
        return None
    scheme = SCHEMES.get(info.dtype)
    rows, groups = scale.shape if len(scale.shape) == 2 else (scale.size, 1)
    outputs, inputs = info.shape if len(info.shape) == 2 else (0, 0)
    if scheme is None or not groups or inputs % groups or (rows != outputs and scale.size != 1):
        return None
    return MatrixFormat(scheme=scheme, group_size=inputs // groups if groups > 1 else None, scale=FLOATS[scale.dtype])


def read_quantized(name: str, stored: Mapping[str, TensorInfo], read: Read) -> QuantizedTensor:
    """Read codes and scales of a weight that has a ``stored_form``; a scale of the whole tensor is repeated per row."""
    from llama4sdk.weights.formats.quantized import QuantizedTensor

    info = _weight_info(name, stored, read)
    form = stored_form(name, info, stored)
    if form is None:
        raise CheckpointError(f"The quantized tensor '{name}' cannot be kept as it is stored.")
    outputs, inputs = info.shape
    codes = read(f"{name}_packed" if f"{name}_packed" in stored else name)
    if f"{name}_packed" in stored:
        if len(codes) != outputs:
            raise CheckpointError(f"'{name}_packed' has {len(codes)} rows, but '{name}_shape' says {outputs}.")
        width = -(-inputs * form.scheme.bits // 8)
        packed = np.ascontiguousarray(np.ascontiguousarray(codes).view(np.uint8)[:, :width])
        int8 = form.scheme is Quantization.INT8  # packed integers are offset by half their range
        codes = (packed ^ np.uint8(0x80)).view(np.int8) if int8 else packed
    scale = read(f"{name}_scale").reshape(-1, inputs // form.group_size if form.group_size else 1)
    return QuantizedTensor(form=form, codes=codes, scale=np.broadcast_to(scale, (outputs, scale.shape[1])))


def _weight_info(base: str, stored: Mapping[str, TensorInfo], read: Read) -> TensorInfo:
    from llama4sdk.weights.checkpoint import TensorInfo

    nbytes = sum(stored[part].nbytes for part in (base, *(f"{base}_{kind}" for kind in COMPANIONS)) if part in stored)
    if f"{base}_packed" not in stored:
        info = stored.get(base)
        if info is None:
            raise CheckpointError(f"The checkpoint has '{base}_scale', but no '{base}'.")
        return TensorInfo(info.shape, info.dtype, nbytes)
    if f"{base}_scale" not in stored:
        raise CheckpointError(f"The checkpoint has '{base}_packed', but no '{base}_scale'.")
    rows, columns = _shape(base, stored, read)
    return TensorInfo((rows, columns), f"I{_bits(base, stored, columns)}", nbytes)


def _shape(base: str, stored: Mapping[str, TensorInfo], read: Read) -> tuple[int, int]:
    if f"{base}_shape" not in stored or stored[f"{base}_shape"].shape != (2,):
        raise CheckpointError(f"The checkpoint has '{base}_packed', but its '{base}_shape' is no pair of numbers.")
    rows, columns = (int(size) for size in read(f"{base}_shape").tolist())
    return rows, columns


def _bits(base: str, stored: Mapping[str, TensorInfo], columns: int) -> int:
    """Width of the packed integers: the one with which ``columns`` of them fill the stored words."""
    packed = stored[f"{base}_packed"]
    for bits in (4, 8):
        if packed.dtype == "I32" and len(packed.shape) == 2 and -(-columns * bits // WORD_BITS) == packed.shape[1]:
            return bits
    description = f"{list(packed.shape)} in {packed.dtype}"
    raise CheckpointError(f"'{base}_packed' is {description}, which does not hold {columns} columns of 4 or 8 bits.")


def _unpack_weight(name: str, stored: Mapping[str, TensorInfo], read: Read) -> Floats:
    rows, columns = _shape(name, stored, read)
    packed = read(f"{name}_packed")
    if len(packed) != rows:
        raise CheckpointError(f"'{name}_packed' has {len(packed)} rows, but '{name}_shape' says {rows}.")
    return _unpack(packed, columns, _bits(name, stored, columns))


def _unpack(words: Array, columns: int, bits: int) -> Floats:
    """[rows, words] -> [rows, columns]: signed integers, stored with an offset of half their range."""
    shifts = np.arange(0, WORD_BITS, bits, dtype=np.uint32)
    pieces = (np.ascontiguousarray(words).view(np.uint32)[:, :, None] >> shifts) & np.uint32(2**bits - 1)
    unsigned = pieces.reshape(len(words), -1)[:, :columns].astype(np.float32)
    return unsigned - np.float32(2 ** (bits - 1))


def _zero_point(name: str, shape: tuple[int, ...], stored: Mapping[str, TensorInfo], read: Read) -> Floats:
    """Zero points in the shape of the scale; those of packed weights are packed along the output channels."""
    values = read(f"{name}_zero_point")
    if f"{name}_packed" not in stored or values.dtype != np.int32:
        return values.astype(np.float32)
    return _unpack(values.T, shape[0], _bits(name, stored, shape[1])).T


def _dequantize(values: Floats, scale: Floats, zero: Floats | None, order: Array | None) -> Floats:
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
