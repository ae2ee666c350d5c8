"""Each obstacle to running models is reported exactly when it exists, with a remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llama4sdk.backend import Capabilities
from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.diagnostics.machine import Check, check_hardware
from llama4sdk.diagnostics.obstacles import check_devices, check_free_space, check_libraries, check_models
from llama4sdk.hardware import Hardware, Runtime
from llama4sdk.plan import Placement, Plan
from llama4sdk.testing.machines import H100_X1, LAPTOP

GB = 10**9
HOME = Path("/w")


def plan(**changed: Any) -> Plan:
    values: dict[str, Any] = {
        "model": "scout",
        "backend": "torch",
        "source": "/w/scout",
        "placement": Placement(kind="local", devices=("cpu",)),
        "context_length": 8192,
        "capabilities": Capabilities(),
        "weight_bytes": 60 * GB,
    }
    return Plan(**(values | changed))


def free_space(plan: Plan | None, **machine: Any) -> list[tuple[str, str]]:
    checks = check_free_space(LAPTOP.model_copy(update=machine), plan, home=HOME)
    assert all(check.fix for check in checks)
    return [
        (check.title, check.status) for check in check_free_space(LAPTOP.model_copy(update=machine), plan, home=HOME)
    ]


@pytest.mark.parametrize(
    ("gpus", "environment", "titles"),
    [
        ("rtx-4090, rtx-3090", {}, ["Numbering"]),
        ("rtx-4090, rtx-3090", {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, ["Numbering"]),
        ("rtx-4090, rtx-3090", {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, []),
        ("2x3090", {}, []),
        ("none", {}, []),
    ],
)
def test_gpus_of_several_kinds_are_numbered_in_two_ways(
    gpus: str, environment: Mapping[str, str], titles: list[str]
) -> None:
    """GPUs of several kinds are numbered differently by CUDA, unless a variable makes it use bus ids."""
    checks = [check for check in check_devices(describe(gpus), environment) if check.title != "Speed"]
    assert [check.title for check in checks] == titles
    assert all(check.fix == "export CUDA_DEVICE_ORDER=PCI_BUS_ID" for check in checks)


@pytest.mark.parametrize("divided", [True, False])
def test_slices_do_not_last(divided: bool) -> None:
    """A divided card gets a note that a restart undoes the division."""
    device = H100_X1.devices[0].model_copy(update={"slice": divided})
    checks = check_devices(H100_X1.model_copy(update={"devices": (device,), "memory_bandwidth": 1}), {})
    assert [check.title for check in checks] == (["Slices"] if divided else [])


def test_missing_measurements_are_reported() -> None:
    """Missing measurements are reported with the command, and existing ones with their day."""
    (unmeasured,) = check_devices(LAPTOP, {})
    assert "llama4sdk doctor --bench" in (unmeasured.fix or "")
    measured = LAPTOP.model_copy(
        update={"memory_bandwidth": 31 * GB, "disk_bandwidth": 2 * GB, "measured": "2026-11-21"}
    )
    assert list(check_devices(measured, {})) == []
    (line,) = [check for check in check_hardware(measured, python="3.11.0", home=HOME) if check.title == "Speed"]
    assert line.text == "memory 31 GB/s, disk 2.0 GB/s, measured 2026-11-21"


@pytest.mark.parametrize(
    ("total", "free", "titles"), [(0, 0, []), (8 * GB, 8 * GB, []), (8 * GB, 7.5e9, []), (8 * GB, 5 * GB, ["Swap"])]
)
def test_swap_in_use_is_reported(total: int, free: float, titles: list[str]) -> None:
    """More than a gigabyte of swap in use is reported."""
    assert [title for title, _ in free_space(None, total_swap=total, free_swap=int(free))] == titles


@pytest.mark.parametrize(("need", "titles"), [(9.1, ["Tight"]), (8.9, [])])
def test_a_plan_that_leaves_little_memory_is_reported(need: float, titles: list[str]) -> None:
    """A plan that takes more than nine tenths of the free memory is reported."""
    large = plan(memory={"cpu": int(need * GB)})
    assert [title for title, _ in free_space(large, free_memory=10 * GB)] == titles


@pytest.mark.parametrize(
    ("changed", "free", "titles"),
    [
        ({"source": None}, 59 * GB, [("Disk", "warn")]),
        ({"source": None}, 61 * GB, []),
        ({"source": None}, None, []),
        ({"source": None, "weight_bytes": None}, 1, []),
        ({}, 59 * GB, []),
        ({"source": None, "placement": Placement(kind="remote", devices=("x",))}, 59 * GB, []),
    ],
)
def test_a_disk_too_small_for_the_model_of_the_plan(changed: Any, free: int | None, titles: Any) -> None:
    """A disk too small for the weights is a warning, if they must be fetched and their size is known."""
    assert free_space(plan(**changed), disk_free=free) == titles


@pytest.mark.parametrize(
    ("names", "titles"),
    [(("onnxruntime", "onnxruntime-gpu"), ["ONNX"]), (("onnxruntime-gpu",), []), (("onnxruntime",), []), ((), [])],
)
def test_two_builds_of_onnxruntime(names: tuple[str, ...], titles: list[str]) -> None:
    """Two builds of onnxruntime at once are reported, since they overwrite each other."""
    machine = LAPTOP.model_copy(update={"runtimes": tuple(Runtime(name=name, version="1.23") for name in names)})
    assert [check.title for check in check_libraries(machine, {})] == titles


def test_a_library_that_is_too_old_for_its_plugin() -> None:
    """A library that is too old for its plugin is named with both versions and the command."""
    (outdated,) = check_libraries(LAPTOP, {"llama4sdk-torch": (("torch", "2.4.1", "2.9"),)})
    assert (outdated.status, outdated.text) == ("warn", "llama4sdk-torch needs torch 2.9 or newer; 2.4.1 is installed")
    assert outdated.fix == "pip install -U 'torch>=2.9'"


def models(machine: Hardware = LAPTOP, partial: Any = None, **paths: Path | None) -> dict[str, Check]:
    return {check.title: check for check in check_models(machine, paths, partial or {})}


@pytest.mark.parametrize("key", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "~/.cache/huggingface/token"])
def test_gated_weights_need_a_token(key: str) -> None:
    """The licence's address is shown where gated weights are absent and no credential is here."""
    licence = models(scout=None)["Licence"]
    assert licence.status == "info"
    assert "huggingface.co/meta-llama/Llama-4-Scout-17B-16E-Instruct" in (licence.fix or "")
    assert "Licence" not in models(LAPTOP.model_copy(update={"credentials": (key,)}), scout=None)
    assert "Licence" not in models(scout=Path("/w/scout"))
    assert "Licence" not in models(demo=None)


def test_a_model_that_came_in_part() -> None:
    """A partial download is shown with its size, its directory, and how to go on."""
    checks = models(
        scout=None, demo=None, partial={"scout": (Path("/hub/x"), 12 * GB), "demo": (Path("/w/d"), 5 * 10**6)}
    )
    assert checks["scout"].text == "Llama 4 Scout 17B-16E Instruct, only in part: 12.0 GB in /hub/x"
    assert "hf download meta-llama/Llama-4-Scout-17B-16E-Instruct" in (checks["scout"].fix or "")
    assert checks["demo"].fix == "llama4sdk pull demo"
