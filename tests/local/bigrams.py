"""A network of one matrix, behind a vocabulary of bytes: what an engine must do to it can be computed by hand."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from collections.abc import Sequence as Many
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import pre_tokenizers

from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.prompt_format import Llama4Prompt
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.local.engine import LocalEngine
from llama4sdk.local.input_processor import Prompt
from llama4sdk.local.sequence import Reservation, Sampler, Sequence, Token
from llama4sdk.local.structured_output import TokenMask
from llama4sdk.local.windows import Scored, Window
from llama4sdk.requests import Pooling, Request
from llama4sdk.weights.checkpoint import GenerationDefaults

MARKS = "begin_of_text end_of_text header_start header_end eom eot python_start python_end"
IMAGE_MARKS = "image_start image_end tile_x_separator tile_y_separator patch image"
CONTROL = {f"<|{name}|>": 256 + place for place, name in enumerate(f"{MARKS} {IMAGE_MARKS}".split())}
#: Tokens that the network scores and the tokenizer does not have.
PADDING = 7

Logits = npt.NDArray[np.float32]


def byte_tokenizer() -> Tokenizer:
    """A token for each byte, and Llama 4's control tokens behind them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return Tokenizer.from_vocabulary({c: n for n, c in enumerate(alphabet)}, [], CONTROL, splitter="gpt2")


@dataclass(kw_only=True)
class Texts:
    """The text side of a model: tokenizer, template and stopping tokens."""

    path: Path = Path("bigrams")
    calls_tools: bool = True
    stop_ids: frozenset[int] = frozenset()
    generation_defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    format: ChatTemplate | Llama4Prompt | None = field(default_factory=lambda: Llama4Prompt(tool_style="pythonic"))

    def tokenizer(self) -> Tokenizer:
        return byte_tokenizer()

    def prompt_format(self) -> ChatTemplate | Llama4Prompt | None:
        return self.format


def random_table(seed: int = 0) -> Logits:
    """Scores [last token, next token]. Printable characters follow, and nothing ends an answer."""
    table = np.random.default_rng(seed).normal(0, 2, (256 + len(CONTROL) + PADDING,) * 2).astype(np.float32)
    letters = byte_tokenizer().encode("abcdefghijklmnopqrstuvwxyz ")
    table[:, sorted(set(range(len(table))) - set(letters))] -= 50
    return table


def log_softmax(scores: Logits) -> Logits:
    shifted = scores - scores.max(-1, keepdims=True)
    whole: Logits = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return whole


class TableSampler:
    """Draws the likeliest token, always."""

    def __init__(self, request: Request, mask: TokenMask | None) -> None:
        self._logprobs = request.sampling.logprobs
        self._mask = mask

    def draw(self, logits: Logits) -> Token:
        allowed = logits if self._mask is None else np.where(self._mask.allowed(), logits, -np.inf)
        return _token(int(allowed.argmax()), log_softmax(logits), self._logprobs)


TableSequence = Sequence[list[int], Logits]


class TableRunner:
    """Looks scores up by the last token. A cache is the list of the tokens that went in; it takes a byte for each."""

    ahead = False
    #: Tokens of a prompt that go through at once.
    block = 16

    def __init__(self, table: Logits) -> None:
        self.table = table
        self.caches: list[list[int]] = []
        self.peak = 0  # caches at once, at most
        self.batches: list[int] = []  # sequences in each step of decoding

    def cache_bytes(self, reservations: Many[Reservation]) -> int:
        return sum(reservation.tokens for reservation in reservations)

    def prefill(self, sequence: TableSequence) -> Logits | None:
        if sequence.cache is None:
            sequence.cache = self.open()
        cache, end = sequence.cache, sequence.num_cached + self.block
        cache += sequence.token_ids[sequence.num_cached : end]
        sequence.num_cached = len(cache)
        return self.table[cache[-1]] if len(cache) == len(sequence.token_ids) else None

    def decode(self, sequences: Many[TableSequence]) -> list[Logits]:
        self.batches.append(len(sequences))
        for sequence in sequences:
            assert sequence.cache is not None
            sequence.cache.append(sequence.token_ids[-1])
            assert sequence.cache == sequence.token_ids
        return [self.table[sequence.token_ids[-1]] for sequence in sequences]

    def free(self, sequence: TableSequence) -> None:
        if sequence.cache is not None:
            self.close(sequence.cache)
            sequence.cache = None

    def open(self) -> list[int]:
        """An empty cache."""
        self.caches.append([])
        self.peak = max(self.peak, len(self.caches))
        return self.caches[-1]

    def close(self, cache: list[int]) -> None:
        """Forget a cache that is open; to close one twice is an error."""
        del self.caches[next(number for number, other in enumerate(self.caches) if other is cache)]


class Bigrams(LocalEngine):
    """The likeliest token follows, always."""

    def __init__(self, table: Logits, source: Texts | None = None, **options: object) -> None:
        known = {"backend": "bigrams", "model": "tiny", "context_length": 64, "vocab_size": len(table)} | options
        super().__init__(source or Texts(), **known)  # type: ignore[arg-type]
        self.table = table
        self.embedded: list[list[int]] = []
        self.runner = TableRunner(table)
        self._start(self.runner)

    def _sampler(self, request: Request, prompt: Prompt, mask: TokenMask | None) -> Sampler[Logits]:
        return TableSampler(request, mask)

    def _vectors(self, texts: Many[Many[int]], pooling: Pooling) -> npt.NDArray[np.float32]:
        self.embedded.append([len(ids) for ids in texts])
        with self._cache():
            states = [self.table[list(ids)] for ids in texts]
            return np.stack([rows[-1] if pooling == "last" else rows.mean(0) for rows in states])

    def _scored(self, token_ids: Many[int], window: Window, top: int) -> Generator[list[Scored]]:
        with self._cache():
            for place in range(window.first, window.end):
                token = _token(token_ids[place], log_softmax(self.table[token_ids[place - 1]]), top)
                yield [Scored(token.logprob or 0.0, token.top)]

    @contextmanager
    def _cache(self) -> Iterator[None]:
        cache = self.runner.open()
        try:
            yield
        finally:
            self.runner.close(cache)


class Prompter(Bigrams):
    """Says what it is told to, token by token."""

    script: Many[int] = ()

    def _sampler(self, request: Request, prompt: Prompt, mask: TokenMask | None) -> Sampler[Logits]:
        return ScriptSampler(self.script, request.sampling.logprobs)


class ScriptSampler:
    """Draws the tokens of a script, and a stopping token behind them."""

    def __init__(self, script: Many[int], logprobs: int | None) -> None:
        self._rest = iter([*script, CONTROL["<|eot|>"]])
        self._logprobs = logprobs

    def draw(self, logits: Logits) -> Token:
        return _token(next(self._rest), log_softmax(logits), self._logprobs)


def _token(token: int, logprobs: Logits, top: int | None) -> Token:
    if top is None:
        return Token(id=token)
    best = [int(n) for n in (-logprobs).argsort()[:top]]
    return Token(id=token, logprob=float(logprobs[token]), top=tuple((n, float(logprobs[n])) for n in best))
