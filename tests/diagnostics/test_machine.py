"""Problems of the hardware that users really meet are reported, each with a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llama4sdk.diagnostics.machine import Check, check_hardware
from llama4sdk.hardware import Device, Runtime
from llama4sdk.testing.machines import H100_X1, H100_X8, LAPTOP, MAC_64GB

GB = 10**9


def found(title: str, machine: Any = H100_X1, **changed: Any) -> list[Check]:
    checks = check_hardware(machine.model_copy(update=changed), python="3.11.0", home=Path("/w"))
    return [check for check in checks if check.title == title]


def torch(version: str, build: str | None) -> tuple[Runtime, ...]:
    return (Runtime(name="torch", version=version, build=build),)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        ("cpu", "2.9.0 is built for CPU and cannot use an NVIDIA GPU"),
        ("rocm 6.4", "2.9.0 is built for ROCM and cannot use an NVIDIA GPU"),
        ("cuda 13.0", "2.9.0 is built for CUDA 13.0; driver 570.86.15 runs CUDA 12.8 at most"),
        ("cuda 12.9", None),
        ("cuda 11.8", None),
        (None, None),
    ],
)
def test_a_torch_that_cannot_use_the_gpu_is_a_warning(build: str | None, words: str | None) -> None:
    """A torch for another device, or for a newer CUDA major version than the driver runs, is a warning."""
    checks = found("Torch", cuda=(12, 8), runtimes=torch("2.9.0", build))
    assert [(check.status, check.text) for check in checks] == ([] if words is None else [("warn", words)])
    assert all(check.fix for check in checks)


def test_a_cpu_build_is_right_where_there_is_no_gpu() -> None:
    """Without a GPU, a CPU build of torch or none at all is no problem."""
    assert found("Torch", LAPTOP, runtimes=torch("2.9.0", "cpu")) == []
    assert found("Torch", H100_X1) == []


def test_hidden_devices_are_listed_with_the_variable() -> None:
    """Hidden devices are listed with the variable that hides them."""
    (check,) = found("Hidden", hidden_devices=("NVIDIA H100 80GB HBM3",))
    assert check.text == "NVIDIA H100 80GB HBM3: CUDA_VISIBLE_DEVICES keeps this process from it"
    assert check.fix == "Unset CUDA_VISIBLE_DEVICES to use all devices."


@pytest.mark.parametrize(("machine", "status"), [(H100_X1, "info"), (LAPTOP, "warn")])
def test_hidden_devices_hinder_only_where_none_is_left(machine: Any, status: str) -> None:
    """Hiding some devices is information, hiding all is a warning."""
    (check,) = found("Hidden", machine, hidden_devices=("NVIDIA H100 80GB HBM3",))
    assert check.status == status


def test_devices_that_are_alike_share_a_line() -> None:
    """Equal devices that follow each other share a line, and a different one has its own."""
    (check,) = found("cuda:0-7", H100_X8)
    assert check.text == "8x NVIDIA H100 80GB HBM3, 84.9 GB free of 85.5 GB each"
    busy = H100_X8.devices[3].model_copy(update={"free_memory": 10 * GB})
    mixed = (*H100_X8.devices[:3], busy, *H100_X8.devices[4:])
    for title in ("cuda:0-2", "cuda:3", "cuda:4-7"):
        assert len(found(title, H100_X8, devices=mixed)) == 1


def test_a_container_limit_is_reported() -> None:
    """A container limit explains the memory that is missing."""
    (check,) = found("Memory", LAPTOP, total_memory=8 * GB, free_memory=6 * GB, installed_memory=64 * GB)
    assert check.text == "6.0 GB free of 8.0 GB; a container limit keeps the rest of 64.0 GB away"


def test_a_busy_or_shared_device_is_reported() -> None:
    """Processes on a device, and memory shared with the CPU, are reported."""
    values = {"kind": "cuda", "index": 0, "name": "GB10", "total_memory": 128 * GB, "free_memory": 90 * GB}
    device = Device.model_validate({**values, "unified": True, "processes": 2})
    (check,) = found("cuda:0", devices=(device,))
    assert check.text == "GB10, 90.0 GB free of 128.0 GB; shared with the CPU; 2 other processes on it"


def test_a_mac_shows_the_limit_of_its_gpu_memory() -> None:
    """A Mac's line has the limit of its GPU's memory and the command that raises it, unless it is raised."""
    (check,) = (check for check in check_hardware(MAC_64GB, python="3", home=Path("/w")) if check.title == "mps")
    assert check.text.endswith(
        "macOS lends it that much, and up to 60.1 GB with sudo sysctl iogpu.wired_limit_mb=57344"
    )
    gpu = MAC_64GB.devices[0].model_copy(update={"total_memory": 57_344 * 2**20})
    raised = MAC_64GB.model_copy(update={"devices": (gpu,)})
    (check,) = (check for check in check_hardware(raised, python="3", home=Path("/w")) if check.title == "mps")
    assert check.text.endswith("shared with the CPU")


@pytest.mark.parametrize(
    ("free", "kind", "status", "words"),
    [
        (500 * GB, "nvme", "ok", "500.0 GB free in /w"),
        (500 * GB, "hdd", "ok", "500.0 GB free in /w, a spinning disk"),
        (500 * GB, "network", "ok", "500.0 GB free in /w, over the network"),
        (500 * GB, "memory", "info", "500.0 GB free in /w, in memory"),
        (1 * GB, "ssd", "warn", "1.0 GB free in /w"),
    ],
)
def test_a_full_or_volatile_disk_is_reported(free: int, kind: str, status: str, words: str) -> None:
    """A full disk and one in memory are reported, with another place for weights."""
    (check,) = found("Disk", disk_free=free, disk_kind=kind)
    assert (check.status, check.text) == (status, words)
    assert status == "ok" or "LLAMA4SDK_HOME" in (check.fix or "")
