"""``LocalEngine``: an ``Engine`` made of a tokenizer and a network that runs in this process."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterator
from collections.abc import Sequence as Many
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from llama4sdk.backend import Engine
from llama4sdk.capacity.torch_memory import PROMPT_BLOCK
from llama4sdk.errors import CheckpointError, StreamClosedError
from llama4sdk.events import Event, Finish, TokenLogprob, TopLogprob, Usage
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.local.input_processor import InputProcessor, Prompt
from llama4sdk.local.memory_meter import MemoryMeter
from llama4sdk.local.output_processor import Detokenizer, OutputProcessor, offered_tools, visible_marks
from llama4sdk.local.scheduler import Scheduler, Work, closed_error
from llama4sdk.local.sequence import ModelRunner, Reservation, Sampler, Sequence
from llama4sdk.local.structured_output import Constraints, TokenMask
from llama4sdk.local.text_source import TextSource
from llama4sdk.local.windows import Scored, Window, room_for_answer, windows
from llama4sdk.progress import Progress
from llama4sdk.requests import EmbedRequest, Pooling, Request, ScoreRequest
from llama4sdk.results import Embeddings, Memory, Scores

#: Tokens of several texts that go through the network together at most, padding included: as of one prompt.
MAX_EMBED_TOKENS: Final = PROMPT_BLOCK

#: The least length that a vector is divided by when it is normalized.
MIN_NORM: Final = 1e-12

Block = TypeVar("Block")


class LocalEngine(Engine):
    """Serves several threads at once: their requests share the steps of one network (see ``local.scheduler``).

    Text becomes tokens, and tokens become text, in the thread that reads. A subclass calls ``_start`` with its model
    runner, and brings ``_sampler``, ``_vectors`` and ``_scored``; the rest has defaults.
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
        meter: MemoryMeter | None = None,
    ) -> None:
        """``batch``: memory is held for caches of so many whole contexts; ``vocab_size``: tokens the network scores.

        Raises CheckpointError when the tokenizer has tokens that the network does not know.
        """
        self.model = model
        self.context_length = context_length
        self._backend = backend
        self._tokenizer = source.tokenizer()
        self._input = InputProcessor(source, self._tokenizer, backend=backend, model=model, vision=vision)
        self._stop_ids = source.stop_ids | self._tokenizer.turn_ends
        self._defaults = source.generation_defaults
        self._batch = batch
        self._meter = meter
        self._closed = False
        if self._tokenizer.size > vocab_size:
            raise CheckpointError(
                f"The tokenizer of {source.path} has {self._tokenizer.size} tokens, its network only {vocab_size}."
            )
        self._constraints = Constraints(self._tokenizer, self._stop_ids, vocab_size)

    def _start(self, runner: ModelRunner[Any, Any]) -> None:
        """Share the network of ``runner`` among requests, within the memory that was planned."""
        memory_bytes = runner.cache_bytes([Reservation(tokens=self.context_length)] * self._batch)
        self._scheduler: Scheduler[Any, Any] = Scheduler(runner, memory_bytes=memory_bytes, measured=self._measured)

    @abstractmethod
    def _sampler(self, request: Request, prompt: Prompt, mask: TokenMask | None) -> Sampler[Any]:
        """Draws the request's tokens from the runner's logits, as the request and ``self._defaults`` say.

        With a ``mask`` only those that it allows at that moment.
        """

    @abstractmethod
    def _vectors(self, texts: Many[Many[int]], pooling: Pooling) -> npt.NDArray[np.float32]:
        """The pooled final states of texts that go together, [texts, hidden], as long as they are.

        There are at most ``MAX_EMBED_TOKENS`` tokens, padding to the longest included, or a single text.
        """

    @abstractmethod
    def _scored(self, token_ids: Many[int], window: Window, top: int) -> Generator[list[Scored]]:
        """The tokens [first, end) of a window, each given those before it in the window, with ``top`` alternatives.

        Block by block: between two of them other requests take steps.
        """

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Around everything that the network does: where its errors become the SDK's."""
        yield

    def _stop(self) -> None:
        """Interrupt a run of the network that another thread is in, where that is possible."""

    def _free(self) -> None:
        """Drop the weights. Called by each ``close``, when no step is running."""

    def stream(self, request: Request) -> Iterator[Event]:
        """Text and tool calls, then one ``Finish``.

        Raises ContextLengthError when prompt and ``max_tokens`` together exceed the context, UnsupportedFeatureError
        for images to a model that cannot see, for messages to one without a chat template and tools to one that was not
        made for them, InvalidRequestError for images that cannot be fetched or decoded and for schemas, patterns and
        grammars that cannot be enforced, DeviceMemoryError when memory runs out.
        """
        self._check_open()
        request = offered_tools(request)
        prompt = self._input.prompt(request)
        max_tokens = room_for_answer(len(prompt.ids), request.sampling.max_tokens, self.context_length)
        mask = self._constraints.token_mask(request)
        sequence: Sequence[Any, Any] = Sequence(
            token_ids=list(prompt.ids),
            max_tokens=max_tokens,
            sampler=self._sampler(request, prompt, mask),
            mask=mask,
            stop_ids=self._stop_ids,
            pixels=prompt.pixels,
        )
        return self._events(request, sequence)

    def embed(self, request: EmbedRequest) -> Embeddings:
        """Pooled final states: a decoder's view of the text, not that of a model trained to embed.

        ``mean`` averages over all tokens of a text, ``last`` takes the one token that has seen all others. Raises
        ContextLengthError when a text exceeds the context.
        """
        self._check_open()
        texts = [self._tokenizer.encode(text) for text in request.inputs]
        for token_ids in texts:
            room_for_answer(len(token_ids), 0, self.context_length)
        vectors: dict[int, tuple[float, ...]] = {}
        for batch in _batches(texts, min(MAX_EMBED_TOKENS, self.context_length)):
            together = [texts[index] for index in batch]
            with self._scheduler.reserved(sum(map(len, together))), self._scheduler.exclusive():
                pooled = self._vectors(together, request.pooling)
            if request.normalize:
                pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=-1, keepdims=True), MIN_NORM)
            vectors |= zip(batch, map(tuple, pooled.tolist()), strict=True)
        return Embeddings(
            vectors=tuple(vectors[index] for index in range(len(texts))),
            usage=Usage(input_tokens=sum(map(len, texts)), output_tokens=0),
            model=self.model,
            backend=self._backend,
        )

    def score(self, request: ScoreRequest, *, progress: Progress | None = None) -> Scores:
        """The log-probability of each token, from the logits that ``stream`` would draw from.

        Raises ContextLengthError when a window is longer than the context, UnsupportedFeatureError for messages to a
        model without a chat template.
        """
        token_ids = self._input.prompt(Request(prompt=request.prompt, messages=request.messages)).ids
        parts = windows(
            len(token_ids), window=request.window, stride=request.stride, context_length=self.context_length
        )
        piece = self._tokenizer.piece
        entries: list[TokenLogprob | None] = [None]
        for window in parts:
            with self._scheduler.reserved(window.end - window.begin):
                scores = [s for block in self._blocks(self._scored(token_ids, window, request.top)) for s in block]
            for scored in scores:
                top = tuple(TopLogprob(token=piece(other), logprob=value) for other, value in scored.top)
                token = piece(token_ids[len(entries)])
                entries.append(TokenLogprob(token=token, logprob=scored.logprob, top=top))
            if progress is not None:
                progress(len(entries), len(token_ids))
        return Scores(
            tokens=tuple(map(piece, token_ids)),
            logprobs=tuple(entries),
            usage=Usage(input_tokens=len(token_ids), output_tokens=0),
            model=self.model,
            backend=self._backend,
        )

    def count_tokens(self, request: Request) -> int:
        """Tokens of the prompt, or of the messages with their images and everything the chat template adds."""
        return len(self._input.prompt(offered_tools(request)).ids)

    def memory(self) -> Memory:
        """The peak while loading and answering, beside the plan. Empty for an engine that was made without a meter."""
        return Memory() if self._meter is None else self._meter.memory

    def close(self) -> None:
        """Free the weights, once no step is running. Streams still open end with StreamClosedError."""
        self._closed = True
        self._stop()
        self._scheduler.close()
        self._free()

    def _check_open(self) -> None:
        """Raise StreamClosedError once the engine is closed."""
        if self._closed:
            raise closed_error()

    def _events(self, request: Request, sequence: Sequence[Any, Any]) -> Iterator[Event]:
        marks = visible_marks(self._tokenizer, request)
        text = Detokenizer(self._tokenizer, self._stop_ids, request.sampling.stop, marks)
        events = OutputProcessor(request)
        tokens = self._scheduler.tokens(sequence)
        try:
            while text.finished is None:
                self._check_open()
                token = next(tokens, None)
                whole = sequence.mask is not None and sequence.mask.ended
                delta = text.end("stop" if whole else "length") if token is None else text.push(token)
                yield from events.read(delta, last=text.finished is not None)
        finally:
            tokens.close()
            if self._meter is not None:
                self._meter.report()
        usage = Usage(input_tokens=sequence.prompt_length, output_tokens=text.count, cached_tokens=0)
        yield Finish(reason=events.reason(text.finished), usage=usage)

    def _blocks(self, blocks: Generator[Block]) -> Iterator[Block]:
        """Other work than answers, one block between two steps."""
        try:
            while True:
                with self._scheduler.exclusive():
                    block = next(blocks, None)
                if block is None:
                    return
                yield block
        finally:
            with suppress(StreamClosedError), self._scheduler.exclusive():
                blocks.close()

    @contextmanager
    def _measured(self, work: Work) -> Iterator[None]:
        """Measure memory: all the time while a block goes through the network, after it for a single token."""
        meter = self._meter
        measured = nullcontext() if meter is None else meter.watching() if work == "block" else meter.working()
        with measured, self._translated_errors():
            yield


def _batches(texts: list[list[int]], max_tokens: int) -> Iterator[list[int]]:
    """Indices of texts that go together: of similar length, and not too many tokens."""
    batch: list[int] = []
    for index in sorted(range(len(texts)), key=lambda i: len(texts[i])):
        if batch and (len(batch) + 1) * len(texts[index]) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    yield batch
