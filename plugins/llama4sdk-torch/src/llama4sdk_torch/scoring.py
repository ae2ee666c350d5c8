"""The log-probabilities of a text's tokens, in blocks: the logits of a whole text never exist at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from llama4sdk.capacity.torch_memory import PROMPT_BLOCK, scored_rows
from llama4sdk.local.windows import Scored, Window
from llama4sdk_torch.model import TextModel

__all__ = ["score_window"]


def score_window(
    network: Callable[[], TextModel], ids: Sequence[int], window: Window, *, top: int, rows: int | None = None
) -> Iterator[Scored]:
    """The tokens [first, end) of a window, each given those before it in the window.

    ``network`` is asked for before each block, so that it may refuse to go on. The logits of ``rows`` tokens are made
    at once: unless given, as many as take no more memory than a block of a prompt does.
    """
    begin, first, end = window
    model = network()
    rows = rows or scored_rows(model.config, model.dtype.itemsize)
    cache = model.new_cache(max(end - 1 - begin, 1))
    for start in range(begin, end - 1, PROMPT_BLOCK):  # the last token is only predicted
        stop = min(start + PROMPT_BLOCK, end - 1)
        block = torch.tensor([ids[start:stop]], device=model.device)
        states = network().hidden(block, cache)[0, max(first - 1 - start, 0) :]  # [tokens, hidden]
        targets = torch.tensor(ids[max(first, start + 1) : stop + 1], device=model.device)
        for pair in zip(torch.split(states, rows), torch.split(targets, rows), strict=True):
            if len(pair[1]):
                yield from _scored(model, *pair, top=top)


@torch.inference_mode()
def _scored(model: TextModel, states: Tensor, targets: Tensor, *, top: int) -> list[Scored]:
    """``states``: [tokens, hidden]; ``targets``: [tokens], what each state should have foretold."""
    logprobs = model.logits(states).log_softmax(-1)  # [tokens, vocabulary], float32
    chosen = logprobs.gather(1, targets.unsqueeze(1)).flatten().tolist()
    if not top:
        return [Scored(logprob, ()) for logprob in chosen]
    values, indices = (part.tolist() for part in logprobs.topk(min(top, logprobs.shape[1]), dim=-1))
    tops = [tuple(zip(*pair, strict=True)) for pair in zip(indices, values, strict=True)]
    return [Scored(*pair) for pair in zip(chosen, tops, strict=True)]
