"""A client spends no more than it may: what could cost more than is left is not sent."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama4sdk import Endpoint, Policy, RetryPolicy
from llama4sdk.errors import (
    APITimeoutError,
    BudgetExceededError,
    ConfigurationError,
    OverloadedError,
    StreamInterruptedError,
)
from llama4sdk.events import Attempt, Finish, TextDelta, Usage
from llama4sdk.session.budget import Budget, Reservation
from tests.session.backends import WAYS, World, says

RATES = {"paid": (1.0, 2.0), "dear": (100.0, 200.0)}
"""A dollar a million tokens of prompt, two of answer: the scripts' 10 and 5 tokens cost 20 millionths."""

MOST = (34 * 1 + 5 * 2) / 1e6
"""What "Hi" with max_tokens=5 may cost there: its bytes with the marks around them, and five tokens."""


def paid(*steps: Any, **given: Any) -> World:
    """A world with a remote place that charges."""
    return World().add("paid", steps or says("x"), **given)


@pytest.mark.parametrize("how", WAYS)
def test_what_an_answer_cost_is_told(how: str) -> None:
    """By published prices or by one's own; what runs here, or has no known price, costs ``None`` and not nothing."""
    assert paid().chat(how, backend="paid", policy=Policy(rates=RATES)).usage.cost == pytest.approx(20e-6)
    published = World().add("deepinfra", says("x")).chat(how, backend="deepinfra")
    assert published.usage.cost == pytest.approx((10 * 0.1 + 5 * 0.3) / 1e6)
    assert World().add("deepinfra", says("x", None, None)).chat(how, backend="deepinfra").usage.cost is None
    assert paid().chat(how, backend="paid").usage.cost is None
    assert World().add("here", says("x"), kind="local").chat(how, backend="here").usage.cost is None


def test_what_an_engine_says_it_cost_counts() -> None:
    """Its dialect knows what was cached or discounted; only the caller's own rates are above that."""
    finish = Finish(reason="stop", usage=Usage(input_tokens=10, output_tokens=5, cost=0.5))
    for rates, cost in (({}, 0.5), (RATES, 20e-6)):
        with paid(finish).client(backend="paid", policy=Policy(rates=rates)) as client:
            assert client.chat("Hi").usage.cost == pytest.approx(cost)
            assert client.spent == pytest.approx(cost)


@pytest.mark.parametrize("how", WAYS)
def test_what_could_cost_too_much_is_not_sent(how: str) -> None:
    """The error says what is spent, what was allowed, and how long an answer there is money for."""
    world = paid()
    with pytest.raises(BudgetExceededError) as caught:
        world.chat(how, backend="paid", policy=Policy(rates=RATES, max_cost=MOST - 2e-6), options={"max_tokens": 5})
    assert caught.value.spent == 0.0
    assert caught.value.needed == pytest.approx(MOST)
    assert caught.value.max_tokens == 4
    assert "With max_tokens=4 it would fit" in str(caught.value.hint)
    assert not world.backend("paid").engines[0].requests
    answer = world.chat(how, backend="paid", policy=Policy(rates=RATES, max_cost=MOST), options={"max_tokens": 5})
    assert answer.text == "x"


def test_without_a_limit_an_answer_may_be_as_long_as_the_context() -> None:
    """So that is what is held for it; no answer at all fits when the prompt alone is too much."""
    with paid().client(backend="paid", policy=Policy(rates=RATES, max_cost=0.008)) as client:
        with pytest.raises(BudgetExceededError) as caught:
            client.chat("Hi")
        assert caught.value.needed == pytest.approx((34 + 4096 * 2) / 1e6)
        assert client.chat("Hi", max_tokens=3900).text == "x"
    with paid().client(backend="paid", policy=Policy(rates=RATES, max_cost=1e-6)) as client:
        with pytest.raises(BudgetExceededError) as caught:
            client.chat("Hi", max_tokens=1)
        assert caught.value.max_tokens is None


def test_no_answer_is_longer_than_the_endpoint_allows() -> None:
    """Bedrock writes no more than 8192 tokens, whatever the context has room for; its prices are published."""
    world = World().add("bedrock", says("x"), context=2_000_000)
    with world.client(backend="bedrock", policy=Policy(max_cost=0.001)) as client:
        with pytest.raises(BudgetExceededError) as caught:
            client.chat("Hi")
        assert caught.value.needed == pytest.approx((34 * 0.17 + 8192 * 0.66) / 1e6)


def test_it_ends_when_the_money_does() -> None:
    """What is spent is what answers cost, not what they might have."""
    with paid().client(backend="paid", policy=Policy(rates=RATES, max_cost=100e-6)) as client:
        for number in range(3):
            assert client.spent == pytest.approx(number * 20e-6)
            client.chat("Hi", max_tokens=5)
        with pytest.raises(BudgetExceededError) as caught:
            client.chat("Hi", max_tokens=5)
        assert caught.value.spent == pytest.approx(60e-6)
        assert client.spent == pytest.approx(60e-6)


@pytest.mark.parametrize("how", WAYS)
def test_an_unknown_price_is_no_price(how: str) -> None:
    """With a limit it is an error that names the remedy, before anything is loaded."""
    world = paid()
    with pytest.raises(ConfigurationError, match="'scout' costs on 'paid' is not known") as caught:
        world.chat(how, backend="paid", policy=Policy(max_cost=1))
    assert "rates={'paid'" in str(caught.value.hint)
    assert not world.backend("paid").plans
    assert World().add("here", says("x"), kind="local").chat(how, backend="here", policy=Policy(max_cost=1)).text == "x"


def test_requests_under_way_count() -> None:
    """Thirty-two threads with money for ten answers at their longest: never more than ten are under way."""
    gate, world = threading.Event(), World()
    world.add("paid", [gate, *says("x")])
    with world.client(backend="paid", policy=Policy(rates=RATES, max_cost=10.5 * MOST)) as client:
        client.load()

        def ask(number: int) -> bool:
            try:
                return client.chat("Hi", max_tokens=5).text == "x"
            except BudgetExceededError:
                gate.set()
                return False

        with ThreadPoolExecutor(32) as pool:
            answered = list(pool.map(ask, range(32)))
        assert client.spent <= 10.5 * MOST
        assert client.spent == pytest.approx(sum(answered) * 20e-6)
        assert 10 <= sum(answered) < 32


def test_hundreds_of_tasks_keep_it() -> None:
    """The same in an event loop: whatever was answered is within the limit."""
    limit = 100 * MOST

    async def main() -> tuple[int, float]:
        async with paid().aclient(backend="paid", policy=Policy(rates=RATES, max_cost=limit)) as client:
            asked = (client.chat("Hi", max_tokens=5) for _ in range(400))
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(one).__name__ for one in found} == {"Completion", "BudgetExceededError"}
            return sum(not isinstance(one, BaseException) for one in found), client.spent

    answered, spent = asyncio.run(main())
    assert spent == pytest.approx(answered * 20e-6)
    assert spent <= limit


@pytest.mark.parametrize(
    ("error", "share"),
    [
        (OverloadedError("full"), 0),
        (APITimeoutError("no connection", phase="connect"), 0),
        (APITimeoutError("no answer", phase="first_byte"), 1),
    ],
    ids=["refused", "not connected", "no answer in time"],
)
def test_what_a_failure_cost(error: Exception, share: int) -> None:
    """Who was refused pays nothing; what was asked for and not waited for may have been bought."""
    with paid(error).client(backend="paid", policy=Policy(rates=RATES, max_cost=1)) as client:
        with pytest.raises(type(error)):
            client.chat("Hi", max_tokens=5)
        assert client.spent == pytest.approx(share * MOST)


def test_an_answer_that_broke_off_counts_at_its_most() -> None:
    """Nobody will say what it cost; the same for one that was left, and for one whose endpoint does not count."""
    with paid(TextDelta(text="half")).client(backend="paid", policy=Policy(rates=RATES, max_cost=1)) as client:
        with pytest.raises(StreamInterruptedError):
            client.chat("Hi", max_tokens=5)
        with client.chat("Hi", max_tokens=5, stream=True) as stream:
            next(stream)
        client.chat("Hi", max_tokens=5, stream=True)  # never begun, so never sent
        assert client.spent == pytest.approx(2 * MOST)
    silent = paid(*says("x", None, None))
    with silent.client(backend="paid", policy=Policy(rates=RATES, max_cost=1)) as client:
        client.chat("Hi", max_tokens=5)
        assert client.spent == pytest.approx(MOST)


def test_asking_again_after_a_timeout_may_be_bought_twice() -> None:
    """Where the retry policy allows it, that much is held, and each try that was too slow is paid for."""
    slow = Attempt(backend="paid", model="scout", error="APITimeoutError: slow")
    finish = Finish(reason="stop", usage=Usage(input_tokens=10, output_tokens=5), attempts=(slow, slow))
    endpoint = Endpoint(retry=RetryPolicy(retries=3, timeouts=True))
    policy = Policy(rates=RATES, max_cost=4 * MOST)
    with paid(finish).client(backend="paid", endpoint=endpoint, policy=policy) as client:
        client.chat("Hi", max_tokens=5)
        assert client.spent == pytest.approx(20e-6 + 2 * MOST)
        with pytest.raises(BudgetExceededError):
            client.chat("Hi", max_tokens=5)


def test_a_fallback_that_is_too_dear_is_passed_over() -> None:
    """The one after it, which costs nothing, answers; what the first held is free again."""
    world = paid(OverloadedError("full")).add("dear", says("dear")).add("here", says("here"), kind="local")
    policy = Policy(rates=RATES, max_cost=0.001, fallback=("dear", "here"))
    with world.client(backend="paid", policy=policy) as client:
        answer = client.chat("Hi", max_tokens=5)
        assert (answer.text, client.spent) == ("here", 0.0)
    assert "BudgetExceededError" in (answer.attempts[1].error or "")
    assert not world.backend("dear").engines[0].requests


def test_embeddings_are_paid_for() -> None:
    """By the tokens the endpoint counted."""
    with paid().client(backend="paid", policy=Policy(rates=RATES, max_cost=1)) as client:
        assert client.embed("Hi").usage.cost == pytest.approx(7e-6)
        assert client.spent == pytest.approx(7e-6)
        assert client.count_tokens("Hi") == 7
        assert client.spent == pytest.approx(7e-6)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans())))
def test_never_more_than_the_limit(steps: list[tuple[float, float, bool]]) -> None:
    """Whatever is reserved and settled in whatever order, no more is spent than was allowed."""
    budget = Budget(2.0)
    reservations: list[tuple[Reservation, float]] = []
    for amount, share, settle in steps:
        with suppress(BudgetExceededError):
            reservations.append((budget.reserve(amount), amount * share))
        if settle and reservations:
            reservation, cost = reservations.pop(0)
            reservation.settle(cost)
            reservation.settle(99.0)  # settling again does nothing
        assert budget.spent <= 2.0 + 1e-9
