"""What accelerators cost to rent."""

from __future__ import annotations

import pytest

from llama4sdk.catalog.accelerators import describe, rent_of


def test_rents_are_known_of_few() -> None:
    """Two H200 for 7.90 dollars an hour; no number is made up for others."""
    assert rent_of(describe("2xh200").devices) == pytest.approx(7.9)
    assert rent_of(describe("h100").devices) is None
    assert rent_of(describe("h200, h100").devices) is None
    assert rent_of(()) is None
