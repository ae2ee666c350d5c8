"""Drawing tokens, on the host: the native engine's rules in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from llama4sdk.local.sequence import Token
from llama4sdk.local.structured_output import TokenMask
from llama4sdk.requests import SamplingParams
from llama4sdk.weights.checkpoint import GenerationDefaults

#: Below this temperature only the likeliest token has a chance that float32 can tell from zero.
MIN_TEMPERATURE: Final = 1e-6

#: Tokens less likely than the likeliest by a factor of more than exp(10) are ranked only where that is needed.
NEAR_LOGITS: Final = 10.0

#: Tokens that are sorted first: sorting the whole vocabulary costs more than a small network's step.
FIRST_SORTED: Final = 1024

#: Tokens whose probabilities are summed at once.
SUM_BLOCK: Final = 512

Floats = npt.NDArray[np.float32]


class Sampler:
    """Draws one sequence's tokens, which a ``mask`` may restrict.

    Keeps the random state, and the tokens that were seen, for the repetition penalty.
    """

    def __init__(
        self,
        params: SamplingParams,
        defaults: GenerationDefaults,
        prompt: Sequence[int],
        vocab_size: int,
        *,
        mask: TokenMask | None = None,
    ) -> None:
        self._temperature = defaults.temperature if params.temperature is None else params.temperature
        self._top_p = defaults.top_p if params.top_p is None else params.top_p
        self._top_k = params.top_k
        self._min_p = params.min_p or 0.0
        self._penalty = 1.0 if params.repetition_penalty is None else params.repetition_penalty
        self._logprobs = params.logprobs
        self._random_state = np.random.default_rng(params.seed if params.seed is None else params.seed % 2**63)
        self._seen = np.zeros(vocab_size, np.bool_)
        self._seen[np.asarray(prompt, np.int64)] = True
        self._mask = mask

    def draw(self, logits: Floats) -> Token:
        """One token from the model's scores [vocabulary]. Raises what the mask raises."""
        scores = self._penalized(logits)
        if self._mask is not None:
            scores = np.where(self._mask.allowed(), scores, np.float32(-np.inf))
        token = int(scores.argmax()) if self._temperature < MIN_TEMPERATURE else self._random(scores)
        self._seen[token] = True
        if self._logprobs is None:
            return Token(id=token)
        total = logsumexp(logits)
        top = highest_scores(logits, self._logprobs)
        return Token(
            id=token,
            logprob=float(logits[token] - total),
            top=tuple((int(other), float(logits[other] - total)) for other in top),
        )

    def _penalized(self, logits: Floats) -> Floats:
        if self._penalty == 1:
            return logits
        used = np.flatnonzero(self._seen)
        scores = logits.copy()
        before = scores[used]
        scores[used] = np.where(before > 0, before / np.float32(self._penalty), before * np.float32(self._penalty))
        return scores

    def _random(self, scores: Floats) -> int:
        tokens, probabilities = self.candidates(scores)
        chosen = _draw_by_weight(probabilities, self._random_state.random())
        return chosen if tokens is None else int(tokens[chosen])

    def candidates(self, scores: Floats) -> tuple[npt.NDArray[np.int64] | None, Floats]:
        """The tokens that may be drawn, likeliest first, and weights in proportion to their probabilities.

        No tokens are given where all may be drawn: weights are then of the whole vocabulary, in its order.
        """
        scaled = scores - scores.max()
        scaled *= np.float32(1 / self._temperature)
        if self._top_p >= 1 and self._top_k is None and self._min_p == 0:
            return None, np.exp(scaled, out=scaled)
        tokens, probabilities = self._likeliest(scaled)
        before = np.cumsum(probabilities) - probabilities
        allowed = (before < self._top_p) & (probabilities >= self._min_p * probabilities[0])
        allowed[0] = True  # the likeliest always stays, whatever rounding does
        return tokens[allowed], probabilities[allowed]

    def _likeliest(self, scores: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
        """Tokens from the likeliest down, and their probabilities: all that may be drawn, perhaps more.

        The highest of the scores is 0.
        """
        if self._top_k is not None:
            tokens = highest_scores(scores, self._top_k)
            weights = np.exp(scores[tokens])
            return tokens, weights / weights.sum()
        total, near = np.exp(scores).sum(), int(np.count_nonzero(scores > -NEAR_LOGITS))
        for count in (min(near, FIRST_SORTED), FIRST_SORTED, len(scores)):
            tokens = highest_scores(scores, count)
            probabilities = np.exp(scores[tokens]) / total
            if probabilities.sum() >= self._top_p or probabilities[-1] < self._min_p * probabilities[0]:
                break
        return tokens, probabilities


def highest_scores(scores: Floats, count: int) -> npt.NDArray[np.int64]:
    """The ``count`` tokens of the highest scores, highest first; of equal ones the first in the vocabulary."""
    pool = np.flatnonzero(scores > scores.max() - np.float32(NEAR_LOGITS))
    if count >= len(scores):
        pool = np.arange(len(scores))
    elif not count <= len(pool) <= FIRST_SORTED:
        pool = np.sort(np.argpartition(scores, -count)[-count:])
    ranked: npt.NDArray[np.int64] = pool[np.argsort(-scores[pool], kind="stable")][:count]
    return ranked


def _draw_by_weight(weights: Floats, uniform: float) -> int:
    """The index that ``uniform``, of [0, 1), selects when each has a share by its weight; never one of weight 0."""
    sums = np.add.reduceat(weights, np.arange(0, len(weights), SUM_BLOCK))
    block, rest = _find_share(sums, uniform * float(sums.sum(dtype=np.float64)))
    begin = block * SUM_BLOCK
    return begin + _find_share(weights[begin : begin + SUM_BLOCK], rest)[0]


def _find_share(weights: Floats, target: float) -> tuple[int, float]:
    """Which of the weights, laid end to end, covers ``target``, and how far in that is."""
    ends = np.cumsum(weights, dtype=np.float64)
    index = min(int(np.searchsorted(ends, target, "right")), int(np.flatnonzero(weights)[-1]))
    return index, target - (float(ends[index - 1]) if index else 0.0)


def logsumexp(logits: Floats) -> np.float32:
    """The logarithm of the sum of exponentials, [vocabulary] -> one number."""
    highest = logits.max()
    total: np.float32 = highest + np.log(np.exp(logits - highest).sum())
    return total
