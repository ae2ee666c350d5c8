"""The part that ``doctor --verbose`` adds: everything that was read, to find a cause or report a bug."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from llama4sdk._text import gb
from llama4sdk.cli.views.responsive_table import key_value_table
from llama4sdk.diagnostics.report import Report
from llama4sdk.hardware import Device, Hardware


def detail_pieces(report: Report) -> Iterator[RenderableType]:
    """The sections that are not empty, each a heading and a table of two columns."""
    for heading, rows in _sections(report).items():
        if rows:
            yield ""
            yield Text(f"  {heading}", style="bold")
            yield Padding(key_value_table(rows.items()), (0, 0, 0, 2))


def _sections(report: Report) -> Mapping[str, Mapping[str, str]]:
    machine = report.hardware
    return {
        "Processor and devices": _devices(machine),
        "Links between devices": {" - ".join(link.devices): _link(link.kind, link.bandwidth) for link in machine.links},
        "Runtimes": {
            runtime.name: runtime.version + (f", built for {runtime.build}" if runtime.build else "")
            for runtime in machine.runtimes
        },
        "Credentials, by name": dict.fromkeys(machine.credentials, "present"),
        "Variables that are set": report.environment,
        "Models kept": {str(path): gb(size) for path, size in report.local_models},
        "Time it took to read": {
            reader: f"{seconds * 1000:.0f} ms" if seconds is not None else "no answer"
            for reader, seconds in report.seconds.items()
        },
    }


def _devices(machine: Hardware) -> dict[str, str]:
    rows = {"cpu": f"{', '.join(machine.cpu.features) or 'no instruction set known'}; NUMA {machine.cpu.numa_nodes}"}
    if machine.driver:
        rows["driver"] = machine.driver + (f", CUDA up to {'.'.join(map(str, machine.cuda))}" if machine.cuda else "")
    rows |= {device.id: _device(device) for device in machine.devices}
    if machine.total_swap:
        rows["swap"] = f"{gb(machine.free_swap)} free of {gb(machine.total_swap)}"
    return rows


def _device(device: Device) -> str:
    capability = device.architecture or ".".join(map(str, device.compute_capability or ()))
    facts = [
        f"capability {capability}" if capability else None,
        device.uuid,
        "a slice" if device.slice else None,
        f"{device.host_bandwidth / 1e9:.0f} GB/s from the machine's memory" if device.host_bandwidth else None,
        f"{device.power_limit:.0f} W" if device.power_limit else None,
        None if device.ecc is None else f"ECC {'on' if device.ecc else 'off'}",
    ]
    return ", ".join(fact for fact in facts if fact)


def _link(kind: str, bandwidth: int | None) -> str:
    return kind if bandwidth is None else f"{kind}, {bandwidth / 1e9:.0f} GB/s one way"
