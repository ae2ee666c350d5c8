"""The asynchronous client."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from pydantic import JsonValue
from typing_extensions import TypeVar

from llama4sdk.batch.items import BatchItem, BatchRequest, Job
from llama4sdk.client import BaseClient, ChatArguments, GenerateArguments
from llama4sdk.constraints import SchemaLike
from llama4sdk.errors import StreamClosedError
from llama4sdk.plan import Plan
from llama4sdk.progress import Progress
from llama4sdk.remote.loop_thread import run_in_thread
from llama4sdk.requests import ChatOptions, GenerateOptions, Pooling, SamplingOptions
from llama4sdk.results import Completion, Embeddings, Memory, Scores
from llama4sdk.session import validation
from llama4sdk.session.validation import MessagesInput
from llama4sdk.streams import AsyncStream
from llama4sdk.tools import ToolLike, ToolRun

__all__ = ["AsyncClient"]

T = TypeVar("T", default=JsonValue)


class AsyncClient(BaseClient):
    """A Llama 4 model for asyncio: the methods of ``Client``, awaited, and streams that are read with ``async for``.

    Planning and loading run in threads, and so do engines that are not asynchronous themselves. Cancelling ``chat``,
    ``generate``, ``run_tools``, ``score`` or ``batch`` stops the work. The errors are those of ``Client``.
    """

    _asynchronous = True

    @overload
    async def chat(
        self, messages: MessagesInput, *, stream: Literal[False] = False, **arguments: Unpack[ChatArguments[T]]
    ) -> Completion[T]: ...
    @overload
    async def chat(
        self, messages: MessagesInput, *, stream: Literal[True], **arguments: Unpack[ChatArguments[T]]
    ) -> AsyncStream[T]: ...
    async def chat(
        self,
        messages: MessagesInput,
        *,
        tools: Sequence[ToolLike] = (),
        schema: SchemaLike[T] | None = None,
        stream: bool = False,
        **options: Unpack[ChatOptions],
    ) -> Completion[T] | AsyncStream[T]:
        """Answer a conversation, as ``Client.chat`` does.

        Returns the whole answer, or with ``stream=True`` a stream to be read with ``async for``.
        """
        request = validation.chat_request(messages, tools, options, schema)
        events = await self._session.astream(request, "chat", validation.read_difficulty(options))
        return events if stream else await _whole(events)

    async def run_tools(
        self,
        messages: MessagesInput,
        *,
        tools: Sequence[Callable[..., object]],
        max_steps: int = 10,
        **options: Unpack[SamplingOptions],
    ) -> Completion:
        """Answer a conversation, calling these functions as often as the model asks for it; see ``Client.run_tools``.

        Functions run in threads, one at a time; results that can be awaited are awaited in the event loop.
        """
        run = ToolRun(validation.as_messages(messages), tools, max_steps, wait=True)
        while calls := run.add_answer(answer := await self.chat(run.messages, tools=run.tools, **options)):
            for call in calls:
                try:
                    result = await asyncio.to_thread(run.bind(call))
                    if inspect.isawaitable(result):
                        result = await result
                except Exception as error:  # noqa: BLE001 - whatever a tool raises is for the model to know
                    result = error
                run.add_result(call, result)
        return answer

    @overload
    async def generate(
        self, prompt: str, *, stream: Literal[False] = False, **arguments: Unpack[GenerateArguments[T]]
    ) -> Completion[T]: ...
    @overload
    async def generate(
        self, prompt: str, *, stream: Literal[True], **arguments: Unpack[GenerateArguments[T]]
    ) -> AsyncStream[T]: ...
    async def generate(
        self,
        prompt: str,
        *,
        schema: SchemaLike[T] | None = None,
        stream: bool = False,
        **options: Unpack[GenerateOptions],
    ) -> Completion[T] | AsyncStream[T]:
        """Continue raw text, without a chat template. Results, options and errors are as for ``chat``; no tools."""
        request = validation.generate_request(prompt, options, schema)
        events = await self._session.astream(request, "generate", validation.read_difficulty(options))
        return events if stream else await _whole(events)

    async def embed(
        self, inputs: str | Sequence[str], *, pooling: Pooling = "mean", normalize: bool = True
    ) -> Embeddings:
        """Embed texts: one vector for each, in their order; see ``Client.embed``."""
        request = validation.embed_request(inputs, pooling, normalize=normalize)
        return await run_in_thread(self._session.embed, request)

    async def score(
        self,
        input: MessagesInput,  # noqa: A002 - the field's own word
        *,
        top: int = 0,
        window: int | None = None,
        stride: int | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """Compute the log-probability of each token of a text or a conversation; see ``Client.score``.

        ``progress`` is called in the thread that scores.
        """
        request = validation.score_request(input, top, window, stride)
        cancelled = threading.Event()

        def report(done: int, total: int | None) -> None:
            if cancelled.is_set():
                raise StreamClosedError("Nobody waits for these scores any more.")
            if progress is not None:
                progress(done, total)

        try:
            return await run_in_thread(self._session.score, request, report)
        finally:
            cancelled.set()

    async def batch(
        self,
        requests: Iterable[BatchRequest],
        *,
        concurrency: int = 8,
        path: str | Path | None = None,
        progress: Progress | None = None,
    ) -> list[BatchItem]:
        """Answer many requests, ``concurrency`` at a time; see ``Client.batch``.

        Cancelling ends the requests under way; finished ones are in the file.
        """
        from llama4sdk.batch.run import BatchRun, run_in_tasks

        session = self._session

        async def start(job: Job) -> AsyncStream[Any]:
            return await session.astream(job.request, job.feature, job.difficulty, job.model)

        run = await run_in_thread(
            lambda: BatchRun(requests, concurrency=concurrency, model=session.model, path=path, progress=progress)
        )
        try:
            await run_in_thread(session.preload, run.models)
            await run_in_tasks(run, start)
        finally:
            await run_in_thread(run.close)
        return run.items()

    async def count_tokens(
        self,
        input: MessagesInput,  # noqa: A002 - the field's own word
        *,
        tools: Sequence[ToolLike] = (),
    ) -> int:
        """Count the tokens of a chat prompt; see ``Client.count_tokens``."""
        return await run_in_thread(self._session.count_tokens, validation.chat_request(input, tools, {}))

    async def plan(self, model: str | None = None) -> Plan:
        """Return the plan, with the reasons; see ``Client.plan``. Loads nothing."""
        return await run_in_thread(self._session.plan, model)

    async def memory(self) -> Memory:
        """Return the peak memory measured so far and the memory planned, in bytes on each device. Loads the model."""
        return await run_in_thread(self._session.memory)

    async def load(self, *, progress: Progress | None = None) -> Self:
        """Load the model now rather than at the first request. Returns the client; see ``Client.load``.

        ``progress`` is called in the thread that loads, not in the event loop's.
        """
        await run_in_thread(self._session.engine, progress)
        return self

    async def close(self) -> None:
        """End open streams and free the model. Closing again does nothing; other calls raise ClientClosedError."""
        await self._session.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


async def _whole(events: AsyncStream[T]) -> Completion[T]:
    async with events:
        return await events.completion()
