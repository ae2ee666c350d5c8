"""Quantization of weights: a scheme for a matrix, and a config that has one for each class of modules. Pure.

The schemes are the field's common ones, of weights alone; activations keep the config's ``dtype``:

- fp32, bf16, fp16: every value as it is;
- int8, fp8 (e4m3): one byte per weight, one fp32 scale per output channel;
- int4: two weights per byte, one bf16 scale per group of consecutive inputs. Where the inputs are no multiple of the
  group, the last group of a row is shorter; where their number is odd, the row's last half byte is unused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from pydantic import ValidationError, model_validator

from llama4sdk._text import in_words, nearest
from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError

__all__ = ["INT4_GROUP", "LINEAR", "MatrixFormat", "ModuleClass", "Quantization", "QuantizationConfig"]

ModuleClass: TypeAlias = Literal[
    "attention", "experts", "shared_expert", "dense", "router", "norms", "embedding", "head", "vision"
]
#: The classes that a scheme's name alone quantizes: nine tenths of the weights and more.
LINEAR: Final[tuple[ModuleClass, ...]] = ("attention", "experts", "shared_expert", "dense")

#: Classes that cannot be quantized, and why.
UNQUANTIZABLE: Final[Mapping[ModuleClass, str]] = {
    "router": "it is small, and it decides which expert runs",
    "norms": "they are small, and scale everything that follows",
    "vision": "it is small, and runs in full precision only",
}

#: Inputs that share a scale in int4, unless a group size or a checkpoint says otherwise.
INT4_GROUP: Final = 128

MORE_NAMES_HINT: Final = (
    "Groups: 'int4-g32'; activations: 'int8/fp32'; by class of modules: 'experts=int4,attention=int8'."
)

SCHEME_NAME: Final = re.compile(r"(?P<scheme>[a-z]+\d+)(-g(?P<group>\d+))?(/(?P<dtype>[a-z]+\d+))?")


class Quantization(StrEnum):
    """A scheme for weights in memory; the first three are full precision."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def bits(self) -> int:
        """Bits per weight, scales not counted."""
        return {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4}[self.value]

    @property
    def full_precision(self) -> bool:
        """Whether weights keep the precision they were published in."""
        return self.bits >= 16


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixFormat:
    """The format of one matrix. ``group_size`` is ``None`` where a scale serves a whole output channel."""

    scheme: Quantization
    group_size: int | None = None
    #: The precision of the scales.
    scale: Quantization = Quantization.FP32
    #: Whether each scale has a smallest value beside it, added to what it scales.
    minimum: bool = False

    def bytes(self, outputs: int, inputs: int) -> int:
        """Memory of the codes, the scales and the minima."""
        codes = outputs * -(-inputs * self.scheme.bits // 8)
        if self.scheme.full_precision:
            return codes
        groups = -(-inputs // (self.group_size or inputs))
        return codes + outputs * groups * (self.scale.bits // 8) * (2 if self.minimum else 1)


class QuantizationConfig(Value):
    """A scheme for each class of modules. Those not named keep full precision, in ``dtype``.

    >>> print(QuantizationConfig(experts="int4", attention="int8"))
    attention int8, experts int4, the rest bf16

    Raises ConfigurationError for a scheme that a class of modules cannot have.
    """

    attention: Quantization = Quantization.BF16
    #: Routed experts.
    experts: Quantization = Quantization.BF16
    shared_expert: Quantization = Quantization.BF16
    #: Feed-forward layers that are no mixtures.
    dense: Quantization = Quantization.BF16
    router: Quantization = Quantization.BF16
    norms: Quantization = Quantization.BF16
    embedding: Quantization = Quantization.BF16
    head: Quantization = Quantization.BF16
    vision: Quantization = Quantization.BF16
    #: Inputs that share a scale in int4; ``None`` takes the checkpoint's own groups, or 128.
    group_size: Literal[32, 64, 128] | None = None
    #: Full precision: of what is not quantized, and of activations.
    dtype: Quantization = Quantization.BF16

    if not TYPE_CHECKING:

        def __init__(self, **fields: object) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                raise ConfigurationError(
                    f"Such a quantization cannot be had: {in_words(error)}.",
                    hint=f"Schemes: {', '.join(Quantization)}. Classes of modules: {', '.join(get_args(ModuleClass))}.",
                ) from error

    @model_validator(mode="before")
    @classmethod
    def _fill_in_dtype(cls, fields: object) -> object:
        if not isinstance(fields, Mapping):
            return fields
        return dict.fromkeys(get_args(ModuleClass), fields.get("dtype", Quantization.BF16)) | dict(fields)

    @model_validator(mode="after")
    def _check_possible(self) -> QuantizationConfig:
        if not self.dtype.full_precision:
            raise ValueError(f"activations cannot be {self.dtype}; choose fp32 or bf16 as dtype")
        if self.group_size and not any(self.scheme(module) is Quantization.INT4 for module in get_args(ModuleClass)):
            raise ValueError("'group_size' is of int4, and nothing here is int4")
        for module in get_args(ModuleClass):
            scheme = self.scheme(module)
            if module in UNQUANTIZABLE and not scheme.full_precision:
                raise ValueError(f"'{module}' cannot be {scheme}: {UNQUANTIZABLE[module]}; leave it out")
            if scheme.full_precision and scheme is not self.dtype:
                raise ValueError(f"'{module}' cannot be {scheme} beside {self.dtype}; set dtype='{scheme}' for all")
        return self

    @classmethod
    def of(cls, value: Quantization | QuantizationConfig | str) -> QuantizationConfig:
        """The config a name stands for: ``int8``, ``int4-g32`` with a group size, ``int8/fp32`` with activations.

        ``experts=int4,attention=int8`` names classes of modules, or other fields. Raises ConfigurationError for a name
        that stands for nothing.
        """
        if isinstance(value, QuantizationConfig):
            return value
        if "=" in value:
            return cls(**_parse_fields(value))  # type: ignore[arg-type]  # validated there
        match = SCHEME_NAME.fullmatch(value)
        if match is None or match["scheme"] not in set(Quantization):
            hint = nearest(str(value), [q.value for q in Quantization], "Quantizations")
            raise ConfigurationError(f"There is no quantization '{value}'.", hint=f"{hint} {MORE_NAMES_HINT}")
        scheme = Quantization(match["scheme"])
        dtype = match["dtype"] or (scheme if scheme.full_precision else Quantization.BF16)
        group = int(match["group"]) if match["group"] else None
        fields: dict[str, object] = {**dict.fromkeys(LINEAR, scheme), "group_size": group, "dtype": dtype}
        return cls(**fields)  # type: ignore[arg-type]  # validated there

    def scheme(self, module: ModuleClass) -> Quantization:
        """The scheme of the matrices of one class."""
        scheme: Quantization = getattr(self, module)
        return scheme

    def format(self, module: ModuleClass) -> MatrixFormat:
        """The format of the matrices of one class, where the checkpoint does not have them quantized already."""
        scheme = self.scheme(module)
        if scheme is Quantization.INT4:
            return MatrixFormat(scheme=scheme, group_size=self.group_size or INT4_GROUP, scale=Quantization.BF16)
        return MatrixFormat(scheme=scheme)

    @property
    def full_precision(self) -> bool:
        """Whether nothing is quantized."""
        return all(self.scheme(module).full_precision for module in get_args(ModuleClass))

    @property
    def narrowest(self) -> Quantization:
        """The scheme of fewest bits among those of ``LINEAR``, which hold nearly all of the weights."""
        return min((self.scheme(module) for module in LINEAR), key=lambda scheme: scheme.bits)

    @property
    def simplest(self) -> Quantization | QuantizationConfig:
        """The scheme that means the same, where one does."""
        scheme = self.attention
        return scheme if self == QuantizationConfig.of(scheme) else self

    def __str__(self) -> str:
        scheme, group = self.attention, f"-g{self.group_size}" if self.group_size else ""
        plain = Quantization.BF16 if not scheme.full_precision else scheme
        short = scheme.value + group * (scheme is Quantization.INT4)
        name = short if self.dtype is plain else f"{short}/{self.dtype}"
        if self == QuantizationConfig.of(name):
            return name
        parts = [(module, self.scheme(module)) for module in get_args(ModuleClass)]
        words = [f"{m} {s}{group * (s is Quantization.INT4)}" for m, s in parts if not s.full_precision]
        return ", ".join([*words, f"the rest {self.dtype}"])


def _parse_fields(text: str) -> dict[str, object]:
    """The fields of ``experts=int4,group_size=32``. Raises ConfigurationError for one that stands there twice."""
    fields: dict[str, object] = {}
    for pair in text.split(","):
        name, _, value = (part.strip() for part in pair.partition("="))
        if name in fields:
            raise ConfigurationError(f"'{name}' stands in '{text}' twice.", hint="Leave one of them out.")
        fields[name] = int(value) if value.isdigit() else value
    return fields
