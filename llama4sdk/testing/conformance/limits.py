"""Where an answer must end, and what must not even begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from llama4sdk.backend import BackendInfo, Capabilities, Engine, Feature
from llama4sdk.client import Client
from llama4sdk.errors import ContextLengthError, UnsupportedFeatureError
from llama4sdk.messages import ImagePart, Message, TextPart
from llama4sdk.plan import Plan
from llama4sdk.requests import Tool
from llama4sdk.testing.conformance.ground import Ground, assert_that, require_option
from llama4sdk.testing.conformance.outcome import answer, attempt, require_finish

FEW: Final = 3
#: One red pixel.
PNG: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)


class Limits(Ground):
    """``max_tokens``, stop strings, the context, and what was never declared."""

    def test_max_tokens_is_respected(self, engine: Engine, can: Capabilities) -> None:
        """The answer has at most ``max_tokens`` tokens, and says that this is why it ended."""
        require_option(can, "max_tokens")
        finish = require_finish(answer(engine, self.request(can, max_tokens=FEW)))
        written = finish.usage.output_tokens
        assert_that(
            finish.reason == "length" and (written is None or written <= FEW),
            f"With max_tokens={FEW} the answer has {written} tokens and ends with reason '{finish.reason}'.",
            fix="stop after max_tokens tokens and finish with 'length' (set 'prompt' if the answer was shorter).",
        )

    def test_it_ends_before_a_stop_string(self, engine: Engine, can: Capabilities) -> None:
        """The answer is what it would have been, up to the stop string, which never shows, not even in part."""
        require_option(can, "stop")
        whole = answer(engine, self.steady(can)).text
        stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
        outcome = answer(engine, self.steady(can, stop=(stop,)))
        expected = whole[: whole.index(stop)]
        assert_that(
            outcome.text == expected,
            f"Of {whole!r}, the stop string {stop!r} should leave {expected!r}, and left {outcome.text!r}.",
            fix="use llama4sdk.llama4.stop_strings.cut across deltas, and hold back what may become one.",
        )
        reason = outcome.finish.reason if outcome.finish else "stop"
        assert_that(
            reason == "stop", f"After a stop string the reason is '{reason}'.", fix="finish with the reason 'stop'."
        )

    def test_a_prompt_beyond_the_context_is_refused(self, engine: Engine, can: Capabilities) -> None:
        """A prompt that does not fit raises ContextLengthError before any event, with both counts."""
        request = self.request(can, "llama " * (engine.context_length + 1))
        outcome = attempt(lambda: engine.stream(request), most=1)
        assert_that(
            isinstance(outcome.error, ContextLengthError) and not outcome.events,
            f"A prompt of {engine.context_length + 1} words against a context of {engine.context_length} tokens gave "
            f"{len(outcome.events)} events and {outcome.error!r}.",
            fix="count the prompt's tokens first and raise llama4sdk.errors.ContextLengthError.",
        )
        if isinstance(outcome.error, ContextLengthError):
            limit, requested = outcome.error.limit, outcome.error.requested
            unsaid = can.remote and requested is None  # an endpoint that refuses need not say
            assert_that(
                limit == engine.context_length and (unsaid or (requested or 0) > limit),
                f"The error's limit is {limit}, requested {requested}, context_length {engine.context_length}.",
                fix="pass limit=self.context_length and requested=the prompt's tokens.",
            )

    def test_more_tokens_than_the_context_has_are_refused(self, engine: Engine, can: Capabilities) -> None:
        """A ``max_tokens`` that cannot be had raises ContextLengthError rather than being cut in silence."""
        require_option(can, "max_tokens")
        request = self.request(can, max_tokens=engine.context_length)
        outcome = attempt(lambda: engine.stream(request), most=1)
        assert_that(
            isinstance(outcome.error, ContextLengthError) and not outcome.events,
            f"max_tokens={engine.context_length} behind a prompt, in a context of {engine.context_length}, gave "
            f"{len(outcome.events)} events and {outcome.error!r}.",
            fix="ask llama4sdk.local.windows.room_for_answer before the first event.",
        )

    def test_the_engine_has_the_planned_context(self, engine: Engine, working_plan: Plan) -> None:
        """The engine's context is the plan's."""
        planned = working_plan.context_length
        assert_that(
            engine.context_length == planned,
            f"The plan says {planned} tokens of context, the engine has {engine.context_length}.",
            fix="set engine.context_length from plan.context_length.",
        )

    def test_undeclared_features_are_refused(self, info: BackendInfo, can: Capabilities) -> None:
        """A feature that is not in the capabilities raises UnsupportedFeatureError before any work."""
        with self.client(Client, info) as client:
            attempts = _attempts(client)
            undeclared = [feature for feature in attempts if feature not in can.features]
            if not undeclared:
                pytest.skip("the backend declares every feature")
            for feature in undeclared:
                with pytest.raises(UnsupportedFeatureError):
                    attempts[feature]()


def _attempts(client: Client) -> dict[Feature, Callable[[], object]]:
    """One call per feature that needs it."""
    picture = Message(role="user", content=(TextPart(text="What is this?"), ImagePart(data=PNG)))
    tool = Tool(name="now", description="The time.", parameters={"type": "object", "properties": {}})
    return {
        "chat": lambda: client.chat("Hello"),
        "generate": lambda: client.generate("Hello"),
        "embed": lambda: client.embed("Hello"),
        "count_tokens": lambda: client.count_tokens("Hello"),
        "images": lambda: client.chat(picture),
        "tools": lambda: client.chat("What time is it?", tools=[tool]),
        "tool_choice": lambda: client.chat("What time is it?", tools=[tool], tool_choice="required"),
        "json_schema": lambda: client.chat("Hello", schema={"type": "integer"}),
        "regex": lambda: client.chat("Hello", regex="[a-z]+"),
        "grammar": lambda: client.chat("Hello", grammar='start: "hello"'),
    }
