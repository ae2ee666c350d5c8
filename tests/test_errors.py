"""The error tree is documented as it is, errors show hints, and pickling keeps their fields."""

from __future__ import annotations

import pickle
import re

import pytest

from llama4sdk import errors


def classes() -> list[type[errors.Llama4Error]]:
    """Every exception class the module exports."""
    return [getattr(errors, name) for name in errors.__all__]


def test_the_drawn_tree_is_the_real_one() -> None:
    """Each class stands in the docstring below its true parent."""
    drawing = (errors.__doc__ or "").split("Anything else")[0]
    stack: list[tuple[int, str]] = []
    parents: dict[str, str] = {}
    for line in drawing.splitlines():
        if match := re.search(r"\b(\w+Error)\b", line):
            depth = match.start()
            while stack and stack[-1][0] >= depth:
                stack.pop()
            parents[match[1]] = stack[-1][1] if stack else "Exception"
            stack.append((depth, match[1]))
    assert set(parents) == set(errors.__all__)
    for kind in classes():
        assert parents[kind.__name__] == kind.__bases__[0].__name__


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.InvalidRequestError("x"), ValueError),
        (errors.WeightsNotFoundError("x"), FileNotFoundError),
        (errors.DeviceMemoryError("x"), MemoryError),
        (errors.APITimeoutError("x"), TimeoutError),
        (errors.APIConnectionError("x"), ConnectionError),
        (errors.DownloadError("x"), OSError),
        (errors.ContextLengthError("x", limit=1, requested=2), ValueError),
        (errors.ClientClosedError("x"), RuntimeError),
    ],
)
def test_errors_are_the_builtins_a_caller_would_catch(error: Exception, builtin: type[Exception]) -> None:
    """Code that knows nothing of this SDK still catches what it expects."""
    assert isinstance(error, builtin)


@pytest.mark.parametrize(
    "kind", [errors.WeightsNotFoundError, errors.DownloadError, errors.APITimeoutError, errors.Llama4Error]
)
def test_the_hint_is_part_of_the_text(kind: type[errors.Llama4Error]) -> None:
    """The hint is part of the printed error."""
    error = kind("It broke.", hint="Mend it.")
    assert str(error) == "It broke. Hint: Mend it."
    assert str(kind("It broke.")) == "It broke."


@pytest.mark.parametrize(
    "error",
    [
        errors.ContextLengthError("long", limit=8, requested=9, hint="shorter"),
        errors.InsufficientMemoryError("big", need=2, have=1),
        errors.RateLimitError("slow down", retry_after=1.5, backend="b", request_id="r"),
        errors.UnsupportedFeatureError("echo", "images"),
        errors.StreamInterruptedError("cut", partial=None),
    ],
)
def test_errors_survive_pickling(error: errors.Llama4Error) -> None:
    """An error crosses a process border with all its fields."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
