"""Scores as values, and the windows that long texts are read in."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama4sdk import Client
from llama4sdk.errors import BackendError, ContextLengthError, InvalidRequestError, UnsupportedFeatureError
from llama4sdk.events import TokenLogprob
from llama4sdk.local.windows import windows
from llama4sdk.messages import ImagePart, Message, TextPart
from llama4sdk.results import Scores
from llama4sdk.session.validation import score_request
from llama4sdk.testing import LAPTOP, scripted_registry


def scores(*logprobs: float) -> Scores:
    """Of a text of one token more."""
    entries = tuple(TokenLogprob(token="x", logprob=value) for value in logprobs)
    return Scores(tokens=("x",) * (len(entries) + 1), logprobs=(None, *entries), model="m", backend="b")


@given(tokens=st.integers(1, 300), window=st.integers(2, 50), stride=st.integers(1, 49), context=st.integers(50, 400))
def test_every_token_after_the_first_is_scored_once(tokens: int, window: int, stride: int, context: int) -> None:
    """In order, in windows of the size asked for, and beyond the first with at least window - stride before it."""
    step = min(stride, window - 1)
    spans = list(windows(tokens, window=window, stride=step, context_length=context))
    assert [token for span in spans for token in range(span.first, span.end)] == list(range(1, tokens))
    assert spans[0].begin == 0
    for span in spans:
        assert 0 <= span.begin < span.first
        assert span.end - span.begin <= window
    assert all(span.first - span.begin >= window - step for span in spans[1:])


@pytest.mark.parametrize("context", [1, 2, 3, 10])
def test_without_a_window_it_is_the_context(context: int) -> None:
    """A text that fits is one window; a longer one is read in windows as long as the context, half of each scored."""
    assert len(list(windows(context, window=None, stride=None, context_length=context))) == 1
    spans = list(windows(25, window=None, stride=None, context_length=context))
    assert [token for span in spans for token in range(span.first, span.end)] == list(range(1, 25))
    assert max(span.end - span.begin for span in spans) == max(2, context)


def test_a_window_beyond_the_context_is_refused() -> None:
    """With both numbers."""
    with pytest.raises(ContextLengthError) as raised:
        list(windows(5, window=9, stride=None, context_length=8))
    assert (raised.value.limit, raised.value.requested) == (8, 9)


def test_the_sums_are_those_of_the_definition() -> None:
    """Log-likelihood, perplexity and its standard error, by the delta method; the first token counts nowhere."""
    text = scores(-1.0, -3.0)
    assert (text.scored, text.log_likelihood) == (2, -4.0)
    assert math.isclose(text.perplexity, math.e**2)
    assert math.isclose(text.standard_error, math.e**2 * math.sqrt(2) / math.sqrt(2))
    assert math.isnan(scores().perplexity)
    assert math.isnan(scores(-1.0).standard_error)
    assert Scores.model_validate_json(text.model_dump_json()) == text


@pytest.mark.parametrize(
    "options", [{"top": 21}, {"top": -1}, {"window": 1}, {"window": 4, "stride": 4}, {"stride": 0}]
)
def test_what_cannot_be_meant_is_refused(options: dict[str, int]) -> None:
    """Numbers out of range and a stride that leaves no context, before anything is loaded."""
    with pytest.raises(InvalidRequestError, match=next(reversed(options))):
        score_request("text", options.get("top", 0), options.get("window"), options.get("stride"))


def test_a_string_is_text_and_messages_are_a_conversation() -> None:
    """A string is scored as it is; anything else is what ``chat`` takes. Nothing at all is refused."""
    assert score_request("a text", 0, None, None).prompt == "a text"
    assert score_request([{"role": "user", "content": "hi"}], 0, None, None).messages[0].content == "hi"
    with pytest.raises(InvalidRequestError):
        score_request("", 0, None, None)
    with pytest.raises(InvalidRequestError):
        score_request([], 0, None, None)


def test_images_cannot_be_scored_and_a_missing_verb_has_a_name() -> None:
    """An image is refused in words; an engine that declares what it has not is to blame."""
    registry, _ = scripted_registry()
    with Client("scripted", registry=registry, hardware=LAPTOP) as client:
        image = Message(role="user", content=(TextPart(text="what?"), ImagePart(data=b"x")))
        with pytest.raises(UnsupportedFeatureError, match="images"):
            client.score([image])
        with pytest.raises((BackendError, UnsupportedFeatureError), match="score"):
            client.score("text")
