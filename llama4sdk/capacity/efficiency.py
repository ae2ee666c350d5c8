"""The shares of specified bandwidth and throughput that engines reach, by kind of machine: ``efficiency.csv``.

The rows of an engine's newest version come last. Bandwidth and throughput measured on this machine
(``llama4sdk.probe.measurements``) replace its specification; these are the shares of it that engines reach.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from llama4sdk.capacity.roofline import Calibration


@cache
def calibrations() -> tuple[Calibration, ...]:
    """All rows of ``efficiency.csv``."""
    with files("llama4sdk.capacity").joinpath("efficiency.csv").open(encoding="utf-8") as file:
        return read_calibrations(file)


def read_calibrations(lines: Iterable[str]) -> tuple[Calibration, ...]:
    """The calibrations of a table's lines. Raises ValidationError for a row that cannot be true."""
    return tuple(_calibration(row) for row in csv.DictReader(lines))


def _calibration(row: dict[str, str]) -> Calibration:
    plain = {key: row[key] for key in ("engine", "version", "site", "overhead", "label", "source", "date")}
    intervals = {column: (row[f"{column}_low"], row[f"{column}_high"]) for column in ("bandwidth", "compute")}
    return Calibration.model_validate({**plain, **intervals, "schemes": tuple(row["schemes"].split())}, strict=False)
