"""Measuring this machine, in about two seconds: how fast memory and disk are read, and how fast GPUs are filled.

Nothing is left behind: memory is freed, and the disk's file has no name, so that the system removes it in any case.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from llama4sdk.diagnostics.machine import reaches_accelerators
from llama4sdk.hardware import Hardware
from llama4sdk.probe.measurements import Measured, machine_id

#: Called with the name of the part that is measured next.
Step = Callable[[str], None]

MIB: Final = 2**20
#: Memory that is read over and over: more than caches hold, except for those of processors with stacked cache.
BUFFER_BYTES: Final = 512 * MIB
BLOCK_BYTES: Final = 4 * MIB
FILE_BYTES: Final = 256 * MIB
MEMORY_SECONDS: Final = 0.8
WRITE_SECONDS: Final = 1.0
GPU_TIMEOUT_SECONDS: Final = 60.0

#: Measures copies from main memory to each GPU, in a process of its own: the memory it takes of the GPUs ends with it.
GPU_PROGRAM: Final = """
import json, time, torch
speeds = {}
block = torch.empty(256 * 2**20, dtype=torch.uint8, pin_memory=True)
for number in range(torch.cuda.device_count()):
    target = torch.empty_like(block, device=f"cuda:{number}")
    best = 0.0
    for _ in range(6):
        torch.cuda.synchronize(number)
        start = time.perf_counter()
        target.copy_(block, non_blocking=True)
        torch.cuda.synchronize(number)
        best = max(best, block.numel() / (time.perf_counter() - start))
    del target
    speeds[number] = int(best)
print(json.dumps(speeds))
"""


def measure_machine(hardware: Hardware, home: Path, *, step: Step = lambda name: None) -> Measured:
    """Measure memory, disk and the links to GPUs; ``None`` for what cannot be measured here."""
    step("memory")
    memory = memory_bandwidth(threads=hardware.cpu.cores, nbytes=min(BUFFER_BYTES, hardware.free_memory // 4))
    step("disk")
    disk = disk_bandwidth(home, nbytes=min(FILE_BYTES, (hardware.disk_free or 0) // 4))
    devices = {}
    if any(device.kind in ("cuda", "rocm") for device in hardware.devices) and reaches_accelerators(hardware):
        step("links to GPUs")
        devices = host_bandwidths(hardware)
    day = datetime.now(UTC).date().isoformat()
    return Measured(machine=machine_id(), day=day, memory=memory, disk=disk, devices=devices)


def memory_bandwidth(*, threads: int, nbytes: int = BUFFER_BYTES, seconds: float = MEMORY_SECONDS) -> int | None:
    """The highest bytes per second that ``threads`` threads read together; ``None`` where it cannot be measured.

    C's ``memcmp`` over two equal halves does nothing but read, in the widest steps the processor has, and outside the
    interpreter's lock.
    """
    part = nbytes // max(1, threads) // (2 * BLOCK_BYTES) * (2 * BLOCK_BYTES)
    if not part or sys.platform == "win32":
        return None
    compare = ctypes.CDLL(None).memcmp
    compare.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    memory = (ctypes.c_char * (part * threads))()
    start = ctypes.addressof(memory)
    ctypes.memset(start, 1, len(memory))  # pages nobody has written are all the same one

    def read(number: int) -> None:
        first = start + number * part
        for offset in range(0, part // 2, BLOCK_BYTES):
            compare(first + offset, first + part // 2 + offset, BLOCK_BYTES)

    with ThreadPoolExecutor(threads) as pool:  # waits for the threads even when interrupted: they read that memory
        return _best_rate(lambda: list(pool.map(read, range(threads))), len(memory), seconds)


def disk_bandwidth(home: Path, *, nbytes: int = FILE_BYTES) -> int | None:
    """Bytes per second read from a new file where weights are kept, past the system's cache.

    ``None`` where that cannot be written, or the cache cannot be passed.
    """
    if nbytes < BLOCK_BYTES:
        return None
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home, buffering=0) as file:  # without a name wherever the system allows it
            written = _write_random(file, nbytes)
            if not _drop_from_cache(file):
                return None
            file.seek(0)
            block = bytearray(BLOCK_BYTES)
            start = time.perf_counter()
            while file.readinto(block):
                pass
            return int(written / (time.perf_counter() - start))
    except OSError:
        return None


def host_bandwidths(hardware: Hardware) -> dict[str, int]:
    """Bytes per second from main memory to each GPU, by its id; empty without a torch that can use them."""
    if not any(runtime.name == "torch" for runtime in hardware.runtimes):
        return {}
    try:
        process = subprocess.run(  # noqa: S603 - our own program, given as text
            [sys.executable, "-c", GPU_PROGRAM], capture_output=True, text=True, timeout=GPU_TIMEOUT_SECONDS, check=True
        )
        speeds = json.loads(process.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {}
    kinds = {str(device.index): device.id for device in hardware.devices if device.kind in ("cuda", "rocm")}
    return {kinds[number]: speed for number, speed in speeds.items() if number in kinds and speed > 0}


def _best_rate(work: Callable[[], object], nbytes: int, seconds: float) -> int:
    """The fastest of as many rounds as there is time for: whatever else runs only slows them."""
    best, until = 0.0, time.perf_counter() + seconds
    while not best or time.perf_counter() < until:
        start = time.perf_counter()
        work()
        best = max(best, nbytes / (time.perf_counter() - start))
    return int(best)


def _write_random(file: IO[bytes], nbytes: int) -> int:
    """Write bytes that no file system can compress, for at most a second; return how many."""
    block, written, until = os.urandom(BLOCK_BYTES - 8), 0, time.perf_counter() + WRITE_SECONDS
    while written < nbytes and time.perf_counter() < until:
        written += file.write(written.to_bytes(8, "little") + block)
    os.fsync(file.fileno())
    return written


def _drop_from_cache(file: IO[bytes]) -> bool:
    """Remove the file from the system's cache; whether that is possible here."""
    if sys.platform == "darwin":
        import fcntl

        return fcntl.fcntl(file.fileno(), fcntl.F_NOCACHE, 1) == 0
    if not hasattr(os, "posix_fadvise"):
        return False
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True
