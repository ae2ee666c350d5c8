"""Accelerators are found by what drivers and people call them, and machines are made of them."""

from __future__ import annotations

import pytest

from llama4sdk.catalog.accelerators import accelerator_of, accelerators, find_accelerator
from llama4sdk.catalog.machine_descriptions import describe, parse_size
from llama4sdk.errors import ConfigurationError
from llama4sdk.hardware import Device, Hardware

GIB = 2**30


def named(name: str, kind: str = "cuda") -> str | None:
    device = Device.model_validate({"kind": kind, "index": 0, "name": name, "total_memory": 1, "free_memory": 1})
    accelerator = accelerator_of(device)
    return None if accelerator is None else accelerator.name


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM5 80GB"),
        ("NVIDIA H100 PCIe", "H100 PCIe 80GB"),
        ("NVIDIA H100 NVL", "H100 NVL 94GB"),
        ("NVIDIA H200", "H200 SXM 141GB"),
        ("NVIDIA H200 NVL", "H200 NVL 141GB"),
        ("NVIDIA GH200 480GB", "GH200 96GB"),
        ("NVIDIA H20", "H20 96GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM4 80GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIe 40GB"),
        ("NVIDIA A10G", "A10G 24GB"),
        ("NVIDIA A10", "A10 24GB"),
        ("NVIDIA L40S", "L40S 48GB"),
        ("NVIDIA L40", "L40 48GB"),
        ("NVIDIA L4", "L4 24GB"),
        ("Tesla T4", "T4 16GB"),
        ("Tesla V100-SXM2-32GB", "V100 SXM2 32GB"),
        ("NVIDIA GeForce RTX 3090 Ti", "GeForce RTX 3090 Ti 24GB"),
        ("NVIDIA GeForce RTX 3090", "GeForce RTX 3090 24GB"),
        ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090 24GB"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada 48GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX PRO 6000 Blackwell Max-Q 96GB"),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "H100 SXM5 80GB"),
        ("NVIDIA B200", "B200 SXM 180GB"),
        ("NVIDIA GB200", "GB200"),
        ("NVIDIA GB10", "DGX Spark GB10 128GB"),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_drivers_names_are_known(driver: str, name: str | None) -> None:
    """As NVML reports them; what is not in the catalogue is not guessed."""
    assert named(driver) == name


@pytest.mark.parametrize("name", [accelerator.name for accelerator in accelerators()])
def test_every_name_means_its_own_row(name: str) -> None:
    """In full, as people write it and as a described machine carries it."""
    accelerator = find_accelerator(name)
    assert accelerator.name == name
    assert named(name, accelerator.kind) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("H100", "H100 SXM5 80GB"),
        ("h100-80gb", "H100 SXM5 80GB"),
        ("h100 pcie", "H100 PCIe 80GB"),
        ("h20", "H20 96GB"),
        ("rtx4090", "GeForce RTX 4090 24GB"),
        ("4090", "GeForce RTX 4090 24GB"),
        ("a100-40gb", "A100 SXM4 40GB"),
        ("l4", "L4 24GB"),
        ("mi300x", "Instinct MI300X 192GB"),
        ("6000 ada", "RTX 6000 Ada 48GB"),
    ],
)
def test_people_s_names_are_known(text: str, name: str) -> None:
    """In any case, with or without the maker's words."""
    assert find_accelerator(text).name == name


def test_numbers_are_bytes_and_operations() -> None:
    """Driver-reported memory of the H100 and the bandwidth of its makers' sheet."""
    h100 = find_accelerator("h100")
    assert (h100.memory, h100.bandwidth, h100.flops["fp8"]) == (85_520_809_984, 3_350_000_000_000, 1.979e15)
    assert (h100.link_bandwidth, h100.host_bandwidth) == (450_000_000_000, 64_000_000_000)
    assert all(a.memory > 0 and a.bandwidth > 0 for a in accelerators())


def test_a_server_is_described_in_words() -> None:
    """Eight cards, each linked with each, and the memory that was asked for."""
    machine = describe("8xH100-80GB", ram=parse_size("1TB"))
    assert [device.id for device in machine.devices] == [f"cuda:{index}" for index in range(8)]
    assert {device.total_memory for device in machine.devices} == {85_520_809_984}
    assert all(device.free_memory < device.total_memory for device in machine.devices)
    assert len(machine.links) == 28
    assert machine.total_memory == 2**40
    assert Hardware.model_validate_json(machine.model_dump_json()) == machine


def test_links_are_as_cards_usually_have_them() -> None:
    """Two by two with a bridge, none between consumer cards or unlike ones."""
    assert [link.devices for link in describe("4xH100 NVL").links] == [("cuda:0", "cuda:1"), ("cuda:2", "cuda:3")]
    assert describe("2x4090").links == ()
    mixed = describe("h100, 4090")
    assert [device.name for device in mixed.devices] == ["H100 SXM5 80GB", "GeForce RTX 4090 24GB"]
    assert mixed.links == ()


def test_a_mac_is_described_with_its_memory() -> None:
    """The size in the name goes before the catalogue's; the GPU may use three quarters of it."""
    machine = describe("m3-max-64gb")
    assert (machine.system, machine.total_memory) == ("Darwin arm64", 64 * GIB)
    assert machine.devices[0].total_memory == 48 * GIB


@pytest.mark.parametrize("name", ["gb10", "ryzen-ai-max", "m3-max-128gb", "m5-32gb", "mi300a", "thor"])
def test_memory_that_is_shared_counts_once(name: str) -> None:
    """Unified memory is one pool: bytes that the device takes are gone for the processor."""
    machine = describe(name)
    (device,) = machine.devices
    assert device.unified
    assert device.free_memory <= machine.free_memory < machine.total_memory
    busy = machine.with_free("cpu", 10**9)
    assert busy.free(device.id) == busy.free_on(busy.devices[0]) == 10**9


def test_a_card_s_memory_is_none_of_what_a_chip_shares() -> None:
    """A machine that has both has the chip's memory as its own."""
    machine = describe("gb10, rtx-4090")
    assert machine.total_memory == 128 * GIB
    assert machine.free("cuda:1") == machine.devices[1].free_memory


def test_a_machine_without_accelerators_is_described() -> None:
    """It has the memory that was asked for, or 16 GiB."""
    assert (describe("none").devices, describe("none").total_memory) == ((), 16 * GIB)
    assert describe("none", ram=64 * GIB).total_memory == 64 * GIB


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8x",
        "0x4090",
        "5000xH100",
        "3dfx voodoo",
        "h100-81gb",
        "4090,mi300x",
        ",",
        "1e9",
        "h100-0gb",
        "h100-0 gb",
        "h100--80gb",
        "none,h100",
        "-h100",
    ],
)
def test_what_describes_no_machine_is_refused(text: str) -> None:
    """With one clear error."""
    with pytest.raises(ConfigurationError):
        describe(text)


@pytest.mark.parametrize(
    ("text", "size"), [("64GB", 64 * GIB), ("1.5 TiB", 3 * 2**39), ("512m", 512 * 2**20), ("7", 7), ("2G", 2 * GIB)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    """By powers of 1024, as memory is sold."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "0GB", "-1GB", "1PB", "1e3"])
def test_nonsense_is_no_size(text: str) -> None:
    """With one clear error."""
    with pytest.raises(ConfigurationError, match="no amount of memory"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "count"), [("rx 7900 xtx", 1), ("2x 7900 xtx", 2), ("2 x 7900 xtx", 2), ("2X7900 XTX", 2)]
)
def test_a_name_may_end_in_an_x_and_more(text: str, count: int) -> None:
    """It is no number of times."""
    machine = describe(text)
    assert [device.name for device in machine.devices] == ["Radeon RX 7900 XTX 24GB"] * count
