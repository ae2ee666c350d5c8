"""A loaded model that answers requests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the name everybody knows it by)

from llama4sdk.backend import Engine
from llama4sdk.context import room_for_answer
from llama4sdk.errors import (
    CheckpointError,
    DeviceMemoryError,
    InvalidRequestError,
    StreamClosedError,
    UnsupportedFeatureError,
)
from llama4sdk.events import Event, Finish, TokenLogprob, TopLogprob, Usage
from llama4sdk.memory import Memory
from llama4sdk.messages import ImagePart
from llama4sdk.planning.sizing import BLOCK
from llama4sdk.progress import Progress
from llama4sdk.requests import EmbedRequest, Pooling, Request, ScoreRequest
from llama4sdk.results import Embeddings, Scores
from llama4sdk.scoring import windows
from llama4sdk.text import gb
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk_torch.calls import AnswerEvents, offered, prompt_format, visible_marks
from llama4sdk_torch.constraints import Constraints, Guide
from llama4sdk_torch.generation import AnswerText, generate
from llama4sdk_torch.loading import free_memory, memory_errors
from llama4sdk_torch.metering import Meter
from llama4sdk_torch.model import TextModel
from llama4sdk_torch.prompts import Prompt, Sight
from llama4sdk_torch.sampling import Sampler
from llama4sdk_torch.scoring import score_window
from llama4sdk_torch.turns import Turns
from llama4sdk_torch.vision import VisionModel

__all__ = ["TorchEngine"]

logger = logging.getLogger("llama4sdk")

EMBED_TOKENS = BLOCK
"""At most so many tokens of several texts, padding included, go through the network together: as of one prompt."""


class TorchEngine(Engine):
    """Serves several threads at once; each stream has a cache of its own, freed with the stream.

    No more than ``batch`` requests have one at once: later ones wait for their turn. Each goes through the network for
    itself, in the thread that reads it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        network: TextModel,
        vision: VisionModel | None = None,
        *,
        model: str,
        context_length: int,
        batch: int = 1,
        request_bytes: int = 0,
        meter: Meter | None = None,
    ) -> None:
        self.model = model
        self.context_length = context_length
        self._meter = meter
        self._batch = batch
        self._turns = Turns(batch)
        self._request_bytes = request_bytes
        self._exceeded = False
        self._network: TextModel | None = network
        self._tokenizer = checkpoint.tokenizer()
        self._sight = None if vision is None else Sight(vision, self._tokenizer.control)
        self._template = checkpoint.prompt_format()
        self._calls_tools = checkpoint.calls_tools
        self._stop_ids = checkpoint.stop_ids | self._tokenizer.turn_ends
        self._defaults = checkpoint.generation_defaults
        if self._tokenizer.size > network.config.vocab_size:
            raise CheckpointError(
                f"The tokenizer of {checkpoint.path} has {self._tokenizer.size} tokens, its network only "
                f"{network.config.vocab_size}."
            )
        self._constraints = Constraints(self._tokenizer, self._stop_ids, network.config.vocab_size)

    def stream(self, request: Request) -> Iterator[Event]:
        """Text and tool calls, then one ``Finish``.

        Raises ContextLengthError when prompt and ``max_tokens`` together exceed the context, UnsupportedFeatureError
        for images to a model that cannot see, for messages to one without a chat template and tools to one that was not
        made for them, InvalidRequestError for images that cannot be fetched or decoded and for schemas, patterns and
        grammars that cannot be enforced, DeviceMemoryError when memory runs out.
        """
        network = self._open()
        request = offered(request)
        prompt = self._input(request)
        count = room_for_answer(len(prompt.ids), request.sampling.max_tokens, self.context_length)
        guide = self._constraints.guide(request, network.device)
        return self._answer(network, request, prompt, count, guide)

    def embed(self, request: EmbedRequest) -> Embeddings:
        """Pooled final states: a decoder's view of the text, not that of a model trained to embed.

        ``mean`` averages over all tokens of a text, ``last`` takes the one token that has seen all others. Raises
        ContextLengthError when a text exceeds the context.
        """
        network = self._open()
        texts = [self._tokenizer.encode(text) for text in request.inputs]
        for ids in texts:
            room_for_answer(len(ids), 0, self.context_length)
        vectors: dict[int, tuple[float, ...]] = {}
        with self._turn(), memory_errors(network.device), self._working(long=True):
            for batch in _batches(texts):
                self._open()
                pooled = _pooled(network, [texts[i] for i in batch], request.pooling)
                pooled = F.normalize(pooled, dim=-1) if request.normalize else pooled
                vectors |= zip(batch, map(tuple, pooled.tolist()), strict=True)
        return Embeddings(
            vectors=tuple(vectors[i] for i in range(len(texts))),
            usage=Usage(input_tokens=sum(map(len, texts)), output_tokens=0),
            model=self.model,
            backend="torch",
        )

    def score(self, request: ScoreRequest, *, progress: Progress | None = None) -> Scores:
        """The log-probability of each token, from the logits that ``stream`` would draw from.

        Raises ContextLengthError when a window is longer than the context, UnsupportedFeatureError for messages to a
        model without a chat template.
        """
        ids = self._prompt(Request(prompt=request.prompt, messages=request.messages))
        spans = windows(len(ids), window=request.window, stride=request.stride, context_length=self.context_length)
        piece = self._tokenizer.piece
        entries: list[TokenLogprob | None] = [None]
        with self._turn():
            for span in spans:
                with self._working(long=True):
                    found = list(score_window(self._open, ids, span, top=request.top))
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
            backend="torch",
        )

    def count_tokens(self, request: Request) -> int:
        """Tokens of the prompt, or of the messages with their images and everything the chat template adds."""
        return len(self._input(offered(request)).ids)

    def memory(self) -> Memory:
        """The peak while loading and answering, beside the plan. Empty for an engine that was made without one."""
        return Memory() if self._meter is None else self._meter.memory

    def close(self) -> None:
        """Free the weights. Streams still open end with StreamClosedError at their next token."""
        self._network = None
        self._sight = None
        self._turns.wake()

    def _answer(
        self, network: TextModel, request: Request, prompt: Prompt, count: int, guide: Guide | None
    ) -> Iterator[Event]:
        marks = visible_marks(self._tokenizer, request)
        answer = AnswerText(self._tokenizer, self._stop_ids, request.sampling.stop, marks)
        events = AnswerEvents(request)
        with self._turn():
            with memory_errors(network.device), self._working(long=prompt.pixels is not None):
                inputs = self._taken_in(network, prompt)
                tokens = generate(network, inputs, lambda like: self._sampler(request, prompt.ids, like), count, guide)
                del inputs  # embedded, a long prompt takes memory, and is needed only until it is read
            try:
                while answer.finished is None:
                    self._open()
                    with memory_errors(network.device), self._working(long=answer.count == 0):
                        token = next(tokens, None)
                    whole = guide is not None and guide.ended
                    delta = answer.end("stop" if whole else "length") if token is None else answer.push(token)
                    yield from events.read(delta, last=answer.finished is not None)
            finally:
                with self._working(long=False):
                    tokens.close()
                if self._meter is not None:
                    self._meter.report()
        usage = Usage(input_tokens=len(prompt.ids), output_tokens=answer.count, cached_tokens=0)
        yield Finish(reason=events.reason(answer.finished), usage=usage)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold memory of the plan's, once that is free."""
        with self._turns.turn(self._open, self._exceed):
            self._open()
            yield

    def _exceed(self) -> None:
        """Take memory beyond the plan's, all of which open streams hold. Raises DeviceMemoryError if there is none."""
        have = free_memory(self._open().device)
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
    def _working(self, *, long: bool) -> Iterator[None]:
        """Measure memory: all the time while a prompt goes through the network, after it for a single token."""
        meter = self._meter
        with self._turns.step(), nullcontext() if meter is None else meter.watching() if long else meter.working():
            yield

    def _taken_in(self, network: TextModel, prompt: Prompt) -> Tensor:
        tokens = torch.tensor([prompt.ids], device=network.device)
        if prompt.pixels is None:
            return tokens
        if self._sight is None:
            raise _closed()
        return self._sight.vectors(network, tokens, prompt.pixels)

    def _sampler(self, request: Request, prompt: list[int], like: Tensor) -> Sampler:
        return Sampler(request.sampling, self._defaults, prompt, like=like)

    def _open(self) -> TextModel:
        network = self._network
        if network is None:
            raise _closed()
        return network

    def _input(self, request: Request) -> Prompt:
        images = [part for message in request.messages for part in message.parts if isinstance(part, ImagePart)]
        if not images:
            return Prompt(ids=self._prompt(request))
        if self._sight is None:
            raise UnsupportedFeatureError("torch", "images", hint=f"'{self.model}' cannot see; send text only.")
        return self._sight.prompt(self._prompt(request), images)

    def _prompt(self, request: Request) -> list[int]:
        if request.tools and not (self._calls_tools and request.messages):
            raise UnsupportedFeatureError("torch", "tools", hint=f"'{self.model}' is not told of tools in its prompts.")
        if request.prompt is not None:
            ids = self._tokenizer.encode(request.prompt)
        elif self._template is not None:
            template = prompt_format(self._template, request)
            ids = self._tokenizer.encode_chat(template, request.messages, tools=request.tools)
        else:
            raise UnsupportedFeatureError(
                "torch", "chat", hint=f"'{self.model}' has no chat template; use generate with a plain prompt."
            )
        if not ids:
            raise InvalidRequestError("Nothing is left of this request once it is written as the model reads it.")
        return ids


def _closed() -> StreamClosedError:
    return StreamClosedError("The engine was closed.", hint="Make a new client.")


def _batches(texts: list[list[int]]) -> Iterator[list[int]]:
    """Indices of texts that go together: of similar length, and not too many tokens."""
    batch: list[int] = []
    for index in sorted(range(len(texts)), key=lambda i: len(texts[i])):
        if batch and (len(batch) + 1) * len(texts[index]) > EMBED_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    yield batch


@torch.inference_mode()
def _pooled(network: TextModel, texts: list[list[int]], pooling: Pooling) -> Tensor:
    """One float32 vector per text, [texts, hidden]."""
    counts = [len(ids) for ids in texts]
    cache = network.new_cache(max(counts), batch=len(texts))
    tokens = torch.tensor([ids + [0] * (max(counts) - len(ids)) for ids in texts], device=network.device)
    if pooling == "last":
        return network.prefill(tokens, cache, counts).float()
    states = network.hidden(tokens, cache, counts).float()  # [texts, tokens, hidden]
    lengths = torch.tensor(counts, device=network.device).unsqueeze(1)
    real = torch.arange(max(counts), device=network.device) < lengths  # [texts, tokens]
    return (states * real.unsqueeze(-1)).sum(1) / lengths
