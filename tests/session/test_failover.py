"""What follows from each step of a request over its places."""

from __future__ import annotations

import pytest

from llama4sdk.errors import (
    APIStatusError,
    BudgetExceededError,
    ClientClosedError,
    ConfigurationError,
    Llama4Error,
    OverloadedError,
    UnsupportedFeatureError,
)
from llama4sdk.events import Finish
from llama4sdk.session.failover import Failover, may_work_elsewhere

FULL = OverloadedError("full")


def at_the_second(places: int = 3) -> Failover:
    """A walk whose first place has failed."""
    walk = Failover(places)
    walk.arrived("first", "scout")
    walk.ask()
    walk.failed(FULL)
    walk.arrived("second", "scout")
    return walk


@pytest.mark.parametrize(
    "error",
    [
        UnsupportedFeatureError("second", "tools"),
        ConfigurationError("no price"),
        BudgetExceededError("no money", spent=1, limit=1, needed=1),
    ],
)
def test_a_fallback_that_cannot_be_asked_is_passed_over(error: Llama4Error) -> None:
    """Once it was asked, the same error is the request's."""
    walk = at_the_second()
    walk.failed(error)
    assert walk.place == 2
    walk = at_the_second()
    walk.ask()
    with pytest.raises(type(error)) as caught:
        walk.failed(error)
    assert [attempt.backend for attempt in caught.value.attempts] == ["first", "second"]


def test_the_first_place_is_never_passed_over() -> None:
    """What the client itself cannot do is an error."""
    walk = Failover(2)
    walk.arrived("first", "scout")
    with pytest.raises(UnsupportedFeatureError):
        walk.failed(UnsupportedFeatureError("first", "tools"))


def test_a_closed_client_ends_it() -> None:
    """However many places are left."""
    walk = at_the_second()
    with pytest.raises(ClientClosedError):
        walk.failed(ClientClosedError("closed"))


def test_a_whole_answer_has_all_that_was_tried() -> None:
    """And nothing where nothing failed before it: then the engine's own word stands."""
    finish = Finish(reason="stop")
    assert Failover(1).finished(finish) is finish
    walk = at_the_second()
    walk.ask()
    walk.answer()
    assert [attempt.error for attempt in walk.finished(finish).attempts] == ["OverloadedError: full", None]
    with pytest.raises(OverloadedError):
        walk.failed(FULL)  # the answer has begun


def test_statuses() -> None:
    """5xx are the endpoint's, 4xx the request's, unless it said that trying again may help."""
    assert [may_work_elsewhere(APIStatusError("x", status=status)) for status in (400, 404, 500, 529)] == [
        False,
        False,
        True,
        True,
    ]
    assert may_work_elsewhere(APIStatusError("x", status=409, retryable=True))
