"""Servers are asked what they serve briefly and seldom."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIConnectionError
from llama4sdk.remote.discovery import RecentAnswers, impatient


def test_an_answer_holds_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same key is asked for again only after the cache's seconds; another key is asked for at once."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    answers: RecentAnswers[int] = RecentAnswers(5.0)
    numbers = iter(range(10))
    assert [answers.get("a", lambda: next(numbers)) for _ in range(2)] == [0, 0]
    assert answers.get("b", lambda: next(numbers)) == 1
    now = 105.5
    assert answers.get("a", lambda: next(numbers)) == 2


def test_an_error_is_an_answer() -> None:
    """A server that does not answer is waited for only once."""
    answers: RecentAnswers[int] = RecentAnswers(5.0)
    attempts = []

    def fail() -> int:
        attempts.append(1)
        raise APIConnectionError("not reached", backend="server")

    for _ in range(2):
        with pytest.raises(APIConnectionError):
            answers.get("a", fail)
    assert len(attempts) == 1


def test_a_quick_question_is_not_repeated() -> None:
    """The endpoint keeps its address and key, and neither retries nor reports attempts."""
    endpoint = Endpoint(url="http://h:1", api_key=SecretStr("k"), on_attempt=lambda attempt: None)
    quick = impatient(endpoint, 0.5)
    assert (quick.url, quick.api_key) == (endpoint.url, endpoint.api_key)
    assert (quick.timeouts.connect, quick.timeouts.total) == (0.5, 0.5)
    assert (quick.retry.retries, quick.on_attempt) == (0, None)
