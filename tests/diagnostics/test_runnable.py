"""The doctor's table of models says in a few rows what a machine can run, and what it lacks for the rest."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.diagnostics.runnable import RunnableModel, runnable_models
from llama4sdk.hardware import Hardware, Runtime
from llama4sdk.testing.machines import H100_X1, H100_X8, LAPTOP, MACHINES

GB = 10**9


def rows(
    machine: Hardware, usable: Collection[str] = ("torch",), **options: Any
) -> dict[tuple[str, int], RunnableModel]:
    return {(row.model, row.bits): row for row in runnable_models(machine, usable=usable, **options)}


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_every_machine_has_a_short_table(name: str) -> None:
    """There are seven to nine rows; one that fits has a context, another says what it lacks."""
    table = runnable_models(MACHINES[name], usable=("torch",))
    assert 7 <= len(table) <= 9
    for row in table:
        assert row.fits == (row.context > 0)
        assert row.fits or row.lacks > 0 or row.verdict == "refused"
        assert row.download > 0


def test_an_installed_engine_goes_first_where_it_does_as_well() -> None:
    """For four bits on one H100 torch is shown when it works, else the best engine to install."""
    assert rows(H100_X1)["scout", 4].engine == "torch"
    other = rows(H100_X1, usable=())["scout", 4]
    assert not other.installed
    assert other.kind == "single"


def test_an_engine_to_install_goes_first_where_ours_would_leave_the_accelerators() -> None:
    """An engine to install on several accelerators is shown before torch in main memory."""
    best = rows(H100_X8)["scout", 16]
    assert (best.kind, best.installed) == ("tensor", False)
    assert best.engine != "torch"
    assert best.install


def test_a_torch_that_cannot_use_the_gpu_is_not_said_to() -> None:
    """A torch that cannot use the GPU is only considered for the processor."""
    machine = H100_X1.model_copy(update={"runtimes": (Runtime(name="torch", version="2.9", build="cpu"),)})
    assert rows(machine)["scout", 4].engine != "torch"
    assert rows(machine)["demo", 16].engine != "torch"


def test_fewer_bits_are_shown_only_where_four_do_not_fit() -> None:
    """A Mac with 64 GB gets a row for two or three bits; one with 128 GB needs none."""
    small, large = rows(describe("m3-max-64gb")), rows(describe("m3-max-128gb"))
    assert not small["scout", 4].fits
    assert small["scout", 2].fits
    assert large["scout", 4].fits
    assert ("scout", 2) not in large


def test_fewer_bits_are_shown_where_four_would_crawl() -> None:
    """Where four bits would be read from disk, there is a row for fewer bits on the GPU as well."""
    table = rows(describe("m3-max-64gb").model_copy(update={"disk_free": 1000 * GB, "disk_kind": "nvme"}))
    assert (table["scout", 4].kind, table["scout", 2].kind) == ("disk", "single")
    assert ("maverick", 2) not in table  # from disk everything crawls


def test_a_row_names_the_memory_that_is_short() -> None:
    """A row that does not fit names the memory or disk that is too small."""
    assert (rows(LAPTOP)["scout", 16].at, rows(LAPTOP)["scout", 16].verdict) == ("cpu", "lacks 205.8 GB (cpu)")
    tight = LAPTOP.model_copy(update={"disk_free": 50 * GB, "free_memory": 15 * GB})
    assert rows(tight)["scout", 4].at == "disk"


def test_downloads_have_a_size_a_time_and_a_place_on_the_disk() -> None:
    """A download has its bytes, its seconds at the link's speed, and whether the disk has room for it."""
    machine = LAPTOP.model_copy(update={"disk_free": 100 * GB})
    table = rows(machine, link_speed=50_000_000, here=("demo",))
    scout = table["scout", 16]
    assert scout.download == 217_283_587_072
    assert scout.download_seconds == scout.download / 50_000_000
    assert (scout.disk_fits, table["scout", 4].disk_fits) == (False, True)
    assert (table["demo", 16].here, table["demo", 16].disk_fits) == (True, None)
    assert rows(LAPTOP.model_copy(update={"disk_free": None}))["scout", 16].disk_fits is None
