"""Which tokens of a long text go through the network together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from llama4sdk.capacity.torch_memory import PROMPT_BLOCK

__all__ = ["blocks"]


def blocks(
    length: int, count: int, chunk: int | None, wanted: npt.NDArray[np.bool_] | None = None, most: int = PROMPT_BLOCK
) -> Iterator[tuple[int, int]]:
    """``count`` tokens behind ``length``, as [begin, end) of at most ``PROMPT_BLOCK`` that end where chunks end.

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
