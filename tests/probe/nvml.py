"""A stand-in for NVIDIA's library, which the real ``pynvml`` calls with its own C structures."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pynvml
import pytest

__all__ = ["Card", "Library", "installed"]


@dataclass
class Card:
    """The values of a card or a slice of one; ``None`` is "not supported"."""

    name: str = "NVIDIA H100 80GB HBM3"
    total: int | None = 85_520_809_984
    free: int = 84_900_000_000
    uuid: str = "GPU-0"
    capability: tuple[int, int] = (9, 0)
    #: The greatest clock of its memory in MHz, and the width of its bus in bits.
    memory: tuple[int, int] | None = (2619, 5120)
    pcie: tuple[int, int] | None = (5, 16)
    watts: float | None = 700
    ecc: bool | None = True
    #: How many are active, and their version.
    nvlinks: tuple[int, int] = (0, 4)
    pids: tuple[int, ...] = ()
    lost: bool = False
    #: Where it was divided, its slices; numbers may have gaps.
    slices: tuple[Card | None, ...] = ()


@dataclass
class Library:
    """A driver with its cards. ``faults`` are error codes by function; ``nvmlInit`` waits for ``hang``."""

    cards: tuple[Card, ...] = ()
    driver: str = "570.86.15"
    cuda: int = 12_080
    nvlink: bool = False
    peers: bool = False
    faults: dict[str, int] = field(default_factory=dict)
    hang: threading.Event | None = None

    def __getattr__(self, name: str) -> Callable[..., int]:
        function = _FUNCTIONS.get(name.removesuffix("_v2").removesuffix("_v3"))
        if function is None:
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            code = self.faults.get(name.removesuffix("_v2").removesuffix("_v3"))
            return code if code is not None else function(self, *arguments)

        return call

    def card(self, handle: Any) -> Card:
        """The card or slice of a handle."""
        number = (ctypes.cast(handle, ctypes.c_void_p).value or 0) - 1
        card = self.cards[number % 100]
        return card if number < 100 else card.slices[number // 100 - 1]  # type: ignore[return-value]


@contextmanager
def installed(library: Library | None) -> Iterator[None]:
    """Let ``pynvml`` use this library; ``None`` is a machine without one."""

    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pynvml, "nvmlLib", library)
        patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        if library is None:
            patch.setattr(pynvml, "CDLL", absent)
        yield


def _set(reference: Any, value: Any) -> int:
    reference._obj.value = value
    return int(pynvml.NVML_SUCCESS)


def _point(reference: Any, number: int) -> int:
    ctypes.cast(reference, ctypes.POINTER(ctypes.c_void_p))[0] = number + 1
    return int(pynvml.NVML_SUCCESS)


def _fill(buffer: Any, text: str) -> int:
    buffer.value = text.encode()
    return int(pynvml.NVML_SUCCESS)


def _maybe(reference: Any, value: Any) -> int:
    return pynvml.NVML_ERROR_NOT_SUPPORTED if value is None else _set(reference, value)


def _init(library: Library, flags: int) -> int:
    if library.hang is not None:
        library.hang.wait(30)
    return int(pynvml.NVML_SUCCESS)


def _memory(library: Library, handle: Any, reference: Any) -> int:
    card = library.card(handle)
    if card.lost:
        return int(pynvml.NVML_ERROR_GPU_IS_LOST)
    if card.total is None:
        return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
    reference._obj.total, reference._obj.free, reference._obj.used = card.total, card.free, card.total - card.free
    return int(pynvml.NVML_SUCCESS)


def _pair(first: Any, second: Any, values: tuple[Any, Any] | None) -> int:
    if values is None:
        return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
    _set(first, values[0])
    return _set(second, values[1])


def _processes(library: Library, handle: Any, count: Any, array: Any) -> int:
    pids = library.card(handle).pids
    if array is None:
        _set(count, len(pids))
        return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE if pids else pynvml.NVML_SUCCESS)
    for index, pid in enumerate(pids):
        array[index].pid, array[index].usedGpuMemory = pid, 10**9
    return _set(count, len(pids))


def _slice(library: Library, handle: Any, number: Any, reference: Any) -> int:
    slices = library.card(handle).slices
    if number.value >= len(slices) or slices[number.value] is None:
        return int(pynvml.NVML_ERROR_NOT_FOUND)
    card = (ctypes.cast(handle, ctypes.c_void_p).value or 0) - 1
    return _point(reference, card + 100 * (number.value + 1))


def _peer(library: Library, first: Any, second: Any, capability: int, reference: Any) -> int:
    able = library.nvlink if capability == pynvml.NVML_P2P_CAPS_INDEX_NVLINK else library.peers
    return _set(reference, pynvml.NVML_P2P_STATUS_OK if able else pynvml.NVML_P2P_STATUS_NOT_SUPPORTED)


def _link(library: Library, handle: Any, number: int, reference: Any) -> int:
    return _set(reference, int(number < library.card(handle).nvlinks[0]))


_FUNCTIONS: dict[str, Callable[..., int]] = {
    "nvmlInitWithFlags": _init,
    "nvmlShutdown": lambda library: pynvml.NVML_SUCCESS,
    "nvmlSystemGetDriverVersion": lambda library, buffer, size: _fill(buffer, library.driver),
    "nvmlSystemGetCudaDriverVersion": lambda library, ref: _set(ref, library.cuda),
    "nvmlDeviceGetCount": lambda library, ref: _set(ref, len(library.cards)),
    "nvmlDeviceGetHandleByIndex": lambda library, number, ref: _point(ref, number.value),
    "nvmlDeviceGetName": lambda library, handle, buffer, size: _fill(buffer, library.card(handle).name),
    "nvmlDeviceGetUUID": lambda library, handle, buffer, size: _fill(buffer, library.card(handle).uuid),
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetCudaComputeCapability": lambda lib, handle, a, b: _pair(a, b, lib.card(handle).capability),
    "nvmlDeviceGetComputeRunningProcesses": _processes,
    "nvmlDeviceGetMaxPcieLinkGeneration": lambda lib, handle, ref: _maybe(ref, (lib.card(handle).pcie or (None,))[0]),
    "nvmlDeviceGetCurrPcieLinkWidth": lambda lib, handle, ref: _maybe(ref, (lib.card(handle).pcie or (None,) * 2)[1]),
    "nvmlDeviceGetMaxClockInfo": lambda lib, handle, kind, ref: _maybe(ref, (lib.card(handle).memory or (None,))[0]),
    "nvmlDeviceGetMemoryBusWidth": lambda lib, handle, ref: _maybe(ref, (lib.card(handle).memory or (None,) * 2)[1]),
    "nvmlDeviceGetPowerManagementLimit": lambda lib, handle, ref: _maybe(ref, _milli(lib.card(handle).watts)),
    "nvmlDeviceGetEccMode": lambda lib, handle, a, b: _pair(a, b, _twice(lib.card(handle).ecc)),
    "nvmlDeviceGetMigMode": lambda lib, handle, a, b: _pair(a, b, _twice(bool(lib.card(handle).slices))),
    "nvmlDeviceGetMaxMigDeviceCount": lambda lib, handle, ref: _set(ref, 7),
    "nvmlDeviceGetMigDeviceHandleByIndex": _slice,
    "nvmlDeviceGetP2PStatus": _peer,
    "nvmlDeviceGetNvLinkState": _link,
    "nvmlDeviceGetNvLinkVersion": lambda lib, handle, number, ref: _set(ref, lib.card(handle).nvlinks[1]),
}


def _milli(watts: float | None) -> int | None:
    return None if watts is None else int(watts * 1000)


def _twice(value: bool | None) -> tuple[int, int] | None:
    return None if value is None else (int(value), int(value))
