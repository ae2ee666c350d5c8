"""Scout for most requests, Maverick for hard ones, and what that costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama4sdk.catalog.endpoint_tables import Listing
from llama4sdk.catalog.endpoints import find
from llama4sdk.errors import ConfigurationError, ContextLengthError
from llama4sdk.planning.routing import RequestProfile, RoutingRule, Workload, projected_cost, route

RULE = RoutingRule(scout_context=128_000, maverick_context=64_000)


def at(endpoint: str) -> dict[str, Listing]:
    """Prices of both models."""
    found = {model: find(endpoint, model) for model in ("scout", "maverick")}
    return {model: price for model, price in found.items() if price}


@pytest.mark.parametrize(
    ("ask", "model", "reason"),
    [
        (RequestProfile(prompt_tokens=100, max_tokens=100), "scout", "costs less"),
        (RequestProfile(prompt_tokens=100, max_tokens=100, difficulty="hard"), "maverick", "said to be hard"),
        (RequestProfile(prompt_tokens=100, max_tokens=100, tools=8), "maverick", "8 tools"),
        (RequestProfile(prompt_tokens=100, max_tokens=100, images=5), "maverick", "5 images"),
        (
            RequestProfile(prompt_tokens=100, max_tokens=100, tools=8, images=9, difficulty="easy"),
            "scout",
            "costs less",
        ),
        (RequestProfile(prompt_tokens=64_000, max_tokens=0, difficulty="hard"), "maverick", "said to be hard"),
        (RequestProfile(prompt_tokens=64_000, max_tokens=1, difficulty="hard"), "scout", "context of that length"),
    ],
)
def test_what_is_hard_goes_to_maverick(ask: RequestProfile, model: str, reason: str) -> None:
    """As far as its context reaches; what the caller calls easy is."""
    found = route(ask, RULE)
    assert found.model == model
    assert reason in found.reason


def test_what_neither_can_take_is_an_error() -> None:
    """With the tokens there are and the tokens asked for."""
    with pytest.raises(ContextLengthError, match="128,001 tokens") as caught:
        route(RequestProfile(prompt_tokens=128_001, max_tokens=0), RULE)
    assert (caught.value.limit, caught.value.requested) == (128_000, 128_001)
    assert caught.value.hint


def test_the_projected_cost_of_a_workload() -> None:
    """At DeepInfra, nine requests in ten with Scout: worked out by hand."""
    usual = Workload(ask=RequestProfile(prompt_tokens=1000, max_tokens=1000), requests=900)
    hard = Workload(ask=RequestProfile(prompt_tokens=1000, max_tokens=1000, difficulty="hard"), requests=100)
    found = projected_cost([usual, hard], at("DeepInfra"))
    assert found.requests == {"scout": 900, "maverick": 100}
    assert found.dollars == pytest.approx(900 * 0.0004 + 100 * 0.001)
    assert found.all_scout == pytest.approx(0.4)
    assert found.all_maverick == pytest.approx(1.0)


def test_one_model_alone_may_not_reach() -> None:
    """A request that is too long for Maverick leaves no cost of Maverick alone; no price leaves none at all."""
    long = Workload(ask=RequestProfile(prompt_tokens=100_000, max_tokens=0), requests=1)
    assert projected_cost([long], at("DeepInfra"), RULE).all_maverick is None
    with pytest.raises(ConfigurationError, match="no price of 'scout'"):
        projected_cost([long], {}, RULE)


@given(
    parts=st.lists(
        st.builds(
            Workload,
            ask=st.builds(
                RequestProfile,
                prompt_tokens=st.integers(0, 64_000),
                max_tokens=st.just(0),
                images=st.integers(0, 9),
                tools=st.integers(0, 20),
                difficulty=st.sampled_from(["easy", "usual", "hard"]),
            ),
            requests=st.integers(0, 1000),
        ),
        max_size=5,
    )
)
def test_mixing_costs_no_more_than_the_dearer_and_no_less_than_the_cheaper(parts: list[Workload]) -> None:
    """And every request is counted once."""
    found = projected_cost(parts, at("DeepInfra"), RULE)
    assert found.all_scout is not None
    assert found.all_maverick is not None
    assert found.all_scout * (1 - 1e-9) <= found.dollars <= found.all_maverick * (1 + 1e-9)
    assert sum(found.requests.values()) == sum(part.requests for part in parts)
