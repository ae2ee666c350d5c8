"""Speeds measured on this machine, which replace specified ones in plans: ``calibration.json`` beside the weights."""

from __future__ import annotations

import os
import platform
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from llama4sdk._text import in_words
from llama4sdk._values import Value
from llama4sdk.errors import CheckpointError, ConfigurationError, Llama4Error
from llama4sdk.hardware import Hardware

NAME: Final = "calibration.json"
#: A smaller download says little about the network's speed: most of its time goes into connecting.
MIN_DOWNLOAD_BYTES: Final = 16_000_000
HINT: Final = "Run 'llama4sdk doctor --bench' again."


class Measured(Value):
    """Bytes per second; ``None`` is what could not be measured."""

    version: Literal[1] = 1
    #: The ``machine_id`` of the machine that was measured.
    machine: str
    day: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    memory: int | None = Field(default=None, gt=0, lt=10**14)
    disk: int | None = Field(default=None, gt=0, lt=10**13)
    #: Speed of the last download of weights.
    download: int | None = Field(default=None, gt=0, lt=10**13)
    #: From main memory to each device, by the device's id.
    devices: dict[str, Annotated[int, Field(gt=0, lt=10**14)]] = Field(default_factory=dict)


def machine_id() -> str:
    """Name, architecture and cores of this machine, which tell machines that share a home directory apart."""
    return f"{platform.node()} {platform.machine()} {os.cpu_count()}"


def load(home: Path) -> Measured | None:
    """Read the measurements of this machine; ``None`` without any, or with another machine's.

    Raises CheckpointError for a file that cannot be read.
    """
    file = home / NAME
    try:
        measured = Measured.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise CheckpointError(f"{file} is damaged ({in_words(error)})", hint=HINT) from error
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror})", hint=HINT) from error
    return measured if measured.machine == machine_id() else None


def save(home: Path, measured: Measured) -> Path:
    """Write the measurements atomically and return the file. Raises ConfigurationError when it cannot be written."""
    target = home / NAME
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=home, prefix=NAME)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(measured.model_dump_json(indent=2) + "\n")
            Path(name).chmod(0o644)  # readable by everyone who shares the weights
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(
            f"{target} could not be written: {error.strerror or error}.",
            hint="Check the directory's permissions, or set LLAMA4SDK_HOME to another directory.",
        ) from error
    return target


def record_download(home: Path, size: int, seconds: float) -> None:
    """Save the speed of a download of ``size`` bytes, if it was large enough; errors in saving are ignored."""
    if size < MIN_DOWNLOAD_BYTES or seconds <= 0:
        return
    with suppress(Llama4Error):
        day = datetime.now(UTC).date().isoformat()
        before = load(home) or Measured(machine=machine_id(), day=day)
        save(home, before.model_copy(update={"download": int(size / seconds)}))


def apply_measurements(hardware: Hardware, measured: Measured | None) -> Hardware:
    """The hardware with measured speeds in place of specified ones."""
    if measured is None:
        return hardware
    devices = tuple(
        device.model_copy(update={"host_bandwidth": measured.devices.get(device.id, device.host_bandwidth)})
        for device in hardware.devices
    )
    speeds = {"memory_bandwidth": measured.memory, "disk_bandwidth": measured.disk, "devices": devices}
    day = measured.day if measured.memory or measured.disk or measured.devices else None
    return hardware.model_copy(update={**speeds, "download_bandwidth": measured.download, "measured": day})
