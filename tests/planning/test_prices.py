"""Prices are dated, and are not called current for ever."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from llama4sdk.planning.accelerators import describe
from llama4sdk.planning.prices import CURRENT_FOR, Price, find_price, prices, rent_of


def price(endpoint: str, model: str) -> Price:
    found = find_price(endpoint, model)
    assert found is not None
    return found


def test_every_price_has_a_source_and_a_day() -> None:
    """One for each endpoint and model; Llama 4 alone; whatever was published with it is positive."""
    assert len({(p.endpoint, p.model) for p in prices()}) == len(prices()) == 26
    for known in prices():
        assert known.model in ("scout", "maverick")
        assert known.source
        numbers = (known.input, known.output, known.context, known.tokens_per_second)
        assert all(number is None or number > 0 for number in numbers)
        assert (known.tokens_per_second is None) == (known.speed_seen == "")


def test_a_price_ages_and_an_endpoint_ends() -> None:
    """After 90 days it is only what was seen once; Together's ended in February 2026."""
    bedrock = price("amazon bedrock", "scout")
    assert bedrock.current(bedrock.seen + CURRENT_FOR)
    assert not bedrock.current(bedrock.seen + CURRENT_FOR + timedelta(days=1))
    together = price("Together", "maverick")
    assert together.ended(date(2026, 2, 6))
    assert not together.ended(date(2026, 2, 5))
    assert not together.current(together.seen)


def test_dollars_for_tokens() -> None:
    """Three in four tokens of prompt are the usual way to compare; without a price there is no cost."""
    deepinfra = price("DeepInfra", "scout")
    assert deepinfra.cost(2_000_000, 1_000_000) == pytest.approx(0.5)
    assert deepinfra.blended == pytest.approx(0.15)
    groq = price("Groq", "maverick")
    assert groq.cost(1, 1) is groq.blended is None
    assert find_price("DeepInfra", "demo") is None


def test_rents_are_known_of_few() -> None:
    """Two H200 for 7.90 dollars an hour; no number is made up for others."""
    assert rent_of(describe("2xh200").devices) == pytest.approx(7.9)
    assert rent_of(describe("h100").devices) is None
    assert rent_of(describe("h200, h100").devices) is None
    assert rent_of(()) is None
