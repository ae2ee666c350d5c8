"""The decision after each step of a request that several deployments may answer."""

from __future__ import annotations

import pytest

from llama4sdk.backend import Need
from llama4sdk.errors import (
    APIStatusError,
    BudgetExceededError,
    ClientClosedError,
    ConfigurationError,
    Llama4Error,
    OverloadedError,
    UnsupportedFeatureError,
)
from llama4sdk.events import Attempt
from llama4sdk.planning.policy import Policy
from llama4sdk.session.deployment import Deployment, Environment
from llama4sdk.session.dispatch import Failover, may_succeed_elsewhere

OVERLOADED = OverloadedError("full")


def failover_among(*backends: str) -> Failover:
    """A request that these backends may answer."""
    need, environment = Need(model="scout"), Environment(Policy(), download=False)
    return Failover([Deployment(need, backend, environment) for backend in backends])


def at_the_second() -> Failover:
    """A request whose first deployment has failed."""
    failover = failover_among("first", "second", "third")
    failover.mark_sent()
    failover.fail(OVERLOADED)
    return failover


@pytest.mark.parametrize(
    "error",
    [
        UnsupportedFeatureError("second", "tools"),
        ConfigurationError("no price"),
        BudgetExceededError("no money", spent=1, limit=1, needed=1),
    ],
)
def test_a_fallback_that_cannot_be_asked_is_passed_over(error: Llama4Error) -> None:
    """Once the request was sent, the same error is the request's."""
    failover = at_the_second()
    failover.fail(error)
    assert failover.current.names == ("third", "scout")
    failover = at_the_second()
    failover.mark_sent()
    with pytest.raises(type(error)) as caught:
        failover.fail(error)
    assert [attempt.backend for attempt in caught.value.attempts] == ["first", "second"]


def test_the_first_deployment_is_never_passed_over() -> None:
    """A feature that the client's own backend lacks is an error."""
    with pytest.raises(UnsupportedFeatureError):
        failover_among("first", "second").fail(UnsupportedFeatureError("first", "tools"))


def test_a_closed_client_ends_it() -> None:
    """No fallback is asked once the client is closed."""
    with pytest.raises(ClientClosedError):
        at_the_second().fail(ClientClosedError("closed"))


def test_an_answer_has_all_attempts() -> None:
    """The failures come before the engine's own attempts, or before the one that answered."""
    own = (Attempt(backend="second", model="scout"),)
    assert failover_among("first").attempts(own) is own
    failover = at_the_second()
    failover.mark_sent()
    failover.mark_answered()
    for attempts in (failover.attempts(own), failover.attempts(())):
        assert [(attempt.backend, attempt.error) for attempt in attempts] == [
            ("first", "OverloadedError: full"),
            ("second", None),
        ]
    with pytest.raises(OverloadedError):
        failover.fail(OVERLOADED)  # the answer has begun


def test_statuses() -> None:
    """5xx are the endpoint's, 4xx the request's, unless the endpoint says that trying again may help."""
    statuses = (400, 404, 500, 529)
    elsewhere = [may_succeed_elsewhere(APIStatusError("x", status=status)) for status in statuses]
    assert elsewhere == [False, False, True, True]
    assert may_succeed_elsewhere(APIStatusError("x", status=409, retryable=True))
