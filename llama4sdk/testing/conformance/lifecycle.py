"""Engines and streams that end early, late, twice or side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import Final

from llama4sdk.backend import Capabilities, Engine
from llama4sdk.errors import Llama4Error, StreamClosedError
from llama4sdk.plan import Plan
from llama4sdk.testing.conformance.ground import EngineMaker, Ground, assert_that
from llama4sdk.testing.conformance.outcome import Outcome, answer, attempt, close_stream

ABANDONED: Final = 8
CLOSE_FIX = "check for closing before each token, and raise llama4sdk.errors.StreamClosedError."


class Lifecycle(Ground):
    """Memory, streams and engines are released."""

    def test_loading_tells_how_far_it_is(self, working_plan: Plan) -> None:
        """``load`` takes a ``progress``, whose byte counts never fall and never exceed the total."""
        calls: list[tuple[int, int | None]] = []
        self.backend().load(working_plan, progress=lambda done, total: calls.append((done, total))).close()
        steps = [done for done, _ in calls]
        assert_that(
            steps == sorted(steps) and all(total is None or 0 <= done <= total for done, total in calls),
            f"progress was called with {calls}.",
            fix="call progress(done, total) with the bytes read so far and those there are; total may be None.",
        )

    def test_closing_twice_is_harmless(self, make_engine: EngineMaker) -> None:
        """A second ``close`` does nothing."""
        engine = make_engine()
        engine.close()
        try:
            engine.close()
        except Exception as error:  # whatever it is, it is the finding
            raise AssertionError(f"The second close() raised {error!r}.\nFix: make close() idempotent.") from error

    def test_an_abandoned_stream_frees_its_place(self, make_engine: EngineMaker, can: Capabilities) -> None:
        """Streams closed in the middle, one after the other, leave an engine that still answers in full."""
        engine = make_engine()
        for _ in range(ABANDONED):
            stream = iter(engine.stream(self.request(can)))
            next(stream)
            close_stream(stream)
        assert_that(
            bool(answer(engine, self.request(can)).text),
            f"After {ABANDONED} streams closed early the engine answers nothing.",
            fix="free what a request holds in a finally block around the yields.",
        )

    def test_two_engines_coexist(self, engine: Engine, make_engine: EngineMaker, can: Capabilities) -> None:
        """Two engines answering in turns, token by token, answer as one alone does."""
        request = self.steady(can)
        alone, other = answer(engine, request), make_engine()
        turns = list(zip_longest(engine.stream(request), other.stream(request)))
        for outcome in (Outcome(tuple(filter(None, side))) for side in zip(*turns, strict=True)):
            assert_that(
                outcome.text == alone.text,
                f"Beside another engine came {outcome.text!r}, alone {alone.text!r}.",
                fix="keep all state in the engine and the request, none in modules or classes.",
            )

    def test_closing_one_engine_leaves_the_other(
        self, engine: Engine, make_engine: EngineMaker, can: Capabilities
    ) -> None:
        """``close`` ends its own engine only."""
        make_engine().close()
        assert_that(
            bool(answer(engine, self.request(can)).text),
            "After another engine was closed this one answers nothing.",
            fix="free only what belongs to self.",
        )

    def test_closing_the_engine_ends_its_streams(self, make_engine: EngineMaker, can: Capabilities) -> None:
        """A stream that is open when its engine closes ends with StreamClosedError."""
        engine = make_engine()
        stream = iter(engine.stream(self.request(can)))
        next(stream)
        engine.close()
        error = attempt(lambda: stream).error
        assert_that(
            isinstance(error, StreamClosedError), f"The stream of a closed engine ended with {error!r}.", fix=CLOSE_FIX
        )

    def test_a_closed_engine_refuses_work(self, make_engine: EngineMaker, can: Capabilities) -> None:
        """A request to a closed engine raises one of the SDK's own errors."""
        engine = make_engine()
        engine.close()
        outcome = attempt(lambda: engine.stream(self.request(can)))
        assert_that(
            isinstance(outcome.error, Llama4Error) and not outcome.events,
            f"A closed engine gave {len(outcome.events)} events and {outcome.error!r}.",
            fix=CLOSE_FIX,
        )

    def test_several_threads_may_ask_at_once(self, engine: Engine, can: Capabilities) -> None:
        """Requests from several threads are all answered, each as it would be alone."""
        request = self.steady(can)
        alone = answer(engine, request).text
        with ThreadPoolExecutor(self.threads) as pool:
            answers = [outcome.text for outcome in pool.map(lambda _: answer(engine, request), range(self.threads))]
        assert_that(
            answers == [alone] * self.threads,
            f"Alone came {alone!r}; {self.threads} threads at once got {answers}.",
            fix="guard what requests share with a lock, or give each its own.",
        )
