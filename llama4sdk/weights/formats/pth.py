"""Read tensors from a ``.pth`` file without torch and without running its pickle.

Such a file is a zip archive: ``data.pkl`` describes the tensors, ``data/0``, ``data/1`` … contain their values. A
pickle is a program; here it is parsed, not run. Its harmless instructions make plain data; a call makes a tensor's
description or is refused, as is every name that torch's own files do not use.
"""

from __future__ import annotations

import math
import mmap
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from llama4sdk.errors import CheckpointError
from llama4sdk.weights.checkpoint import TensorInfo
from llama4sdk.weights.disk import release_memory
from llama4sdk.weights.formats.safetensors import DTYPES

#: The name of 8-bit floats, as in safetensors.
FLOAT8: Final = "F8_E4M3"
#: Stored dtypes by the name of a storage class, or of a dtype that is too new to have one.
STORAGES: Final = {
    "BFloat16Storage": "BF16",
    "HalfStorage": "F16",
    "FloatStorage": "F32",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "float8_e4m3fn": FLOAT8,
}
TENSOR_V2: Final = "torch._utils _rebuild_tensor_v2"
TENSOR_V3: Final = "torch._utils _rebuild_tensor_v3"
UNTYPED: Final = "torch.storage UntypedStorage"
PARAMETER: Final = "torch._utils _rebuild_parameter"
#: Other names in torch's files: containers of settings, which are read as empty dictionaries.
IGNORED_CONTAINERS: Final = ("collections OrderedDict", "_io BytesIO", "_codecs encode")
ALLOWED_NAMES: Final = (
    *(TENSOR_V2, TENSOR_V3, UNTYPED, PARAMETER, *IGNORED_CONTAINERS),
    *(f"torch {name}" for name in STORAGES),
)
#: Errors of reading a damaged file, the last two of them of an archive.
DAMAGE_ERRORS: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError, EOFError),
    *(struct.error, zipfile.BadZipFile),
)
#: Signature and lengths of the name and of the extra field, which precede the data.
LOCAL_HEADER: Final = struct.Struct("<4s22xHH")


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    kind: str
    key: str


class _Tensor(NamedTuple):
    kind: str
    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchFile:
    """A memory-mapped ``.pth`` file.

    Raises CheckpointError when it is damaged, truncated, of torch's old format, or holds anything but tensors.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self._storages, program = _archive(file, self._data)
            content = _PickleParser().parse(program)
            tensors = content.items() if isinstance(content, dict) else ()
            self._tensors = {name: tensor for name, tensor in tensors if isinstance(tensor, _Tensor)}
            self.tensors = {name: self._info(tensor) for name, tensor in self._tensors.items()}
        except DAMAGE_ERRORS as error:
            raise CheckpointError(
                f"{path} is no file of tensors, or damaged: {error}.", hint="Fetch the file again."
            ) from error
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """The values of a tensor: a read-only view of the file."""
        tensor = self._tensors[name]
        start, _ = self._storages[tensor.key]
        dtype = DTYPES[STORAGES[tensor.kind]]
        return np.ndarray(
            tensor.shape,
            dtype,
            buffer=self._data,
            offset=start + tensor.offset * dtype.itemsize,
            strides=tuple(stride * dtype.itemsize for stride in tensor.strides),
        )

    def release(self) -> None:
        """Release the memory of pages that were read."""
        release_memory(self._data)

    def _info(self, tensor: _Tensor) -> TensorInfo:
        label = STORAGES[tensor.kind]
        dtype = DTYPES[label]
        size = math.prod(tensor.shape)
        last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
        capacity = self._storages[tensor.key][1] // dtype.itemsize
        is_valid = min((*tensor.shape, *tensor.strides, tensor.offset), default=0) >= 0
        if not is_valid or (size and (last >= capacity or size > capacity)):
            raise ValueError(f"a tensor of {list(tensor.shape)} does not lie within its {capacity} values")
        return TensorInfo(tensor.shape, label, size * dtype.itemsize)


def _archive(file: object, data: mmap.mmap) -> tuple[dict[str, tuple[int, int]], bytes]:
    """Start and size of each storage in the file by its key, and the pickle."""
    with zipfile.ZipFile(file) as archive:  # type: ignore[call-overload]  # any binary file
        entries = {entry.filename: entry for entry in archive.infolist()}
    program = next(name for name in [*entries, ""] if name.endswith("/data.pkl") or not name)
    if not program:
        raise ValueError("there is no data.pkl in it")
    folder = program.removesuffix("data.pkl")
    extents = {name: _extent(entry, data) for name, entry in entries.items()}
    start, size = extents[program]
    storages = {name.removeprefix(f"{folder}data/"): extent for name, extent in extents.items()}
    return storages, data[start : start + size]


def _extent(entry: zipfile.ZipInfo, data: mmap.mmap) -> tuple[int, int]:
    signature, name, extra = LOCAL_HEADER.unpack_from(data, entry.header_offset)
    start = entry.header_offset + LOCAL_HEADER.size + name + extra
    if signature != b"PK\3\4" or entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"'{entry.filename}' is compressed or not there")
    if start + entry.file_size > len(data):
        raise ValueError(f"'{entry.filename}' ends at byte {start + entry.file_size}, the file at {len(data)}")
    return start, entry.file_size


class _PickleParser:
    """Interprets a pickle as data."""

    def __init__(self) -> None:
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def parse(self, program: bytes) -> object:
        """The object that the pickle describes. Raises CheckpointError if it would do anything but make plain data."""
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        return self._stack.pop()

    def _step(self, name: str, argument: object) -> None:
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[int(str(argument))] = self._stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[int(str(argument))])
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._stack.append(_global(argument if name == "GLOBAL" else " ".join(map(str, self._pop(2)))))
        elif name == "BINPERSID":
            self._stack.append(_storage(self._stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            self._stack.append(_call(*self._pop(2)))
        elif name == "BUILD":
            self._stack.pop()  # an object's further state is dropped
        elif name not in ("PROTO", "FRAME"):
            self._collect(name)

    def _collect(self, name: str) -> None:
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self._stack.append(tuple(self._pop(int(name[-1]))))
        elif name == "TUPLE":
            self._stack.append(tuple(self._pop_to_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._pop_to_mark()
            target = self._stack[-1]
            if isinstance(target, list):
                target.extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
            target = self._stack[-1]
            if isinstance(target, dict):  # hashing anything but text could be made to take forever
                target.update(
                    (key, value) for key, value in zip(items[::2], items[1::2], strict=True) if type(key) is str
                )
        else:
            raise CheckpointError(
                f"The pickle of a .pth file has an instruction {name}, which torch's files do not use."
            )

    def _pop(self, count: int) -> list[object]:
        if len(self._stack) < count:
            raise ValueError("its pickle takes more than it made")
        popped = self._stack[-count:]
        del self._stack[-count:]
        return popped

    def _pop_to_mark(self) -> list[object]:
        return self._pop(len(self._stack) - mark) if (mark := self._marks.pop()) < len(self._stack) else []


_LITERALS: Final = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
)
_CONSTANTS: Final[Mapping[str, Callable[[], object]]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}


def _global(name: object) -> _Global:
    if name not in ALLOWED_NAMES:
        raise CheckpointError(
            f"The pickle of a .pth file names '{name}', which a file of tensors has no use for: it is refused.",
            hint="Loading it with torch could run code. Do not use this file.",
        )
    return _Global(str(name))


def _storage(pid: object) -> _Storage:
    if not (isinstance(pid, tuple) and len(pid) == 5 and isinstance(pid[1], _Global)):
        raise ValueError("it refers to values in an unknown way")
    return _Storage(pid[1].name.removeprefix("torch "), str(pid[2]))


def _call(function: object, arguments: object) -> object:
    """The result of one of the few calls that only describe a tensor or an ignored container."""
    if not isinstance(function, _Global) or not isinstance(arguments, tuple):
        raise ValueError("its pickle calls something unnamed")
    if function.name == TENSOR_V2:
        return _tensor(*arguments[:4], kind=None)
    if function.name == TENSOR_V3:
        return _tensor(*arguments[:4], kind=arguments[6])
    if function.name == PARAMETER:
        return arguments[0]
    if function.name in IGNORED_CONTAINERS:
        return dict[str, object]()
    raise ValueError(f"its pickle calls {function.name}")


def _tensor(storage: object, offset: object, shape: object, strides: object, *, kind: object) -> _Tensor:
    """Describe a tensor; newer files name its dtype, ``kind``, apart from the storage."""
    if not (isinstance(storage, _Storage) and isinstance(offset, int)):
        raise ValueError("a tensor has no values")
    dtype = kind.name.removeprefix("torch ") if isinstance(kind, _Global) else storage.kind
    return _Tensor(dtype, storage.key, offset, _sizes(shape), _sizes(strides))


def _sizes(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > 8 or not all(type(size) is int for size in value):
        raise ValueError("a tensor has no proper shape")
    return value
