"""Log-probabilities of a given text, where the backend declares them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

import pytest

from llama4sdk.backend import Capabilities, Engine
from llama4sdk.errors import ContextLengthError
from llama4sdk.requests import ScoreRequest
from llama4sdk.results import Scores
from llama4sdk.testing.conformance.ground import Ground, assert_that, require_feature

#: Largest difference between log-probabilities that count as the same: half precision rounds with the batch.
TOLERANCE: Final = 1e-2

WINDOW: Final = 4


class Scoring(Ground):
    """``Engine.score``."""

    @pytest.fixture
    def scorer(self, engine: Engine, can: Capabilities) -> Engine:
        """The engine, if it can score."""
        require_feature(can, "score")
        return engine

    def test_every_token_but_the_first_is_scored(self, scorer: Engine) -> None:
        """There is one entry per token; the first is None, the others are log-probabilities."""
        scores = scorer.score(ScoreRequest(prompt=self.beginning))
        same = len(scores.tokens) == len(scores.logprobs)
        counts = f"{len(scores.tokens)} tokens have {len(scores.logprobs)} entries."
        assert_that(same, counts, fix="give one entry for each token of the text as it is read.")
        nothing_before = scores.logprobs[:1] == (None,)
        assert_that(nothing_before, "The first token has a score.", fix="put None first: nothing comes before it.")
        sound = all(entry is not None and -math.inf < entry.logprob <= TOLERANCE for entry in scores.logprobs[1:])
        assert_that(sound, "An entry is missing, or no log-probability.", fix="report natural logarithms, below 0.")

    def test_alternatives_come_likeliest_first(self, scorer: Engine) -> None:
        """As many as were asked for, in falling order, the token itself with its own log-probability."""
        asked = 3
        for entry in scorer.score(ScoreRequest(prompt=self.beginning, top=asked)).logprobs[1:]:
            values = [] if entry is None else [other.logprob for other in entry.top]
            falling = all(a >= b for a, b in pairwise(values))
            assert_that(
                0 < len(values) <= asked and falling,
                f"With top={asked} a token has the alternatives {values}.",
                fix="report the likeliest tokens at its place, likeliest first.",
            )
            own = [other.logprob for other in entry.top if other.token == entry.token] if entry else []
            assert_that(
                not own or entry is None or any(abs(value - entry.logprob) <= TOLERANCE for value in own),
                "Among the alternatives a token has another log-probability.",
                fix="take both from one distribution.",
            )

    def test_windows_lose_no_token(self, scorer: Engine) -> None:
        """In small windows every token is scored, and those of the first window as they were without."""
        whole = scorer.score(ScoreRequest(prompt=self.beginning))
        parts = scorer.score(ScoreRequest(prompt=self.beginning, window=WINDOW, stride=2))
        assert_that(
            parts.tokens == whole.tokens and len(parts.logprobs) == len(whole.logprobs),
            f"Of {len(whole.tokens)} tokens {len(parts.logprobs)} are left in windows of {WINDOW}.",
            fix="score every token after the first once; llama4sdk.local.windows.windows says with what before it.",
        )
        first = list(zip(_values(whole), _values(parts), strict=True))[: WINDOW - 1]
        assert_that(
            all(abs(a - b) <= TOLERANCE for a, b in first),
            f"The first window's scores are {[b for _, b in first]} instead of {[a for a, _ in first]}.",
            fix="give the tokens of the first window all that comes before them.",
        )

    def test_a_window_beyond_the_context_is_refused(self, scorer: Engine) -> None:
        """A window longer than the context raises ContextLengthError."""
        try:
            scorer.score(ScoreRequest(prompt=self.beginning, window=scorer.context_length + 1))
        except ContextLengthError:
            return
        pytest.fail(
            "A window longer than the context was scored.\nFix: ask llama4sdk.local.windows.windows, which raises "
            "ContextLengthError.",
            pytrace=False,
        )


def _values(scores: Scores) -> list[float]:
    return [entry.logprob for entry in scores.logprobs if entry is not None]
