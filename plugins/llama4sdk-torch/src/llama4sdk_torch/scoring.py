"""The log-probabilities of a text's tokens, in blocks: the logits of a whole text never exist at once."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from llama4sdk.capacity.torch_memory import PROMPT_BLOCK, scored_rows
from llama4sdk.local.windows import Scored, Window
from llama4sdk_torch.model import TextModel


def score_window(
    network: TextModel, token_ids: Sequence[int], window: Window, *, top: int, rows: int | None = None
) -> Generator[list[Scored]]:
    """The tokens [first, end) of a window, each given those before it in the window, block by block.

    The logits of ``rows`` tokens are made at once: unless given, as many as take no more memory than a block of a
    prompt does.
    """
    begin, first, end = window
    rows = rows or scored_rows(network.config, network.dtype.itemsize)
    cache = network.new_cache(max(end - 1 - begin, 1))
    for start in range(begin, end - 1, PROMPT_BLOCK):  # the last token is only predicted
        stop = min(start + PROMPT_BLOCK, end - 1)
        block = torch.tensor(token_ids[start:stop], device=network.device)
        states = network.hidden(block, cache)[max(first - 1 - start, 0) :]  # [tokens, hidden]
        targets = torch.tensor(token_ids[max(first, start + 1) : stop + 1], device=network.device)
        pairs = zip(torch.split(states, rows), torch.split(targets, rows), strict=True)
        yield [scored for pair in pairs if len(pair[1]) for scored in _scored(network, *pair, top=top)]


@torch.inference_mode()
def _scored(network: TextModel, states: Tensor, targets: Tensor, *, top: int) -> list[Scored]:
    """``states``: [tokens, hidden]; ``targets``: [tokens], the token that follows each."""
    logprobs = network.logits(states).log_softmax(-1)  # [tokens, vocabulary], float32
    chosen = logprobs.gather(1, targets.unsqueeze(1)).flatten().tolist()
    if not top:
        return [Scored(logprob, ()) for logprob in chosen]
    values, indices = (part.tolist() for part in logprobs.topk(min(top, logprobs.shape[1]), dim=-1))
    tops = [tuple(zip(*pair, strict=True)) for pair in zip(indices, values, strict=True)]
    return [Scored(*pair) for pair in zip(chosen, tops, strict=True)]
