"""A machine as the planner sees it: plain values, so that any machine can be described in a file.

All memory is in bytes. ``None`` means that it could not be read; ``problems`` says why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, TypeAlias

from pydantic import ValidationError

from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError
from llama4sdk.text import in_words

__all__ = ["Cpu", "Device", "DeviceKind", "Hardware"]

_HOW_TO_WRITE_ONE: Final = "Write one with 'llama4sdk doctor --json > machine.json'."

DeviceKind: TypeAlias = Literal["cuda", "rocm", "mps"]


class Device(Value):
    """One accelerator. ``free_memory`` is what nobody uses at the time of the probe."""

    kind: DeviceKind
    index: int
    name: str
    total_memory: int
    free_memory: int
    compute_capability: tuple[int, int] | None = None

    @property
    def id(self) -> str:
        """The name users and torch give it, such as ``cuda:0``."""
        return self.kind if self.kind == "mps" else f"{self.kind}:{self.index}"


class Cpu(Value):
    """The processor: cores this process may use, and the instruction sets that matter to kernels."""

    name: str
    cores: int
    features: tuple[str, ...] = ()


class Hardware(Value):
    """One machine, real or imagined."""

    system: str
    cpu: Cpu
    total_memory: int
    """RAM this process may use, a cgroup's limit included."""
    free_memory: int
    devices: tuple[Device, ...] = ()
    driver: str | None = None
    """NVIDIA driver version."""
    disk_free: int | None = None
    """Free space where weights are kept."""
    problems: tuple[str, ...] = ()
    """What could not be read, and why."""

    @classmethod
    def from_file(cls, path: str | Path) -> Hardware:
        """Read what ``llama4sdk doctor --json`` wrote, or its ``hardware`` part alone.

        Raises ConfigurationError when the file cannot be read or describes no machine.
        """
        import json

        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls.model_validate(data.get("hardware", data) if isinstance(data, dict) else data)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot read the hardware file {path}: {error.strerror or error}.", hint=_HOW_TO_WRITE_ONE
            ) from error
        except ValueError as error:
            cause = in_words(error) if isinstance(error, ValidationError) else str(error)
            raise ConfigurationError(
                f"The hardware file {path} does not describe a machine: {cause}.",
                hint=_HOW_TO_WRITE_ONE,
            ) from error
