"""A request that could cost more than is left of the budget is not sent."""

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
from tests.session.backends import CALL_KINDS, ScriptedBackends, text_answer

#: A dollar a million tokens of prompt, two of answer: the scripts' 10 and 5 tokens cost 20 millionths.
RATES = {"paid": (1.0, 2.0), "dear": (100.0, 200.0)}

#: The most that "Hi" with max_tokens=5 may cost: its bytes, the tokens around a message, and five tokens.
MAX_COST = (34 * 1 + 5 * 2) / 1e6


def paid(*steps: Any, **given: Any) -> ScriptedBackends:
    """One remote backend that charges."""
    return ScriptedBackends().add("paid", steps or text_answer("x"), **given)


@pytest.mark.parametrize("how", CALL_KINDS)
def test_what_an_answer_cost_is_told(how: str) -> None:
    """Costs are computed by published or own prices; local engines and unknown prices give ``None``, not zero."""
    assert paid().chat(how, backend="paid", policy=Policy(rates=RATES)).usage.cost == pytest.approx(20e-6)
    published = ScriptedBackends().add("deepinfra", text_answer("x")).chat(how, backend="deepinfra")
    assert published.usage.cost == pytest.approx((10 * 0.1 + 5 * 0.3) / 1e6)
    assert (
        ScriptedBackends().add("deepinfra", text_answer("x", None, None)).chat(how, backend="deepinfra").usage.cost
        is None
    )
    assert paid().chat(how, backend="paid").usage.cost is None
    assert ScriptedBackends().add("here", text_answer("x"), kind="local").chat(how, backend="here").usage.cost is None


def test_what_an_engine_says_it_cost_counts() -> None:
    """Its dialect knows what was cached or discounted; only the caller's own rates are above that."""
    finish = Finish(reason="stop", usage=Usage(input_tokens=10, output_tokens=5, cost=0.5))
    for rates, cost in (({}, 0.5), (RATES, 20e-6)):
        with paid(finish).client(backend="paid", policy=Policy(rates=rates)) as client:
            assert client.chat("Hi").usage.cost == pytest.approx(cost)
            assert client.spent == pytest.approx(cost)


@pytest.mark.parametrize("how", CALL_KINDS)
def test_what_could_cost_too_much_is_not_sent(how: str) -> None:
    """The error says what is spent, what was allowed, and how long an answer there is money for."""
    backends = paid()
    with pytest.raises(BudgetExceededError) as caught:
        backends.chat(
            how, backend="paid", policy=Policy(rates=RATES, max_cost=MAX_COST - 2e-6), options={"max_tokens": 5}
        )
    assert caught.value.spent == 0.0
    assert caught.value.needed == pytest.approx(MAX_COST)
    assert caught.value.max_tokens == 4
    assert "With max_tokens=4 it would fit" in str(caught.value.hint)
    assert not backends.backend("paid").engines[0].requests
    answer = backends.chat(
        how, backend="paid", policy=Policy(rates=RATES, max_cost=MAX_COST), options={"max_tokens": 5}
    )
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
    backends = ScriptedBackends().add("bedrock", text_answer("x"), context=2_000_000)
    with backends.client(backend="bedrock", policy=Policy(max_cost=0.001)) as client:
        with pytest.raises(BudgetExceededError) as caught:
            client.chat("Hi")
        assert caught.value.needed == pytest.approx((34 * 0.17 + 8192 * 0.66) / 1e6)


def test_it_ends_when_the_money_does() -> None:
    """The actual costs of answers are spent, not the most they might have cost."""
    with paid().client(backend="paid", policy=Policy(rates=RATES, max_cost=100e-6)) as client:
        for number in range(3):
            assert client.spent == pytest.approx(number * 20e-6)
            client.chat("Hi", max_tokens=5)
        with pytest.raises(BudgetExceededError) as caught:
            client.chat("Hi", max_tokens=5)
        assert caught.value.spent == pytest.approx(60e-6)
        assert client.spent == pytest.approx(60e-6)


@pytest.mark.parametrize("how", CALL_KINDS)
def test_an_unknown_price_is_no_price(how: str) -> None:
    """With a limit, an unknown price is an error before anything is loaded, and the hint names the remedy."""
    backends = paid()
    with pytest.raises(ConfigurationError, match="'scout' costs on 'paid' is not known") as caught:
        backends.chat(how, backend="paid", policy=Policy(max_cost=1))
    assert "rates={'paid'" in str(caught.value.hint)
    assert not backends.backend("paid").plans
    assert (
        ScriptedBackends()
        .add("here", text_answer("x"), kind="local")
        .chat(how, backend="here", policy=Policy(max_cost=1))
        .text
        == "x"
    )


def test_requests_under_way_count() -> None:
    """Thirty-two threads with money for ten answers at their longest: never more than ten are under way."""
    gate, backends = threading.Event(), ScriptedBackends()
    backends.add("paid", [gate, *text_answer("x")])
    with backends.client(backend="paid", policy=Policy(rates=RATES, max_cost=10.5 * MAX_COST)) as client:
        client.load()

        def ask(number: int) -> bool:
            try:
                return client.chat("Hi", max_tokens=5).text == "x"
            except BudgetExceededError:
                gate.set()
                return False

        with ThreadPoolExecutor(32) as pool:
            answered = list(pool.map(ask, range(32)))
        assert client.spent <= 10.5 * MAX_COST
        assert client.spent == pytest.approx(sum(answered) * 20e-6)
        assert 10 <= sum(answered) < 32


def test_hundreds_of_tasks_keep_it() -> None:
    """In an event loop, too, all answers together are within the limit."""
    limit = 100 * MAX_COST

    async def main() -> tuple[int, float]:
        async with paid().aclient(backend="paid", policy=Policy(rates=RATES, max_cost=limit)) as client:
            asked = (client.chat("Hi", max_tokens=5) for _ in range(400))
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(outcome).__name__ for outcome in outcomes} == {"Completion", "BudgetExceededError"}
            return sum(not isinstance(outcome, BaseException) for outcome in outcomes), client.spent

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
    """A refused request costs nothing; one that timed out after it was sent may have been billed."""
    with paid(error).client(backend="paid", policy=Policy(rates=RATES, max_cost=1)) as client:
        with pytest.raises(type(error)):
            client.chat("Hi", max_tokens=5)
        assert client.spent == pytest.approx(share * MAX_COST)


def test_an_answer_that_broke_off_counts_at_its_most() -> None:
    """Its cost is unknown, as is that of an answer that was left, or whose endpoint reports no usage."""
    with paid(TextDelta(text="half")).client(backend="paid", policy=Policy(rates=RATES, max_cost=1)) as client:
        with pytest.raises(StreamInterruptedError):
            client.chat("Hi", max_tokens=5)
        with client.chat("Hi", max_tokens=5, stream=True) as stream:
            next(stream)
        client.chat("Hi", max_tokens=5, stream=True)  # never begun, so never sent
        assert client.spent == pytest.approx(2 * MAX_COST)
    silent = paid(*text_answer("x", None, None))
    with silent.client(backend="paid", policy=Policy(rates=RATES, max_cost=1)) as client:
        client.chat("Hi", max_tokens=5)
        assert client.spent == pytest.approx(MAX_COST)


def test_asking_again_after_a_timeout_may_be_bought_twice() -> None:
    """Where timeouts are retried, the most of every attempt is reserved, and each one that timed out is paid for."""
    slow = Attempt(backend="paid", model="scout", error="APITimeoutError: slow")
    finish = Finish(reason="stop", usage=Usage(input_tokens=10, output_tokens=5), attempts=(slow, slow))
    endpoint = Endpoint(retry=RetryPolicy(retries=3, timeouts=True))
    policy = Policy(rates=RATES, max_cost=4 * MAX_COST)
    with paid(finish).client(backend="paid", endpoint=endpoint, policy=policy) as client:
        client.chat("Hi", max_tokens=5)
        assert client.spent == pytest.approx(20e-6 + 2 * MAX_COST)
        with pytest.raises(BudgetExceededError):
            client.chat("Hi", max_tokens=5)


def test_a_fallback_that_is_too_dear_is_passed_over() -> None:
    """The next one, which costs nothing, answers, and the first one's reservation is released."""
    backends = (
        paid(OverloadedError("full")).add("dear", text_answer("dear")).add("here", text_answer("here"), kind="local")
    )
    policy = Policy(rates=RATES, max_cost=0.001, fallback=("dear", "here"))
    with backends.client(backend="paid", policy=policy) as client:
        answer = client.chat("Hi", max_tokens=5)
        assert (answer.text, client.spent) == ("here", 0.0)
    assert "BudgetExceededError" in (answer.attempts[1].error or "")
    assert not backends.backend("dear").engines[0].requests


def test_embeddings_are_paid_for() -> None:
    """Embeddings cost by the tokens the endpoint counted, and counting tokens costs nothing."""
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
