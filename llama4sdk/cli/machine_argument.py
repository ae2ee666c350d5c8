"""The machines a plan is for: this one, one that was saved, or one described in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from llama4sdk import settings
from llama4sdk.catalog.machine_descriptions import describe, parse_size
from llama4sdk.errors import ConfigurationError
from llama4sdk.hardware import Hardware
from llama4sdk.probe import probe


def read_machines(file: Path | None, gpus: Sequence[str] | None, ram: str | None) -> dict[str, Hardware]:
    """Machines by a name for people; with no option this one, or the file that ``LLAMA4SDK_HARDWARE`` names.

    Raises ConfigurationError.
    """
    if gpus is None and ram is None:
        file = file or settings.hardware_file()
        return {str(file): Hardware.from_file(file)} if file else {"this machine": probe()}
    if file is not None:
        raise ConfigurationError(
            "A machine is read from a file or imagined, not both.", hint="Drop one of the options."
        )
    memory = parse_size(ram) if ram is not None else None
    machines = {f"{name}, {ram} RAM" if ram else name: describe(name, ram=memory) for name in gpus or ["none"]}
    for name, machine in zip(gpus or [], machines.values(), strict=False):
        if memory not in (None, machine.total_memory):
            raise ConfigurationError(
                f"The processor of '{name}' shares its {machine.total_memory / 2**30:g} GB of memory, so --ram {ram} "
                "cannot be.",
                hint="Leave --ram out; of a Mac say the size in its name, such as m3-max-64gb.",
            )
    return machines


def only_machine(machines: Mapping[str, Hardware]) -> Hardware:
    """The machine to plan for. Raises ConfigurationError where there are several."""
    if len(machines) > 1:
        raise ConfigurationError("A plan is for one machine.", hint="Add --compare to see several side by side.")
    return next(iter(machines.values()))
