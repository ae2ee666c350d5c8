"""Which tokens go through the network together, and where in the cache they belong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llama4sdk.capacity.torch_memory import PROMPT_BLOCK

__all__ = ["Slots", "Span", "spans"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Where one span's tokens are in the layers of one kind. A token sees its own slot and all those before."""

    of_tokens: Tensor  # [1 or rows, tokens]
    seen: int
    """Slots [0, seen) hold whatever a token of the span may see."""
    start: int | None
    """The first token's slot where all rows have the same; where they have not, ``real`` says what goes where."""
    real: tuple[Tensor, Tensor] | None
    """Row and column of each token that is no padding."""

    @property
    def triangular(self) -> bool:
        """Whether these are the first slots in use, several of them: the plain triangle is their mask."""
        return self.start == 0 and self.seen > 1

    @property
    def masked(self) -> bool:
        """Whether a mask must be made to say what a token sees."""
        return not (self.triangular or (self.start is not None and self.of_tokens.shape[1] == 1))

    def mask(self, begin: int, end: int) -> Tensor:
        """True where a token, of [begin, end), sees a slot: [1 or rows, 1, tokens, seen]."""
        slots = torch.arange(self.seen, device=self.of_tokens.device)
        return (self.of_tokens[:, begin:end].unsqueeze(-1) >= slots).unsqueeze(1)


@dataclass(frozen=True, slots=True)
class Span:
    """Columns [begin, end) of the input. Rows may stand at different positions, and be of different length."""

    begin: int
    end: int
    starts: tuple[int, ...]
    """The position of each row's first token."""
    counts: tuple[int, ...]
    """How many tokens of each row are real; these come first."""

    @property
    def tokens(self) -> int:
        """How many columns."""
        return self.end - self.begin

    @property
    def full(self) -> bool:
        """Whether no row has padding."""
        return set(self.counts) == {self.tokens}

    @property
    def even(self) -> bool:
        """Whether, besides, all rows stand at the same position."""
        return self.full and len(set(self.starts)) == 1

    def positions(self, device: torch.device) -> Tensor:
        """Of each token, [1 or rows, tokens]; padding goes on counting."""
        if self.even:  # made on the device: a step of decoding sends nothing there
            return torch.arange(self.starts[0], self.starts[0] + self.tokens, device=device).unsqueeze(0)
        return torch.tensor(self.starts, device=device).unsqueeze(1) + torch.arange(self.tokens, device=device)

    def slots(self, positions: Tensor, *, chunk: int | None) -> Slots:
        """Where ``positions`` are in layers that keep one ``chunk``, or everything."""
        firsts = [start % chunk if chunk else start for start in self.starts]
        of_tokens = positions % chunk if chunk else positions
        if self.even:
            return Slots(of_tokens=of_tokens, seen=firsts[0] + self.tokens, start=firsts[0], real=None)
        seen = max(first + count for first, count in zip(firsts, self.counts, strict=True))
        # Found on the host, which else would have to wait for a device to count.
        real = torch.arange(self.tokens) < torch.tensor(self.counts).unsqueeze(1)  # [rows, tokens]
        rows, columns = (index.to(positions.device) for index in real.nonzero(as_tuple=True))
        return Slots(of_tokens=of_tokens, seen=seen, start=None, real=(rows, columns))

    def last(self, states: Tensor, before: Tensor | None) -> Tensor:
        """Each row's state at its last real token up to here. [rows, tokens, hidden], [rows, hidden] -> the latter."""
        if self.full:
            return states[:, -1]
        rows = torch.arange(len(self.counts), device=states.device)
        ends = torch.tensor(self.counts, device=states.device) - 1
        newest = states[rows, ends.clamp(min=0)]
        return newest if before is None else torch.where(ends.unsqueeze(1) >= 0, newest, before)


def spans(lengths: Sequence[int], counts: Sequence[int], chunk: int | None) -> Iterator[Span]:
    """``counts`` further tokens behind ``lengths``, row by row: at most ``PROMPT_BLOCK`` at once.

    Where any row reaches the border of a chunk, the span ends for all.
    """
    begin, whole = 0, max(counts)
    while begin < whole:
        starts = tuple(length + min(begin, count) for length, count in zip(lengths, counts, strict=True))
        borders = [
            chunk - start % chunk for start, count in zip(starts, counts, strict=True) if chunk and begin < count
        ]
        end = min(begin + PROMPT_BLOCK, whole, begin + min(borders, default=PROMPT_BLOCK))
        real = tuple(max(0, min(end, count) - begin) for count in counts)
        yield Span(begin, end, starts, real)
        begin = end
