"""Messages, requests, events and results: what is accepted, what is refused, what is folded."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from llama4sdk.errors import ConfigurationError, InvalidRequestError, UnknownOptionError
from llama4sdk.events import Event, Finish, TextDelta, TokenLogprob, ToolCallDelta, Usage
from llama4sdk.messages import ImagePart, Message, TextPart, ToolCall
from llama4sdk.plan import Quantization
from llama4sdk.requests import SamplingParams
from llama4sdk.results import Completion, fold
from llama4sdk.session.validation import chat_request, embed_request, generate_request, need


def test_a_string_is_one_user_message() -> None:
    """The shortest way to ask is a string."""
    assert chat_request("Hi", (), {}).messages == (Message(role="user", content="Hi"),)


def test_dicts_and_messages_mix() -> None:
    """A conversation may be written as dicts, as messages, or as one of either."""
    request = chat_request([{"role": "system", "content": "Be brief."}, Message(role="user", content="Hi")], (), {})
    assert [m.role for m in request.messages] == ["system", "user"]
    assert chat_request({"role": "user", "content": "Hi"}, (), {}).messages[0].text == "Hi"


def test_parts_give_text_and_images() -> None:
    """Text parts join; images are seen."""
    message = Message.model_validate(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image", "url": "https://x/y.png"},
                {"type": "text", "text": "b"},
            ],
        }
    )
    assert message.text == "ab"
    assert message.has_images
    assert not Message(role="user", content="x").has_images
    assert Message(role="user", content="x").parts == (TextPart(text="x"),)


def test_image_bytes_round_trip_through_json_and_stay_out_of_reprs(tmp_path: Path) -> None:
    """Pixels survive serialisation and are never printed."""
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\xff\x00")
    message = Message(role="user", content=(ImagePart.from_path(path),))
    assert Message.model_validate_json(message.model_dump_json()) == message
    assert "PNG" not in repr(message)


@pytest.mark.parametrize("bad", [{}, {"data": b"x", "url": "https://x"}])
def test_an_image_has_exactly_one_source(bad: dict[str, object]) -> None:
    """Neither no source nor two."""
    with pytest.raises(ValidationError, match="either data or a url"):
        ImagePart.model_validate(bad)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "there are no messages"),
        ("", "empty"),
        ([{"role": "user", "content": ""}], "message 0: a user message has no content"),
        ([{"role": "user", "content": "x"}, {"role": "usr", "content": "x"}], "message 1: role is 'usr'"),
        ([{"role": "user", "text": "x"}], "text"),
        (
            [{"role": "user", "content": "x", "tool_calls": [{"id": "1", "name": "f", "arguments": "{}"}]}],
            "only an assistant",
        ),
        ([{"role": "user", "content": [{"type": "audio"}]}], "content"),
    ],
)
def test_bad_messages_are_named(messages: object, words: str) -> None:
    """The error says which message, which field and what is wrong."""
    with pytest.raises(InvalidRequestError, match=words) as caught:
        chat_request(messages, (), {})  # type: ignore[arg-type]
    assert caught.value.hint


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_tokens", -1), ("max_tokens", 0), ("temperature", -0.1), ("temperature", float("nan")), ("top_p", 0.0),
        ("top_p", 1.5), ("top_k", 0), ("min_p", 2.0), ("repetition_penalty", 0.0), ("logprobs", 21), ("stop", ""),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_by_name(option: str, value: object) -> None:
    """Each option has its range, and the error names option and value."""
    with pytest.raises(InvalidRequestError, match=option) as caught:
        generate_request("x", {option: value})  # type: ignore[misc]
    assert "SamplingParams" in (caught.value.hint or "")


def test_an_unknown_option_names_the_nearest() -> None:
    """A typo is never dropped silently."""
    with pytest.raises(UnknownOptionError) as caught:
        generate_request("x", {"max_token": 5})  # type: ignore[typeddict-unknown-key]
    assert "'max_tokens'" in (caught.value.hint or "")


def test_asked_names_only_what_was_set() -> None:
    """``None`` and an empty stop list ask for nothing."""
    assert SamplingParams(temperature=0, stop=(), seed=None).asked() == {"temperature"}
    assert SamplingParams(stop="x").stop == ("x",)  # type: ignore[arg-type]


def test_embedding_requests_refuse_nothing_to_embed() -> None:
    """No inputs, or an empty one, is an error before any work."""
    assert embed_request("a", "mean", normalize=True).inputs == ("a",)
    for bad in ([], [""], ["a", ""]):
        with pytest.raises(InvalidRequestError):
            embed_request(bad, "mean", normalize=True)


def test_needs_refuse_what_cannot_be() -> None:
    """A context of nothing and a quantization nobody knows."""
    with pytest.raises(ConfigurationError, match="context_length is 0"):
        need(None, None, None, 0)
    with pytest.raises(ConfigurationError, match="'int8'"):
        need(None, None, "int9", None)
    assert need("m", "cpu", "bf16", 5).quantization is Quantization.BF16


def test_needs_name_what_exists() -> None:
    """Features and languages in any case, one or several; a typo names the nearest."""
    asked = need(None, None, None, None, needs=["images", "Tools"], languages="hindi")
    assert (sorted(asked.features), sorted(asked.languages)) == (["images", "tools"], ["Hindi"])
    assert sorted(need(None, None, None, None, needs="images").features) == ["images"]
    with pytest.raises(ConfigurationError) as caught:
        need(None, None, None, None, needs=["image"])
    assert "Did you mean 'images'?" in (caught.value.hint or "")
    for language, guess in (("Hindu", "Did you mean 'Hindi'?"), ("Klingon", "Languages: Arabic, ")):
        with pytest.raises(ConfigurationError) as caught:
            need(None, None, None, None, languages=[language])
        assert (caught.value.hint or "").startswith(guess)


def test_folding_joins_text_calls_and_counts() -> None:
    """Deltas become one completion, tool calls in order of their index."""
    events: list[Event] = [
        TextDelta(text="He", logprobs=(TokenLogprob(token="He", logprob=-0.5),)),
        ToolCallDelta(index=1, id="b", name="g", arguments="{}"),
        TextDelta(text="y"),
        ToolCallDelta(index=0, id="a", name="f", arguments='{"x":'),
        ToolCallDelta(index=0, arguments=" 1}"),
        Finish(reason="tool_calls", usage=Usage(input_tokens=3, output_tokens=4)),
    ]
    done = fold(events, model="m", backend="b")
    assert str(done) == done.text == "Hey"
    assert [(call.id, call.name, call.arguments) for call in done.tool_calls] == [
        ("a", "f", '{"x": 1}'),
        ("b", "g", "{}"),
    ]
    assert done.tool_calls[0].parsed() == {"x": 1}
    assert done.usage.total_tokens == 7
    assert len(done.logprobs) == 1
    assert done.message.role == "assistant"
    assert Completion.model_validate_json(done.model_dump_json()) == done


def test_tool_arguments_that_are_no_object_say_so() -> None:
    """The raw text stays; parsing it is where the error is."""
    with pytest.raises(ValueError, match="no JSON object"):
        ToolCall(id="1", name="f", arguments="[1]").parsed()


def test_unknown_counts_are_not_zero() -> None:
    """A backend that does not count leaves ``None``."""
    assert Usage().total_tokens is None
