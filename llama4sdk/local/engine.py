"""``LocalEngine``: an ``Engine`` made of a tokenizer and a network that runs in this process."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Final

import numpy as np
import numpy.typing as npt

from llama4sdk._text import gb
from llama4sdk.backend import Engine
from llama4sdk.capacity.torch_memory import PROMPT_BLOCK
from llama4sdk.errors import (
    CheckpointError,
    DeviceMemoryError,
)
from llama4sdk.events import Event, Finish, TokenLogprob, TopLogprob, Usage
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.local.admission import Admission
from llama4sdk.local.input_processor import InputProcessor, Prompt
from llama4sdk.local.memory_meter import MemoryMeter
from llama4sdk.local.output_processor import Detokenizer, OutputProcessor, Token, offered, visible_marks
from llama4sdk.local.scheduler import engine_closed
from llama4sdk.local.structured_output import Constraints, TokenMask
from llama4sdk.local.text_source import TextSource
from llama4sdk.local.windows import Scored, Window, room_for_answer, windows
from llama4sdk.probe import memory
from llama4sdk.progress import Progress
from llama4sdk.requests import EmbedRequest, Pooling, Request, ScoreRequest
from llama4sdk.results import Embeddings, Memory, Scores

__all__ = ["EMBED_TOKENS", "LocalEngine"]

logger = logging.getLogger("llama4sdk")

EMBED_TOKENS: Final = PROMPT_BLOCK
"""At most so many tokens of several texts, padding included, go through the network together: as of one prompt."""

SHORTEST: Final = 1e-12
"""What a vector's length is taken to be at least, where it is made one."""


class LocalEngine(Engine):
    """Serves several threads at once; each stream has a cache of its own, freed with the stream.

    No more than ``batch`` requests have one at once: later ones wait for their turn. All that is text is done here, and
    the work is done in the thread that reads. A subclass brings ``_tokens``, ``_vectors`` and ``_scored``, which are
    called for a request that holds a turn, within ``_working``; the rest has defaults.
    """

    def __init__(
        self,
        source: TextSource,
        *,
        backend: str,
        model: str,
        context_length: int,
        vocab_size: int,
        vision: VisionConfig | None = None,
        batch: int = 1,
        request_bytes: int = 0,
        meter: MemoryMeter | None = None,
    ) -> None:
        """``request_bytes`` is what each of the batch takes of the device; ``vocab_size`` what the network scores.

        Raises CheckpointError when the tokenizer has tokens that the network does not know.
        """
        self.model = model
        self.context_length = context_length
        self._backend = backend
        self._tokenizer = source.tokenizer()
        self._prompts = InputProcessor(source, self._tokenizer, backend=backend, model=model, vision=vision)
        self._stop_ids = source.stop_ids | self._tokenizer.turn_ends
        self._defaults = source.generation_defaults
        self._turns = Admission(batch)
        self._batch = batch
        self._request_bytes = request_bytes
        self._exceeded = False
        self._meter = meter
        self._closed = False
        if self._tokenizer.size > vocab_size:
            raise CheckpointError(
                f"The tokenizer of {source.path} has {self._tokenizer.size} tokens, its network only {vocab_size}."
            )
        self._constraints = Constraints(self._tokenizer, self._stop_ids, vocab_size)

    @abstractmethod
    def _tokens(self, request: Request, prompt: Prompt, count: int, guide: TokenMask | None) -> Generator[Token]:
        """At most ``count`` tokens that follow the prompt, drawn as the request and ``self._defaults`` say.

        A ``guide`` says before each draw what is allowed, is given each token by ``take``, and ends the answer by
        ``ended``. The cache lives as long as the generator: nothing is held before the first token is asked for, and
        ``close`` frees it. It may go on after a stopping token, which the caller finds.
        """

    @abstractmethod
    def _vectors(self, texts: Sequence[Sequence[int]], pooling: Pooling) -> npt.NDArray[np.float32]:
        """The pooled final states of texts that go together, [texts, hidden], as long as they are.

        There are at most ``EMBED_TOKENS`` tokens, padding to the longest included, or a single text.
        """

    @abstractmethod
    def _scored(self, ids: Sequence[int], window: Window, top: int) -> Iterator[Scored]:
        """The tokens [first, end) of a window, each given those before it in the window, with ``top`` alternatives.

        Between two blocks ``_check_open`` tells whether to go on.
        """

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Around everything that the network does: where its errors become the SDK's."""
        yield

    def _free_memory(self) -> int:
        """Bytes of the device that nobody uses now."""
        return memory.read().free

    def _free(self) -> None:
        """Let go of the weights. Called by each ``close``; steps in other threads may still be in the network."""

    def stream(self, request: Request) -> Iterator[Event]:
        """Text and tool calls, then one ``Finish``.

        Raises ContextLengthError when prompt and ``max_tokens`` together exceed the context, UnsupportedFeatureError
        for images to a model that cannot see, for messages to one without a chat template and tools to one that was not
        made for them, InvalidRequestError for images that cannot be fetched or decoded and for schemas, patterns and
        grammars that cannot be enforced, DeviceMemoryError when memory runs out.
        """
        self._check_open()
        request = offered(request)
        prompt = self._prompts.prompt(request)
        count = room_for_answer(len(prompt.ids), request.sampling.max_tokens, self.context_length)
        return self._answer(request, prompt, count, self._constraints.guide(request))

    def embed(self, request: EmbedRequest) -> Embeddings:
        """Pooled final states: a decoder's view of the text, not that of a model trained to embed.

        ``mean`` averages over all tokens of a text, ``last`` takes the one token that has seen all others. Raises
        ContextLengthError when a text exceeds the context.
        """
        self._check_open()
        texts = [self._tokenizer.encode(text) for text in request.inputs]
        for ids in texts:
            room_for_answer(len(ids), 0, self.context_length)
        vectors: dict[int, tuple[float, ...]] = {}
        with self._turn(), self._step(long=True):
            for batch in _batches(texts):
                self._check_open()
                pooled = self._vectors([texts[i] for i in batch], request.pooling)
                if request.normalize:
                    pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=-1, keepdims=True), SHORTEST)
                vectors |= zip(batch, map(tuple, pooled.tolist()), strict=True)
        return Embeddings(
            vectors=tuple(vectors[i] for i in range(len(texts))),
            usage=Usage(input_tokens=sum(map(len, texts)), output_tokens=0),
            model=self.model,
            backend=self._backend,
        )

    def score(self, request: ScoreRequest, *, progress: Progress | None = None) -> Scores:
        """The log-probability of each token, from the logits that ``stream`` would draw from.

        Raises ContextLengthError when a window is longer than the context, UnsupportedFeatureError for messages to a
        model without a chat template.
        """
        ids = self._prompts.prompt(Request(prompt=request.prompt, messages=request.messages)).ids
        spans = windows(len(ids), window=request.window, stride=request.stride, context_length=self.context_length)
        piece = self._tokenizer.piece
        entries: list[TokenLogprob | None] = [None]
        with self._turn():
            for span in spans:
                with self._step(long=True):
                    self._check_open()
                    found = list(self._scored(ids, span, request.top))
                for scored in found:
                    top = tuple(TopLogprob(token=piece(other), logprob=value) for other, value in scored.top)
                    entries.append(TokenLogprob(token=piece(ids[len(entries)]), logprob=scored.logprob, top=top))
                if progress is not None:
                    progress(len(entries), len(ids))
        return Scores(
            tokens=tuple(map(piece, ids)),
            logprobs=tuple(entries),
            usage=Usage(input_tokens=len(ids), output_tokens=0),
            model=self.model,
            backend=self._backend,
        )

    def count_tokens(self, request: Request) -> int:
        """Tokens of the prompt, or of the messages with their images and everything the chat template adds."""
        return len(self._prompts.prompt(offered(request)).ids)

    def memory(self) -> Memory:
        """The peak while loading and answering, beside the plan. Empty for an engine that was made without a meter."""
        return Memory() if self._meter is None else self._meter.memory

    def close(self) -> None:
        """Free the weights. Streams still open end with StreamClosedError at their next token."""
        self._closed = True
        self._free()
        self._turns.wake()

    def _check_open(self) -> None:
        """Raise StreamClosedError once the engine is closed."""
        if self._closed:
            raise engine_closed()

    def _answer(self, request: Request, prompt: Prompt, count: int, guide: TokenMask | None) -> Iterator[Event]:
        marks = visible_marks(self._tokenizer, request)
        answer = Detokenizer(self._tokenizer, self._stop_ids, request.sampling.stop, marks)
        events = OutputProcessor(request)
        with self._turn():
            tokens = self._tokens(request, prompt, count, guide)
            try:
                while answer.finished is None:
                    self._check_open()
                    with self._step(long=answer.count == 0):
                        token = next(tokens, None)
                    whole = guide is not None and guide.ended
                    delta = answer.end("stop" if whole else "length") if token is None else answer.push(token)
                    yield from events.read(delta, last=answer.finished is not None)
            finally:
                with self._step(long=False):
                    tokens.close()
                if self._meter is not None:
                    self._meter.report()
        usage = Usage(input_tokens=len(prompt.ids), output_tokens=answer.count, cached_tokens=0)
        yield Finish(reason=events.reason(answer.finished), usage=usage)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold memory of the plan's, once that is free."""
        with self._turns.turn(self._check_open, self._exceed):
            self._check_open()
            yield

    def _exceed(self) -> None:
        """Take memory beyond the plan's, all of which open streams hold. Raises DeviceMemoryError if there is none."""
        have = self._free_memory()
        if have < self._request_bytes:
            raise DeviceMemoryError(
                f"The plan has room for {self._batch} at once, which streams hold that nobody reads; one more needs "
                f"{gb(self._request_bytes)}, and {gb(have)} are free.",
                need=self._request_bytes,
                have=have,
                hint="Read them to their ends or close them first.",
            )
        if not self._exceeded:
            self._exceeded = True
            logger.warning(
                "More is answered at once than the %d planned for: open streams hold their memory, and nobody reads "
                "them. Close them, or make the client with a larger batch.",
                self._batch,
            )

    @contextmanager
    def _step(self, *, long: bool) -> Iterator[None]:
        """Measure memory: all the time while a prompt goes through the network, after it for a single token."""
        meter = self._meter
        measured = nullcontext() if meter is None else meter.watching() if long else meter.working()
        with self._turns.step(), measured, self._working():
            yield


def _batches(texts: list[list[int]]) -> Iterator[list[int]]:
    """Indices of texts that go together: of similar length, and not too many tokens."""
    batch: list[int] = []
    for index in sorted(range(len(texts)), key=lambda i: len(texts[i])):
        if batch and (len(batch) + 1) * len(texts[index]) > EMBED_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    yield batch
