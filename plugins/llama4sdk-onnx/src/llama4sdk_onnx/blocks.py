"""The blocks in which a long text goes through the network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from llama4sdk.capacity.torch_memory import PROMPT_BLOCK


def blocks(
    length: int, count: int, chunk: int | None, wanted: npt.NDArray[np.bool_] | None = None, most: int = PROMPT_BLOCK
) -> Iterator[tuple[int, int]]:
    """Blocks [begin, end) of ``count`` tokens behind ``length``: at most ``PROMPT_BLOCK`` each, none across chunks.

    Of those that are ``wanted`` no more than ``most`` are in one block.
    """
    begin = 0
    while begin < count:
        end = min(begin + PROMPT_BLOCK, count)
        if chunk is not None:
            end = min(end, begin + chunk - (length + begin) % chunk)
        if wanted is not None and len(chosen := np.flatnonzero(wanted[begin:end])) > most:
            end = begin + int(chosen[most])
        yield begin, end
        begin = end
