"""GPUs as the real ``pynvml`` reads them from a stand-in for the driver's library."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pynvml
import pytest

from llama4sdk.catalog.accelerators import find_accelerator
from llama4sdk.hardware import Device, Link
from llama4sdk.probe import nvidia, probe
from llama4sdk.probe.gpus import Gpus
from tests.probe.nvml import _FUNCTIONS, Card, Library, installed

TWO = tuple(Card(uuid=f"GPU-{letter}", nvlinks=(18, 4)) for letter in "ab")


def read(library: Library | None, visible: str | None = None) -> Gpus:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    with installed(library):
        return nvidia.read(environment, [])


def test_a_machine_without_the_library_has_no_gpus() -> None:
    """Without the library there are no GPUs and no problems."""
    assert read(None) == Gpus()
    assert read(Library(faults={"nvmlInitWithFlags": pynvml.NVML_ERROR_DRIVER_NOT_LOADED})) == Gpus()


def test_a_container_without_the_driver_s_library_is_reported(tmp_path: Path) -> None:
    """A loaded kernel driver without its library is reported as a problem."""
    file = tmp_path / "version"
    file.touch()
    with installed(None):
        assert nvidia.read({}, [file]) == Gpus(problems=(nvidia.LIBRARY_MISSING,))
        assert nvidia.read({}, [tmp_path / "absent"]) == Gpus()


def test_a_card_is_described() -> None:
    """Memory in bytes, link and power as specified, and the number of other processes."""
    nvidia = read(Library(cards=(Card(pids=(os.getpid(), 7, 8)),)))
    assert (nvidia.driver, nvidia.cuda, nvidia.links, nvidia.hidden) == ("570.86.15", (12, 8), (), ())
    assert nvidia.devices == (
        Device(
            kind="cuda",
            index=0,
            name="NVIDIA H100 80GB HBM3",
            total_memory=85_520_809_984,
            free_memory=84_900_000_000,
            compute_capability=(9, 0),
            uuid="GPU-0",
            processes=2,
            memory_bandwidth=3_352_320_000_000,
            host_bandwidth=64_000_000_000,
            power_limit=700.0,
            ecc=True,
        ),
    )


def test_what_a_driver_cannot_tell_is_left_out() -> None:
    """An old or virtual GPU has at least a name and memory."""
    unable = Card(pcie=None, watts=None, ecc=None, memory=None)
    faults = {
        "nvmlDeviceGetMigMode": pynvml.NVML_ERROR_NOT_SUPPORTED,
        "nvmlDeviceGetComputeRunningProcesses": pynvml.NVML_ERROR_NO_PERMISSION,
        "nvmlSystemGetCudaDriverVersion": pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    }
    nvidia = read(Library(cards=(unable,), faults=faults))
    (device,) = nvidia.devices
    assert (device.host_bandwidth, device.power_limit, device.ecc, device.processes) == (None, None, None, 0)
    assert device.memory_bandwidth is None
    assert nvidia.cuda is None


def test_a_chip_without_memory_of_its_own_shares_the_machine_s() -> None:
    """GB10 and Jetson, which do not support the memory query, use the machine's memory."""
    (device,) = read(Library(cards=(Card(name="NVIDIA GB10", total=None),))).devices
    assert device.unified
    assert 0 < device.free_memory <= device.total_memory


def test_slices_stand_in_for_the_card_that_was_divided() -> None:
    """Each MIG slice is a device with its own memory and without links."""
    slices = (Card(name="H100 MIG 3g.40gb", total=42_000_000_000, free=41_000_000_000, uuid="MIG-1"), None)
    card = Card(
        slices=(*slices, Card(name="H100 MIG 1g.10gb", total=10_500_000_000, free=10_000_000_000, uuid="MIG-3"))
    )
    nvidia = read(Library(cards=(card,), peers=True))
    assert [(d.id, d.uuid, d.slice, d.total_memory) for d in nvidia.devices] == [
        ("cuda:0", "MIG-1", True, 42_000_000_000),
        ("cuda:1", "MIG-3", True, 10_500_000_000),
    ]
    assert nvidia.links == ()
    assert [d.memory_bandwidth for d in nvidia.devices] == [
        int(3_352_320_000_000 * (size / 85_520_809_984)) for size in (42_000_000_000, 10_500_000_000)
    ]


@pytest.mark.parametrize(
    ("name", "clock", "width"),
    [
        ("H100 SXM5 80GB", 2619, 5120),
        ("H100 PCIe 80GB", 1593, 5120),
        ("A100 SXM4 80GB", 1593, 5120),
        ("A100 SXM4 40GB", 1215, 5120),
        ("V100 SXM2 32GB", 877, 4096),
        ("T4 16GB", 5001, 256),
        ("L4 24GB", 6251, 192),
        ("A10 24GB", 6251, 384),
        ("RTX A6000 48GB", 8001, 384),
        ("GeForce RTX 3090 24GB", 9751, 384),
        ("GeForce RTX 4090 24GB", 10501, 384),
        ("GeForce RTX 5090 32GB", 14001, 512),
    ],
)
def test_bandwidth_follows_from_clock_and_width(name: str, clock: int, width: int) -> None:
    """Bandwidth is as specified within 1%, for HBM and for GDDR."""
    (device,) = read(Library(cards=(Card(name=name, memory=(clock, width)),))).devices
    assert device.memory_bandwidth == pytest.approx(find_accelerator(name).bandwidth, rel=0.01)


@pytest.mark.parametrize(
    ("visible", "uuids", "hidden"),
    [
        (None, ["GPU-a", "GPU-b"], 0),
        ("1,0", ["GPU-b", "GPU-a"], 0),
        ("GPU-b", ["GPU-b"], 1),
        ("1,7,0", ["GPU-b"], 1),
        ("0,0", ["GPU-a"], 1),
        ("GPU-", [], 2),
        ("-1", [], 2),
        ("", [], 2),
    ],
)
def test_hidden_devices_are_not_used_but_listed(visible: str | None, uuids: list[str], hidden: int) -> None:
    """Hidden devices are listed, and visible ones are numbered as this process numbers them."""
    nvidia = read(Library(cards=TWO), visible)
    assert [device.uuid for device in nvidia.devices] == uuids
    assert [device.index for device in nvidia.devices] == list(range(len(uuids)))
    assert len(nvidia.hidden) == hidden


def test_links_are_between_pairs() -> None:
    """NVLink has the bandwidth of all links of a device; direct access that of the slower PCIe link."""
    pair = ("cuda:0", "cuda:1")
    assert read(Library(cards=TWO, nvlink=True)).links == (
        Link(devices=pair, kind="nvlink", bandwidth=450_000_000_000),
    )
    slower = (Card(pcie=(4, 8), uuid="GPU-a"), Card(uuid="GPU-b"))
    assert read(Library(cards=slower, peers=True)).links == (Link(devices=pair, kind="peer", bandwidth=16_000_000_000),)
    assert read(Library(cards=TWO)).links == ()


def test_a_lost_card_leaves_the_others() -> None:
    """A card that fails is reported, and the others are used."""
    nvidia = read(Library(cards=(Card(uuid="GPU-a", lost=True), Card(uuid="GPU-b"))))
    assert [(device.id, device.uuid) for device in nvidia.devices] == [("cuda:0", "GPU-b")]
    assert nvidia.problems == ("Could not read GPU 0: GPU is lost.",)


@pytest.mark.parametrize("function", sorted(_FUNCTIONS))
@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_UNKNOWN, pynvml.NVML_ERROR_GPU_IS_LOST, 4711])
def test_no_fault_of_the_driver_raises(function: str, code: int) -> None:
    """Whatever NVML function fails, the machine is described and the failure reported."""
    with installed(Library(cards=TWO, nvlink=True, faults={function: code})):
        machine = probe()
    assert machine.total_memory > 0
    assert len(machine.devices) == 2 or any("GPU" in problem for problem in machine.problems)
    assert not any(device.unified for device in machine.devices)


def test_a_driver_that_hangs_costs_the_deadline_and_nothing_else() -> None:
    """While a driver hangs, everything else is read."""
    release = threading.Event()
    with installed(Library(cards=TWO, hang=release)):
        began = time.monotonic()
        machine = probe(deadline=0.2)
        assert time.monotonic() - began < 15  # not the 30 s that the driver hangs
        release.set()
    assert machine.devices == ()
    assert machine.problems == ("Could not read GPUs through NVML: it did not answer in time.",)
    assert machine.total_memory > 0
