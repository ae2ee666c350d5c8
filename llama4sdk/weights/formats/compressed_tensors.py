"""Weights that the compressed-tensors package stored: which tensors make up one weight, and its values.

    X.weight, X.weight_scale                     8-bit floats or integers, a scale per tensor or output channel
    X.weight_packed, X.weight_scale, X.weight_shape    4- or 8-bit integers in int32 words, lowest bits first, and a
                                                 scale per output channel or per group of inputs

with ``X.weight_zero_point`` where the integers are not symmetric and ``X.weight_g_idx`` where groups are not in order.
A weight is quantized when it has a scale, whatever the configuration's list of ignored modules says. Scales of
activations (``X.input_scale``) are left alone: activations are not quantized here.
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

__all__ = ["check_scheme", "kept", "quantized_weights", "restore", "stored_form"]

FORMATS: Final = ("dense", "float-quantized", "naive-quantized", "int-quantized", "pack-quantized", "mixed-precision")
COMPANIONS: Final = ("packed", "scale", "shape", "zero_point", "g_idx")
OF_ACTIVATIONS: Final = re.compile(r".*\.(input_(scale|zero_point|global_scale)|[qkv]_scale)$")
SCHEMES: Final = {
    "F8_E4M3": Quantization.FP8,
    "I8": Quantization.INT8,
    "I4": Quantization.INT4,
}
FLOATS: Final = {"F32": Quantization.FP32, "BF16": Quantization.BF16, "F16": Quantization.FP16}
#: Bits of the integers that narrower ones are packed into.
WORD: Final = 32

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Read = Callable[[str], Array]


def check_scheme(config: Mapping[str, JsonValue]) -> bool:
    """Whether a ``config.json`` speaks of quantization that can be undone; CheckpointError names any other kind."""
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
    """The weights that stored tensors make up, and which of them are quantized.

    ``read`` gives a stored tensor's values. Raises CheckpointError for packed weights without their parts.
    """
    bases = {name.removesuffix("_scale") for name in stored if name.endswith(".weight_scale")}
    bases |= {name.removesuffix("_packed") for name in stored if name.endswith(".weight_packed")}
    parts = {f"{base}_{kind}" for base in bases for kind in COMPANIONS}
    kept = {name: info for name, info in stored.items() if name not in parts and not OF_ACTIVATIONS.match(name)}
    return kept | {base: _whole(base, stored, read) for base in bases}, frozenset(bases)


def restore(name: str, stored: Mapping[str, TensorInfo], read: Read) -> Floats:
    """The values of one quantized weight. Raises CheckpointError when its parts do not fit together."""
    scale = read(f"{name}_scale").astype(np.float32)
    packed = f"{name}_packed" in stored
    values = _unpacked(name, stored, read) if packed else read(name).astype(np.float32)
    zero = None
    if f"{name}_zero_point" in stored:
        zero = _zero_point(name, values.shape, stored, read)
    order = read(f"{name}_g_idx") if f"{name}_g_idx" in stored else None
    try:
        return _scaled(values, scale, zero, order)
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"The parts of the quantized tensor '{name}' do not fit together: {error}.") from error


def stored_form(name: str, whole: TensorInfo, stored: Mapping[str, TensorInfo]) -> MatrixFormat | None:
    """How a quantized weight is stored, if it is so that ``kept`` can give it as it is.

    ``whole``: what ``quantized_weights`` said of it.
    """
    scale = stored[f"{name}_scale"]
    if f"{name}_zero_point" in stored or f"{name}_g_idx" in stored or scale.dtype not in FLOATS:
        return None
    scheme = SCHEMES.get(whole.dtype)
    rows, groups = scale.shape if len(scale.shape) == 2 else (scale.size, 1)
    outputs, inputs = whole.shape if len(whole.shape) == 2 else (0, 0)
    if scheme is None or not groups or inputs % groups or (rows != outputs and scale.size != 1):
        return None
    return MatrixFormat(scheme=scheme, group_size=inputs // groups if groups > 1 else None, scale=FLOATS[scale.dtype])


def kept(name: str, stored: Mapping[str, TensorInfo], read: Read) -> QuantizedTensor:
    """The codes and scales of a weight that has a ``stored_form``. A scale of the whole tensor is given every row."""
    from llama4sdk.weights.formats.quantized import QuantizedTensor

    whole = _whole(name, stored, read)
    form = stored_form(name, whole, stored)
    if form is None:
        raise CheckpointError(f"The quantized tensor '{name}' cannot be held as it is stored.")
    outputs, inputs = whole.shape
    codes = read(f"{name}_packed" if f"{name}_packed" in stored else name)
    if f"{name}_packed" in stored:
        if len(codes) != outputs:
            raise CheckpointError(f"'{name}_packed' has {len(codes)} rows, but '{name}_shape' says {outputs}.")
        width = -(-inputs * form.scheme.bits // 8)
        packed = np.ascontiguousarray(np.ascontiguousarray(codes).view(np.uint8)[:, :width])
        int8 = form.scheme is Quantization.INT8  # packed with half its range added
        codes = (packed ^ np.uint8(0x80)).view(np.int8) if int8 else packed
    scale = read(f"{name}_scale").reshape(-1, inputs // form.group_size if form.group_size else 1)
    return QuantizedTensor(form=form, codes=codes, scale=np.broadcast_to(scale, (outputs, scale.shape[1])))


def _whole(base: str, stored: Mapping[str, TensorInfo], read: Read) -> TensorInfo:
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
    """How wide the packed integers are: the width with which this many fill the words that there are."""
    packed = stored[f"{base}_packed"]
    for bits in (4, 8):
        if packed.dtype == "I32" and len(packed.shape) == 2 and -(-columns * bits // WORD) == packed.shape[1]:
            return bits
    found = f"{list(packed.shape)} in {packed.dtype}"
    raise CheckpointError(f"'{base}_packed' is {found}, which does not hold {columns} columns of 4 or 8 bits.")


def _unpacked(name: str, stored: Mapping[str, TensorInfo], read: Read) -> Floats:
    rows, columns = _shape(name, stored, read)
    packed = read(f"{name}_packed")
    if len(packed) != rows:
        raise CheckpointError(f"'{name}_packed' has {len(packed)} rows, but '{name}_shape' says {rows}.")
    return _unpack(packed, columns, _bits(name, stored, columns))


def _unpack(words: Array, columns: int, bits: int) -> Floats:
    """[rows, words] -> [rows, columns]: signed integers, stored with half their range added."""
    shifts = np.arange(0, WORD, bits, dtype=np.uint32)
    pieces = (np.ascontiguousarray(words).view(np.uint32)[:, :, None] >> shifts) & np.uint32(2**bits - 1)
    unsigned = pieces.reshape(len(words), -1)[:, :columns].astype(np.float32)
    return unsigned - np.float32(2 ** (bits - 1))


def _zero_point(name: str, shape: tuple[int, ...], stored: Mapping[str, TensorInfo], read: Read) -> Floats:
    """Shaped as the scale. Those of packed weights are packed as well, along the output channels."""
    values = read(f"{name}_zero_point")
    if f"{name}_packed" not in stored or values.dtype != np.int32:
        return values.astype(np.float32)
    return _unpack(values.T, shape[0], _bits(name, stored, shape[1])).T


def _scaled(values: Floats, scale: Floats, zero: Floats | None, order: Array | None) -> Floats:
    """``values`` [out, in]; ``scale`` and ``zero`` one number, [out, 1] or [out, groups]; ``order``: [in]."""
    if scale.ndim == 1 and scale.size > 1:
        scale, zero = scale[:, None], None if zero is None else zero.reshape(-1, 1)
    if scale.size == 1:
        scale, zero = scale.reshape(1, 1), None if zero is None else zero.reshape(1, 1)
    if order is not None and order.min() >= 0:  # -1 throughout stands for groups in order
        scale, zero = scale[:, order], None if zero is None else zero[:, order]
    if scale.shape[0] not in (1, values.shape[0]) or values.shape[1] % scale.shape[1]:
        raise ValueError(f"scales of shape {list(scale.shape)} for values of {list(values.shape)}")
    grouped = values.reshape(values.shape[0], scale.shape[1], -1)  # [out, groups, inputs of a group]
    if zero is not None:
        grouped = grouped - zero[:, :, None]
    with np.errstate(invalid="ignore", over="ignore"):  # whoever loads them looks for what is not finite
        return (grouped * scale[:, :, None]).reshape(values.shape)
