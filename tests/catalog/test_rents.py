"""Rents of accelerators."""

from __future__ import annotations

import pytest

from llama4sdk.catalog.accelerators import rent_of
from llama4sdk.catalog.machine_descriptions import describe


def test_rents_are_known_of_few() -> None:
    """Two H200 for 7.90 dollars an hour; no number is made up for others."""
    rent = rent_of(describe("2xh200").devices)
    assert rent is not None
    assert rent.dollars_per_hour == pytest.approx(7.9)
    assert (rent.source, rent.looked_up.isoformat()) == ("dstack", "2026-11-21")
    assert rent_of(describe("h100").devices) is None
    assert rent_of(describe("h200, h100").devices) is None
    assert rent_of(()) is None
