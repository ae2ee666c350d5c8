"""The decode loop of one request."""

from __future__ import annotations

from collections.abc import Callable, Generator

import torch
from torch import Tensor

from llama4sdk.local.output_processor import Token
from llama4sdk.local.structured_output import TokenMask
from llama4sdk_torch.cache import KVCache
from llama4sdk_torch.model import TextModel
from llama4sdk_torch.sampling import Draw, Sampler

__all__ = ["Mask", "generate"]


def generate(
    model: TextModel,
    prompt: Tensor,
    make_sampler: Callable[[Tensor], Sampler],
    count: int,
    guide: TokenMask | None = None,
    *,
    ahead: bool | None = None,
) -> Generator[Token]:
    """At most ``count`` tokens that follow ``prompt``, [1, tokens] or embedded [1, tokens, hidden].

    With a ``guide`` they are those it allows, and end where it has ended.

    The cache lives as long as the iterator.

    On an accelerator the next step is launched before the last token is read, so that the host's work costs no time; on
    the CPU, where the two are one, no step is begun that may not be wanted. ``ahead`` decides otherwise.
    """
    cache = model.new_cache(prompt.shape[1] + count)
    logits = model.logits(model.prefill(prompt, cache))[0]
    del prompt  # not needed while the answer grows
    sampler = make_sampler(logits)
    ahead = model.device.type != "cpu" if ahead is None else ahead
    if guide is not None:
        yield from _guided(model, cache, sampler, logits, count, guide, ahead=ahead)
        return
    pending = _Reading(sampler.draw(logits))
    for left in range(count - 1, -1, -1):
        following = _step(model, cache, sampler, pending.draw) if ahead and left else None
        yield pending.token()
        if left:
            pending = following or _step(model, cache, sampler, pending.draw)


def _guided(
    model: TextModel, cache: KVCache, sampler: Sampler, logits: Tensor, count: int, guide: TokenMask, *, ahead: bool
) -> Generator[Token]:
    """What may be drawn depends on the last token. ``ahead``, the network is at work while the host reads that."""
    mask = Mask(guide, model.device)
    for left in range(count - 1, -1, -1):
        drawn = _Reading(sampler.draw(logits, mask.allowed()))
        following = _scores(model, cache, drawn.draw) if ahead and left else None
        token = drawn.token()
        guide.take(token.id)
        yield token
        if guide.ended:
            return
        if left:
            logits = _scores(model, cache, drawn.draw) if following is None else following


def _step(model: TextModel, cache: KVCache, sampler: Sampler, last: Draw) -> _Reading:
    return _Reading(sampler.draw(_scores(model, cache, last)))


def _scores(model: TextModel, cache: KVCache, last: Draw) -> Tensor:
    return model.logits(model.prefill(last.token.unsqueeze(0), cache))[0]


class _Reading:
    """A draw on its way to the host. Copying begins at once, so that only its own step is waited for."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        parts = (draw.token, draw.logprob, draw.top_tokens, draw.top_logprobs)
        self._parts = [None if part is None else _to_host(part) for part in parts]
        self._done = torch.cuda.Event() if draw.token.is_cuda else None  # type: ignore[no-untyped-call]
        if self._done is not None:
            self._done.record()

    def token(self) -> Token:
        """Wait for the copy, and read it."""
        if self._done is not None:
            self._done.synchronize()
        token, logprob, top_tokens, top_logprobs = (part.tolist() if part is not None else [] for part in self._parts)
        return Token(
            id=token[0],
            logprob=logprob[0] if logprob else None,
            top=tuple(zip(top_tokens, top_logprobs, strict=True)),
        )


def _to_host(part: Tensor) -> Tensor:
    if not part.is_cuda:
        return part.cpu()
    return torch.empty_like(part, device="cpu", pin_memory=True).copy_(part, non_blocking=True)


class Mask:
    """Only bits travel to the device, which unpacks them itself; the host waits for none of it."""

    def __init__(self, guide: TokenMask, device: torch.device) -> None:
        self._guide = guide
        self._device = device
        self._bits = torch.zeros(guide.words, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._places = torch.arange(32, dtype=torch.int32, device=device)

    def allowed(self) -> Tensor:
        """What ``TokenMask.allowed`` gives, on the device, and raising the same.

        The memory the bits are in is used again: the token drawn with it must be read before the next call.
        """
        self._guide.fill(self._bits.data_ptr())
        bits = self._bits.to(self._device, non_blocking=True).unsqueeze(-1)  # [words, 1]
        return (bits >> self._places & 1).flatten()[: self._guide.width].bool()
