"""Exceptions that are not the SDK's own become a BackendError wherever an engine raises them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llama4sdk import Client
from llama4sdk.errors import BackendError
from llama4sdk.events import TextDelta
from tests.session.backends import CALL_KINDS, ScriptedBackends


@pytest.mark.parametrize("how", CALL_KINDS)
@pytest.mark.parametrize("steps", [[ZeroDivisionError("oops")], [TextDelta(text="a"), ZeroDivisionError("oops")]])
def test_an_answer_that_fails(steps: list[TextDelta | Exception], how: str) -> None:
    """The error names the backend and chains the cause, whether or not the answer had begun."""
    with pytest.raises(BackendError, match="'b' failed while answering: ZeroDivisionError: oops") as caught:
        ScriptedBackends().add("b", steps).chat(how, backend="b")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("activity", "call"),
    [
        ("loading 'scout'", Client.load),
        ("embedding", lambda client: client.embed("Hi")),
        ("counting tokens", lambda client: client.count_tokens("Hi")),
        ("measuring its memory", Client.memory),
    ],
    ids=["load", "embed", "count", "memory"],
)
def test_whatever_else_fails(activity: str, call: Callable[[Client], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for everything else that an engine does."""
    error = ZeroDivisionError()
    backends = ScriptedBackends().add("b", [error], fails=error if activity.startswith("loading") else None)
    with backends.client(backend="b") as client:
        if activity == "measuring its memory":
            monkeypatch.setattr(type(client._session.engine()), "memory", lambda engine: 1 / 0)
        with pytest.raises(BackendError, match=f"'b' failed while {activity}: ZeroDivisionError"):
            call(client)
