"""Quantized weights as codes with scales, as they are stored. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from llama4sdk.quantization import MatrixFormat, Quantization

Array = npt.NDArray[np.generic]

GGUF_GROUP: Final = 32
#: GGUF tensor types whose codes can be kept in memory as they are stored.
GGUF_FORMATS: Final = {
    kind: MatrixFormat(scheme=scheme, group_size=GGUF_GROUP, scale=Quantization.FP16, minimum=minimum)
    for kind, scheme, minimum in (
        ("Q8_0", Quantization.INT8, False),
        ("Q4_0", Quantization.INT4, False),
        ("Q4_1", Quantization.INT4, True),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedTensor:
    """A matrix [out, in]. A value is code * scale + minimum, or (code - 8) * scale for int4 without minima.

    ``codes``: [out, in] of int8 or ml_dtypes' float8_e4m3fn, or [out, in / 2] bytes with two int4 codes each, the even
    input's in the lower half. ``scale`` and ``minimum``: [out, groups], as stored.
    """

    form: MatrixFormat
    codes: Array
    scale: Array
    minimum: Array | None = None

    @property
    def finite(self) -> bool:
        """Whether all values are finite."""
        parts = (self.scale, *([] if self.minimum is None else [self.minimum]))
        if not all(np.isfinite(part.astype(np.float32)).all() for part in parts):
            return False
        return self.form.scheme is not Quantization.FP8 or not bool((self.codes.view(np.uint8) & 0x7F == 0x7F).any())


def from_gguf(raw: npt.NDArray[np.uint8], form: MatrixFormat) -> QuantizedTensor:
    """Read GGUF blocks of 32 weights, [out, bytes]: a scale, a minimum if there is one, then the codes.

    In an int4 block the first sixteen codes are the lower halves of its bytes, the others the upper halves.
    """
    code_bytes = GGUF_GROUP * form.scheme.bits // 8
    header_bytes = 4 if form.minimum else 2
    blocks = raw.reshape(len(raw), -1, header_bytes + code_bytes)  # [out, groups, bytes]
    numbers = np.ascontiguousarray(blocks[..., :header_bytes]).view(np.float16)  # [out, groups, 1 or 2]
    packed = np.ascontiguousarray(blocks[..., header_bytes:])  # [out, groups, bytes]
    codes: Array = packed.reshape(len(raw), -1).view(np.int8)
    if form.scheme is Quantization.INT4:
        halves = np.concatenate((packed & np.uint8(15), packed >> np.uint8(4)), axis=-1)
        codes = (halves[..., ::2] | halves[..., 1::2] << np.uint8(4)).reshape(len(raw), -1)
    return QuantizedTensor(
        form=form,
        codes=codes,
        scale=numbers[..., 0],
        minimum=numbers[..., 1] if form.minimum else None,
    )
