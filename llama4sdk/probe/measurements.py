"""What was measured of this machine, kept for its plans: ``calibration.json`` beside the weights."""

from __future__ import annotations

import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from llama4sdk._text import in_words
from llama4sdk._values import Value
from llama4sdk.errors import CheckpointError, Llama4Error
from llama4sdk.hardware import Hardware
from llama4sdk.weights.disk import failed_write

__all__ = ["Measured", "applied", "downloaded", "file", "load", "save", "this_machine"]

NAME: Final = "calibration.json"
ENOUGH: Final = 16_000_000
"""Bytes of a download that tell how fast it is: of less, most of the time goes into beginning."""


class Measured(Value):
    """Bytes per second; ``None`` is what could not be measured."""

    version: Literal[1] = 1
    machine: str
    """Where: its name and kind, for a directory that several machines share."""
    day: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    memory: int | None = Field(default=None, gt=0, lt=10**14)
    disk: int | None = Field(default=None, gt=0, lt=10**13)
    download: int | None = Field(default=None, gt=0, lt=10**13)
    """As fast as weights came the last time."""
    devices: dict[str, Annotated[int, Field(gt=0, lt=10**14)]] = Field(default_factory=dict)
    """From main memory to each device, by its id."""


def this_machine() -> str:
    """What tells machines with one home apart."""
    return f"{platform.node()} {platform.machine()} {os.cpu_count()}"


def file(home: Path) -> Path:
    """Where it is kept."""
    return home / NAME


def load(home: Path) -> Measured | None:
    """What was measured here; ``None`` where nothing was, or on another machine.

    Raises CheckpointError for a file that cannot be read.
    """
    try:
        found = Measured.model_validate_json(file(home).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise CheckpointError(f"{file(home)} is damaged ({in_words(error)})", hint=HINT) from error
    except OSError as error:
        raise CheckpointError(f"{file(home)} cannot be read ({error.strerror})", hint=HINT) from error
    return found if found.machine == this_machine() else None


HINT: Final = "Run 'llama4sdk doctor --bench' again."


def save(home: Path, measured: Measured) -> Path:
    """Keep it, whole or not at all. Raises DownloadError when it cannot be written."""
    target = file(home)
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=home, prefix=NAME)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(measured.model_dump_json(indent=2) + "\n")
            Path(name).chmod(0o644)  # whoever shares the weights plans with it, too
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise failed_write(target, error) from error
    return target


def downloaded(home: Path, size: int, seconds: float) -> None:
    """Keep how fast weights came, where they were enough to tell; what cannot be kept costs nobody the download."""
    if size < ENOUGH or seconds <= 0:
        return
    try:
        day = datetime.now(UTC).date().isoformat()
        before = load(home) or Measured(machine=this_machine(), day=day)
        save(home, before.model_copy(update={"download": int(size / seconds)}))
    except Llama4Error:
        return


def applied(hardware: Hardware, measured: Measured | None) -> Hardware:
    """The machine with what was measured of it."""
    if measured is None:
        return hardware
    devices = tuple(
        device.model_copy(update={"host_bandwidth": measured.devices.get(device.id, device.host_bandwidth)})
        for device in hardware.devices
    )
    speeds = {"memory_bandwidth": measured.memory, "disk_bandwidth": measured.disk, "devices": devices}
    day = measured.day if measured.memory or measured.disk or measured.devices else None
    return hardware.model_copy(update={**speeds, "download_bandwidth": measured.download, "measured": day})
