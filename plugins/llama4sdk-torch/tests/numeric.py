"""How networks are read in these tests, and how near two computations of the same numbers are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from llama4sdk_torch.cache import KVCache
from llama4sdk_torch.model import TextModel
from torch import Tensor

#: Roundings that add up in one number: of a sum of some hundred products, in each of some ten layers that follow each
#: other. Processors sum in different orders (instruction sets, threads, blocks), so no more can be asked for; a mistake
#: in an equation is larger by orders of magnitude.
ROUNDINGS = 256


def assert_near(actual: Tensor, expected: Tensor, *, least_scale: float = 0.0) -> None:
    """The numbers differ by no more than ``ROUNDINGS`` of the largest of them.

    The unit is the machine epsilon of the less precise of the two types. ``least_scale`` is the size of the numbers
    that were rounded on the way, where the results may be smaller: of about 1 behind a norm.
    """
    assert actual.shape == expected.shape
    epsilon = max(torch.finfo(tensor.dtype).eps for tensor in (actual, expected))
    scale = max(least_scale, float(expected.abs().max()) if expected.numel() else 0.0)
    torch.testing.assert_close(actual.double(), expected.double(), atol=ROUNDINGS * epsilon * scale, rtol=0)


def new_caches(network: TextModel, rows: int, capacity: int) -> list[KVCache]:
    """A cache for each of several sequences."""
    return [network.new_cache(capacity) for _ in range(rows)]


def read_rows(network: TextModel, tokens: Tensor, caches: Sequence[KVCache]) -> Tensor:
    """The states [rows, tokens, hidden] of further tokens [rows, tokens], whose rows go through together."""
    return torch.stack(network.hidden_of(list(tokens), caches))


def logits_of_rows(network: TextModel, tokens: Tensor, sizes: Sequence[int]) -> Tensor:
    """The logits [rows, tokens, vocabulary] of tokens [rows, tokens] that are read in blocks of these sizes."""
    caches = new_caches(network, len(tokens), tokens.shape[1])
    parts = [network.logits(read_rows(network, part, caches)) for part in torch.split(tokens, list(sizes), dim=1)]
    return torch.cat(parts, dim=1)
