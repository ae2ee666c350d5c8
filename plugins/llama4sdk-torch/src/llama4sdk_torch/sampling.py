"""Drawing tokens, wholly on the device: the host never waits for a number to decide what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from llama4sdk.local.sequence import Token
from llama4sdk.local.structured_output import TokenMask
from llama4sdk.requests import SamplingParams
from llama4sdk.weights.checkpoint import GenerationDefaults

#: Below this temperature only the likeliest token has a chance that float32 can tell from zero.
MIN_TEMPERATURE: Final = 1e-6

#: Tokens that are sorted first on the CPU: sorting the whole vocabulary costs more than the network's step.
FIRST_SORTED: Final = 1024


class Draw:
    """One drawn token on its way to the host. Copying begins at once, so that only its own step is waited for.

    ``tokens``, [1], is still on the device. With log-probabilities asked for there are also ``logprob``, [1], and
    ``top_tokens`` and ``top_logprobs``, [n].
    """

    def __init__(
        self,
        tokens: Tensor,
        logprob: Tensor | None = None,
        top_tokens: Tensor | None = None,
        top_logprobs: Tensor | None = None,
    ) -> None:
        self.tokens = tokens
        parts = (tokens, logprob, top_tokens, top_logprobs)
        self._host = [None if part is None else _to_host(part) for part in parts]
        self._copied = torch.cuda.Event() if tokens.is_cuda else None  # type: ignore[no-untyped-call]
        if self._copied is not None:
            self._copied.record()

    def token(self) -> Token:
        """Wait for the copy."""
        if self._copied is not None:
            self._copied.synchronize()
        token, logprob, top_tokens, top_logprobs = (part.tolist() if part is not None else [] for part in self._host)
        return Token(
            id=token[0],
            logprob=logprob[0] if logprob else None,
            top=tuple(zip(top_tokens, top_logprobs, strict=True)),
        )


class Sampler:
    """Draws one sequence's tokens, which a ``mask`` may restrict.

    Keeps the random state, and the tokens that were seen, for the repetition penalty.
    """

    def __init__(
        self,
        params: SamplingParams,
        defaults: GenerationDefaults,
        prompt: Sequence[int],
        *,
        vocab_size: int,
        device: torch.device,
        mask: TokenMask | None = None,
    ) -> None:
        self._temperature = defaults.temperature if params.temperature is None else params.temperature
        self._top_p = defaults.top_p if params.top_p is None else params.top_p
        self._top_k = params.top_k
        self._min_p = params.min_p or 0.0
        self._penalty = 1.0 if params.repetition_penalty is None else params.repetition_penalty
        self._logprobs = params.logprobs
        self._generator = torch.Generator(device)
        self._generator.seed() if params.seed is None else self._generator.manual_seed(params.seed % 2**63)
        self._seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        self._seen[torch.tensor(prompt, dtype=torch.long, device=device)] = True
        self._mask = None if mask is None else DeviceMask(mask, device)

    @torch.inference_mode()
    def draw(self, logits: Tensor) -> Draw:
        """One token from the model's scores [vocabulary], float32. Raises what the mask raises."""
        scores = self._penalized(logits)
        if self._mask is not None:
            scores = scores.masked_fill(~self._mask.allowed(), -torch.inf)
        greedy = self._temperature < MIN_TEMPERATURE
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
        allowed = (before < self._top_p) & (probabilities >= self._min_p * probabilities[0])
        allowed[0] = True  # the likeliest always stays, whatever rounding does
        quotients = torch.where(allowed, probabilities / self._noise(probabilities), 0.0)
        return tokens[quotients.argmax(keepdim=True)]

    def _likeliest(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities from the highest down, and their tokens: all that may be drawn, perhaps more."""
        if self._top_k is not None:
            ranked = scores.topk(min(self._top_k, len(scores)))
            return ranked.values.softmax(-1), ranked.indices
        total = scores.logsumexp(-1)
        if scores.device.type == "cpu" and len(scores) > FIRST_SORTED:
            values, tokens = scores.topk(FIRST_SORTED)
            probabilities = (values - total).exp()
            if probabilities.sum() >= self._top_p or probabilities[-1] < self._min_p * probabilities[0]:
                return probabilities, tokens
        values, tokens = scores.sort(descending=True)
        return (values - total).exp(), tokens

    def _noise(self, like: Tensor) -> Tensor:
        return torch.empty_like(like).exponential_(generator=self._generator)


class DeviceMask:
    """A token mask on the device. Only bits travel there, and are unpacked there; the host waits for none of it."""

    def __init__(self, mask: TokenMask, device: torch.device) -> None:
        self._mask = mask
        self._device = device
        self._words = torch.zeros(mask.words, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._shifts = torch.arange(32, dtype=torch.int32, device=device)

    def allowed(self) -> Tensor:
        """The allowed tokens, [vocabulary] of bool on the device. Raises what ``TokenMask.fill`` raises.

        The host's words are used again: the token drawn with them must be read before the next call.
        """
        self._mask.fill(self._words.data_ptr())
        words = self._words.to(self._device, non_blocking=True).unsqueeze(-1)  # [words, 1]
        return (words >> self._shifts & 1).flatten()[: self._mask.width].bool()


def _to_host(part: Tensor) -> Tensor:
    if not part.is_cuda:
        return part.cpu()
    return torch.empty_like(part, device="cpu", pin_memory=True).copy_(part, non_blocking=True)
