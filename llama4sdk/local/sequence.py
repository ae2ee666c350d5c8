"""One request on its way through a network: its tokens, its cache, and the answer as far as it is drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from llama4sdk.local.structured_output import TokenMask

Cache = TypeVar("Cache")
Logits = TypeVar("Logits")
LogitsIn = TypeVar("LogitsIn", contravariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One drawn token on the host; ``top`` are (token, log-probability) pairs, likeliest first."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Draw(Protocol):
    """A drawn token that may still be on its way from a device to the host."""

    def token(self) -> Token:
        """Wait for the token."""


class Sampler(Protocol[LogitsIn]):
    """Draws the tokens of one sequence. It keeps the random state and, where there is one, obeys the token mask."""

    def draw(self, logits: LogitsIn) -> Draw | Token:
        """One token from the scores of the whole vocabulary. Raises InvalidRequestError where none is allowed."""


@dataclass(eq=False, slots=True, kw_only=True)
class Reservation:
    """Cache memory for ``tokens``, of a sequence or of other work. ``arrival`` is its rank among all requests."""

    tokens: int
    arrival: int = -1
    thread: int = 0  #: The thread that holds the memory, where that thread does the work itself; 0 for sequences.

    @property
    def capacity(self) -> int:
        """The most tokens that its caches can ever have."""
        return self.tokens


@dataclass(eq=False, slots=True, kw_only=True)
class Sequence(Reservation, Generic[Cache, Logits]):
    """A request that generates tokens.

    ``token_ids`` are the prompt and the tokens that were drawn and read; ``num_cached`` of them have left keys and
    values in ``cache``, which belongs to the model runner. Without a cache the sequence can begin again: all that it
    needs is here. ``unread`` tokens wait for the request's reader.
    """

    token_ids: list[int]
    max_tokens: int
    sampler: Sampler[Logits]
    mask: TokenMask | None = None
    stop_ids: frozenset[int] = frozenset()
    pixels: npt.NDArray[np.uint8] | None = None  #: Tiles of the prompt's images, [tiles, 3, side, side].
    tokens: int = 0
    prompt_length: int = field(init=False)
    cache: Cache | None = None
    num_cached: int = 0
    prefilled: bool = False  #: Whether the prompt is cached, so that each step adds one token.
    num_drawn: int = 0
    pending: Draw | Token | None = None
    unread: deque[Token] = field(default_factory=deque)
    finished: bool = False
    cancelled: bool = False
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.prompt_length = len(self.token_ids)
        self.tokens = self.prompt_length + min(1, self.max_tokens)
        self.finished = self.max_tokens < 1

    @property
    def capacity(self) -> int:
        """The most tokens that its cache can ever have."""
        return self.prompt_length + self.max_tokens

    def draw(self, logits: Logits) -> None:
        """Draw the next token; ``read`` takes it over."""
        self.pending = self.sampler.draw(logits)
        self.num_drawn += 1

    def read(self) -> None:
        """Append the drawn token, and see whether it was the last."""
        if (drawn := self.pending) is None:
            return
        self.pending = None
        token = drawn if isinstance(drawn, Token) else drawn.token()
        if self.mask is not None:
            self.mask.take(token.id)
        self.token_ids.append(token.id)
        self.tokens = min(len(self.token_ids) + 1, self.capacity)
        self.unread.append(token)
        masked_end = self.mask is not None and self.mask.ended
        self.finished = masked_end or token.id in self.stop_ids or self.num_drawn >= self.max_tokens


class ModelRunner(Protocol[Cache, Logits]):
    """A network that several sequences share. One thread at a time calls it."""

    #: Whether a step is launched before the tokens of the last one are read, so that an accelerator never waits.
    ahead: bool

    def cache_bytes(self, reservations: Many[Reservation]) -> int:
        """Memory that the caches of so many tokens take together."""

    def prefill(self, sequence: Sequence[Cache, Logits]) -> Logits | None:
        """Bring one block of the sequence's uncached tokens into its cache, and raise ``num_cached``.

        Gives the logits behind the last of them, ``None`` while more are left.
        """

    def decode(self, sequences: Many[Sequence[Cache, Logits]]) -> Many[Logits]:
        """The logits behind the last drawn token of each sequence, which goes into its cache."""

    def free(self, sequence: Sequence[Cache, Any]) -> None:
        """Give back the memory of the sequence's cache. Does nothing for a sequence that has none."""
