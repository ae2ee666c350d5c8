"""Drawing tokens, wholly on the device: the host never waits for a number to decide what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from llama4sdk.requests import SamplingParams
from llama4sdk.weights.checkpoint import GenerationDefaults

__all__ = ["Draw", "Sampler"]

COLD: Final = 1e-6
"""Below this temperature only the likeliest token has a chance that float32 can tell from zero."""

LIKELY: Final = 1024
"""On the CPU, so many tokens are looked at first: sorting the whole vocabulary costs more than the network's step."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One drawn token, still on the device.

    ``token``: [1]. With log-probabilities asked for: ``logprob`` [1], and ``top_tokens`` and ``top_logprobs`` [n].
    """

    token: Tensor
    logprob: Tensor | None = None
    top_tokens: Tensor | None = None
    top_logprobs: Tensor | None = None


class Sampler:
    """Draws one sequence's tokens. Remembers what was seen, for the repetition penalty, and where its dice are."""

    def __init__(
        self, params: SamplingParams, defaults: GenerationDefaults, prompt: Sequence[int], *, like: Tensor
    ) -> None:
        """``like`` is a tensor whose last axis is the vocabulary; it gives the device."""
        self._temperature = defaults.temperature if params.temperature is None else params.temperature
        self._top_p = defaults.top_p if params.top_p is None else params.top_p
        self._top_k = params.top_k
        self._min_p = params.min_p or 0.0
        self._penalty = 1.0 if params.repetition_penalty is None else params.repetition_penalty
        self._logprobs = params.logprobs
        self._dice = torch.Generator(like.device)
        self._dice.seed() if params.seed is None else self._dice.manual_seed(params.seed % 2**63)
        self._seen = torch.zeros(like.shape[-1], dtype=torch.bool, device=like.device)
        self._seen[torch.tensor(prompt, dtype=torch.long, device=like.device)] = True

    @torch.inference_mode()
    def draw(self, logits: Tensor, allowed: Tensor | None = None) -> Draw:
        """One token from the model's scores [vocabulary], float32: one of those ``allowed``, [vocabulary] of bool."""
        scores = self._penalized(logits)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        greedy = self._temperature < COLD
        token = scores.argmax(keepdim=True) if greedy else self._random((scores - scores.max()) / self._temperature)
        self._seen[token] = True
        if self._logprobs is None:
            return Draw(token)
        logprobs = logits.log_softmax(-1)
        top = logprobs.topk(self._logprobs)
        return Draw(token, logprobs[token], top.indices, top.values)

    def _penalized(self, logits: Tensor) -> Tensor:
        if self._penalty == 1:
            return logits
        lowered = torch.where(logits > 0, logits / self._penalty, logits * self._penalty)
        return torch.where(self._seen, lowered, logits)

    def _random(self, scores: Tensor) -> Tensor:
        """Truncate, then draw: dividing by exponential noise makes the largest quotient a fair draw."""
        if self._top_p >= 1 and self._top_k is None and self._min_p == 0:
            return (scores.softmax(-1) / self._noise(scores)).argmax(keepdim=True)
        probabilities, tokens = self._likeliest(scores)
        before = probabilities.cumsum(-1) - probabilities
        kept = (before < self._top_p) & (probabilities >= self._min_p * probabilities[0])
        kept[0] = True  # the likeliest always stays, whatever rounding does
        quotients = torch.where(kept, probabilities / self._noise(probabilities), 0.0)
        return tokens[quotients.argmax(keepdim=True)]

    def _likeliest(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities from the highest down, and their tokens: all that may be kept, perhaps more."""
        if self._top_k is not None:
            ranked = scores.topk(min(self._top_k, len(scores)))
            return ranked.values.softmax(-1), ranked.indices
        total = scores.logsumexp(-1)
        if scores.device.type == "cpu" and len(scores) > LIKELY:
            values, tokens = scores.topk(LIKELY)
            probabilities = (values - total).exp()
            if probabilities.sum() >= self._top_p or probabilities[-1] < self._min_p * probabilities[0]:
                return probabilities, tokens
        values, tokens = scores.sort(descending=True)
        return (values - total).exp(), tokens

    def _noise(self, like: Tensor) -> Tensor:
        return torch.empty_like(like).exponential_(generator=self._dice)
