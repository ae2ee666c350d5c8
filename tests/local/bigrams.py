"""A network of one matrix, behind a vocabulary of bytes: what an engine must do to it can be computed by hand."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
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
from llama4sdk.local.output_processor import Token
from llama4sdk.local.structured_output import TokenMask
from llama4sdk.local.windows import Scored, Window
from llama4sdk.requests import Pooling, Request
from llama4sdk.weights.checkpoint import GenerationDefaults

MARKS = "begin_of_text end_of_text header_start header_end eom eot python_start python_end"
IMAGE_MARKS = "image_start image_end tile_x_separator tile_y_separator patch image"
CONTROL = {f"<|{name}|>": 256 + place for place, name in enumerate(f"{MARKS} {IMAGE_MARKS}".split())}
PADDING = 7
"""Tokens that the network scores and the tokenizer does not have."""

Logits = npt.NDArray[np.float32]


def byte_tokenizer() -> Tokenizer:
    """A token for each byte, and Llama 4's control tokens behind them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return Tokenizer.from_vocabulary({c: n for n, c in enumerate(alphabet)}, [], CONTROL, splitter="gpt2")


@dataclass(kw_only=True)
class Texts:
    """What an engine knows of a model beside its weights."""

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


class Bigrams(LocalEngine):
    """The likeliest token follows, always. ``now`` and ``most`` count the caches that are held, and were at most."""

    def __init__(self, table: Logits, source: Texts | None = None, **options: object) -> None:
        known = {"backend": "bigrams", "model": "tiny", "context_length": 64, "vocab_size": len(table)} | options
        super().__init__(source or Texts(), **known)  # type: ignore[arg-type]
        self.table = table
        self.now = self.most = 0
        self.embedded: list[list[int]] = []
        self._lock = threading.Lock()

    def _tokens(self, request: Request, prompt: Prompt, count: int, guide: TokenMask | None) -> Generator[Token]:
        last = prompt.ids[-1]
        with self._cache():
            for _ in range(count):
                scores = self.table[last]
                last = int((scores if guide is None else np.where(guide.allowed(), scores, -np.inf)).argmax())
                yield _token(last, log_softmax(scores), request.sampling.logprobs)
                if guide is not None:
                    guide.take(last)
                    if guide.ended:
                        return

    def _vectors(self, texts: Sequence[Sequence[int]], pooling: Pooling) -> npt.NDArray[np.float32]:
        self.embedded.append([len(ids) for ids in texts])
        with self._cache():
            states = [self.table[list(ids)] for ids in texts]
            return np.stack([rows[-1] if pooling == "last" else rows.mean(0) for rows in states])

    def _scored(self, ids: Sequence[int], window: Window, top: int) -> Iterator[Scored]:
        with self._cache():
            for place in range(window.first, window.end):
                token = _token(ids[place], log_softmax(self.table[ids[place - 1]]), top)
                yield Scored(token.logprob or 0.0, token.top)

    @contextmanager
    def _cache(self) -> Iterator[None]:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            yield
        finally:
            with self._lock:
                self.now -= 1


class Prompter(Bigrams):
    """Says what it is told to, token by token."""

    script: Sequence[int] = ()

    def _tokens(self, request: Request, prompt: Prompt, count: int, guide: TokenMask | None) -> Generator[Token]:
        for token in self.script[:count]:
            yield _token(token, log_softmax(self.table[0]), request.sampling.logprobs)


def _token(token: int, logprobs: Logits, top: int | None) -> Token:
    if top is None:
        return Token(id=token)
    best = [int(n) for n in (-logprobs).argsort()[:top]]
    return Token(id=token, logprob=float(logprobs[token]), top=tuple((n, float(logprobs[n])) for n in best))
