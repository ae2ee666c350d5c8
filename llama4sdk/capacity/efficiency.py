"""How far engines get on each kind of machine, of what it is specified for: one row of ``efficiency.csv`` each.

Of an engine the newest version comes last. Bandwidth and throughput measured on this machine
(``llama4sdk.probe.measurements``) replace its specification; these are the shares of it that engines reach.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from llama4sdk.capacity.roofline import Calibration

__all__ = ["calibrations"]


@cache
def calibrations() -> tuple[Calibration, ...]:
    """All rows. Raises ValidationError for one that cannot be true."""
    with files("llama4sdk.capacity").joinpath("efficiency.csv").open(encoding="utf-8") as file:
        return tuple(_calibration(row) for row in csv.DictReader(file))


def _calibration(row: dict[str, str]) -> Calibration:
    given = {key: row[key] for key in ("engine", "version", "site", "overhead", "label", "source", "date")}
    ends = {what: (row[f"{what}_low"], row[f"{what}_high"]) for what in ("bandwidth", "compute")}
    return Calibration.model_validate({**given, **ends, "schemes": tuple(row["schemes"].split())}, strict=False)
