"""The events of ``Engine.stream``: deltas, then exactly one ``Finish``."""

from __future__ import annotations

from typing import Literal

import pytest

from llama4sdk.backend import Capabilities, Engine
from llama4sdk.events import Finish, TextDelta, ToolCallDelta
from llama4sdk.requests import Request
from llama4sdk.testing.conformance.ground import Ground, assert_that, chat, require_feature, require_option
from llama4sdk.testing.conformance.outcome import Outcome, answer, require_finish

COUNT_FIX = "count the tokens the model really read and wrote, template and begin-of-text included."


class Streams(Ground):
    """An ordinary request and its answer."""

    @pytest.fixture(params=["chat", "generate"])
    def request_of_each_form(self, request: pytest.FixtureRequest, can: Capabilities) -> Request:
        """One request per declared form: messages to answer, and raw text to continue."""
        form: Literal["chat", "generate"] = request.param
        require_feature(can, form)
        sampling = self.request(can).sampling
        return chat(self.prompt, sampling) if form == "chat" else Request(prompt=self.beginning, sampling=sampling)

    def test_a_stream_ends_with_finish(self, engine: Engine, request_of_each_form: Request) -> None:
        """An answer ends with a ``Finish``; without one nobody can tell it from a broken connection."""
        outcome = answer(engine, request_of_each_form)
        assert_that(outcome.finish is not None, "The stream ended without Finish.", fix="yield Finish(…) last.")

    def test_nothing_follows_finish(self, engine: Engine, request_of_each_form: Request) -> None:
        """``Finish`` comes once, and is the last event."""
        events = answer(engine, request_of_each_form).events
        late = events[next((i for i, e in enumerate(events) if isinstance(e, Finish)), len(events)) + 1 :]
        assert_that(not late, f"After Finish came {late}.", fix="return right after the one Finish.")

    def test_events_are_events(self, engine: Engine, request_of_each_form: Request) -> None:
        """Every item is one of the three event types."""
        events: tuple[object, ...] = answer(engine, request_of_each_form).events
        strange = [event for event in events if not isinstance(event, (TextDelta, ToolCallDelta, Finish))]
        assert_that(not strange, f"The stream yielded {strange[:3]}.", fix="yield only the types of llama4sdk.events.")

    def test_there_is_text(self, engine: Engine, request_of_each_form: Request) -> None:
        """An ordinary prompt gets some text."""
        outcome = answer(engine, request_of_each_form)
        assert_that(bool(outcome.text.strip()), "The answer has no text.", fix="check the prompt and the stop tokens.")

    def test_characters_are_whole(self, engine: Engine, can: Capabilities) -> None:
        """No delta carries half a character, whatever the tokens' borders are."""
        for event in answer(engine, self.request(can, self.unicode_prompt)).events:
            text = event.text if isinstance(event, TextDelta) else ""
            broken = [c for c in text if c == "\ufffd" or "\ud800" <= c <= "\udfff"]
            assert_that(
                not broken,
                f"A delta carries {broken} in {text!r}.",
                fix="decode incrementally and hold bytes back until their character is complete.",
            )

    def test_temperature_zero_is_deterministic(self, engine: Engine, can: Capabilities) -> None:
        """At temperature 0 two answers are equal."""
        require_option(can, "temperature")
        request = self.request(can, temperature=0)
        self._assert_same(answer(engine, request), answer(engine, request), "temperature 0", "take the likeliest token")

    def test_same_seed_same_answer(self, engine: Engine, can: Capabilities) -> None:
        """With a seed, two answers are equal at any temperature."""
        require_option(can, "seed")
        request = self.request(can, temperature=1.0, seed=1234)
        self._assert_same(
            answer(engine, request),
            answer(engine, request),
            "the same seed",
            "give each request a generator of its own",
        )

    def test_usage_is_reported(self, engine: Engine, can: Capabilities) -> None:
        """``Finish.usage`` has the tokens read and written, at least one each."""
        usage = self._finished(engine, self.request(can)).usage
        for name, count in (("input_tokens", usage.input_tokens), ("output_tokens", usage.output_tokens)):
            assert_that(count is not None and count > 0, f"Finish.usage.{name} is {count}.", fix=COUNT_FIX)

    def test_usage_agrees_with_count_tokens(self, engine: Engine, can: Capabilities) -> None:
        """``count_tokens`` foretells what ``usage`` reports."""
        require_feature(can, "count_tokens")
        request = self.request(can)
        counted, read = engine.count_tokens(request), self._finished(engine, request).usage.input_tokens
        assert_that(
            read is None or counted == read, f"count_tokens says {counted}, usage.input_tokens {read}.", fix=COUNT_FIX
        )

    def test_logprobs_come_with_the_text(self, engine: Engine, can: Capabilities) -> None:
        """Asked for, every token brings its log-probability and the likeliest alternatives, likeliest first."""
        require_option(can, "logprobs")
        events = answer(engine, self.request(can, temperature=0, logprobs=2)).events
        entries = [entry for event in events if isinstance(event, TextDelta) for entry in event.logprobs]
        assert_that(bool(entries), "logprobs=2 was asked for and none came.", fix="fill TextDelta.logprobs.")
        for entry in entries:
            top = [alternative.logprob for alternative in entry.top]
            assert_that(
                len(top) == 2 and top == sorted(top, reverse=True) and max(entry.logprob, *top) <= 0,
                f"{entry} does not have two alternatives in order, all with logarithms of probabilities.",
                fix="report natural logarithms, and as many alternatives as SamplingParams.logprobs asks for.",
            )

    def _finished(self, engine: Engine, request: Request) -> Finish:
        if not self.reports_usage:
            pytest.skip("the test class says that this backend reports no usage")
        return require_finish(answer(engine, request))

    def _assert_same(self, one: Outcome, other: Outcome, given: str, fix: str) -> None:
        __tracebackhide__ = True
        same = one.text == other.text
        assert_that(same, f"With {given} came {one.text!r}, then {other.text!r}.", fix=f"{fix}.")
