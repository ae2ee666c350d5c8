"""The asynchronous client: the same session, reached through threads where a backend only speaks synchronously."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from pydantic import JsonValue
from typing_extensions import TypeVar

from llama4sdk.client import BaseClient
from llama4sdk.constraints import SchemaLike
from llama4sdk.errors import StreamClosedError
from llama4sdk.plan import Plan
from llama4sdk.progress import Progress
from llama4sdk.requests import ChatOptions, GenerateOptions, Pooling, SamplingOptions
from llama4sdk.results import Completion, Embeddings, Memory, Scores
from llama4sdk.session.validation import (
    MessagesInput,
    as_messages,
    chat_request,
    difficulty_of,
    embed_request,
    generate_request,
    score_request,
)
from llama4sdk.streams import AsyncStream
from llama4sdk.tools import ToolLike, ToolRun

if TYPE_CHECKING:
    from llama4sdk.batch.items import BatchItem, BatchRequest, Job

__all__ = ["AsyncClient"]

T = TypeVar("T", default=JsonValue)


class AsyncClient(BaseClient):
    """``Client`` for asyncio: every verb is awaited, and streams are read with ``async for``."""

    @overload
    async def chat(
        self,
        messages: MessagesInput,
        *,
        tools: Sequence[ToolLike] = (),
        schema: SchemaLike[T] | None = None,
        stream: Literal[False] = False,
        **options: Unpack[ChatOptions],
    ) -> Completion[T]: ...

    @overload
    async def chat(
        self,
        messages: MessagesInput,
        *,
        tools: Sequence[ToolLike] = (),
        schema: SchemaLike[T] | None = None,
        stream: Literal[True],
        **options: Unpack[ChatOptions],
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
        """Answer a conversation. A string is one user message; ``options`` are the fields of ``SamplingParams``.

        ``tools`` are ``Tool`` values, pydantic models or functions; they are described to the model, not called.
        ``tool_choice`` is "auto", "none", "required" or the name of the tool to call.

        ``schema`` is a type or a JSON schema: the answer is such JSON, and its value is ``.parsed``. Or ``regex`` or
        ``grammar`` (Lark) say what the answer's text must be. The model is not told of them; say in the prompt what
        you want.
        """
        request = chat_request(messages, tools, options, schema)
        events = await self._session.astream(request, "chat", difficulty_of(options))
        return events if stream else await _whole(events)

    async def run_tools(
        self,
        messages: MessagesInput,
        *,
        tools: Sequence[Callable[..., object]],
        max_steps: int = 10,
        **options: Unpack[SamplingOptions],
    ) -> Completion:
        """As ``Client.run_tools``. Results that can be awaited are; plain functions run in threads, one at a time."""
        run = ToolRun(as_messages(messages), tools, max_steps, wait=True)
        while calls := run.take(answer := await self.chat(run.messages, tools=run.tools, **options)):
            for call in calls:
                try:
                    result = await asyncio.to_thread(run.work(call))
                    if inspect.isawaitable(result):
                        result = await result
                except Exception as error:  # noqa: BLE001 - whatever a tool raises is for the model to know
                    result = error
                run.give(call, result)
        return answer

    @overload
    async def generate(
        self,
        prompt: str,
        *,
        schema: SchemaLike[T] | None = None,
        stream: Literal[False] = False,
        **options: Unpack[GenerateOptions],
    ) -> Completion[T]: ...

    @overload
    async def generate(
        self,
        prompt: str,
        *,
        schema: SchemaLike[T] | None = None,
        stream: Literal[True],
        **options: Unpack[GenerateOptions],
    ) -> AsyncStream[T]: ...

    async def generate(
        self,
        prompt: str,
        *,
        schema: SchemaLike[T] | None = None,
        stream: bool = False,
        **options: Unpack[GenerateOptions],
    ) -> Completion[T] | AsyncStream[T]:
        """Continue raw text, with no chat template around it. ``schema``, ``regex`` and ``grammar`` as for ``chat``."""
        request = generate_request(prompt, options, schema)
        events = await self._session.astream(request, "generate", difficulty_of(options))
        return events if stream else await _whole(events)

    async def embed(
        self, inputs: str | Sequence[str], *, pooling: Pooling = "mean", normalize: bool = True
    ) -> Embeddings:
        """One vector per input, of length 1 when ``normalize`` is on."""
        request = embed_request(inputs, pooling, normalize=normalize)
        return await asyncio.to_thread(self._session.embed, request)

    async def score(
        self,
        input: MessagesInput,  # noqa: A002 - the field's own word
        *,
        top: int = 0,
        window: int | None = None,
        stride: int | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """As ``Client.score``; ``progress`` is called in the thread that scores, and cancelling ends that work."""
        request = score_request(input, top, window, stride)
        cancelled = threading.Event()

        def report(done: int, total: int | None) -> None:
            if cancelled.is_set():
                raise StreamClosedError("Nobody waits for these scores any more.")
            if progress is not None:
                progress(done, total)

        try:
            return await asyncio.to_thread(self._session.score, request, report)
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
        """As ``Client.batch``; cancelling breaks off the requests under way, and what is done is in the file."""
        from llama4sdk.batch.run import Run, in_tasks

        session = self._session

        async def start(job: Job) -> AsyncStream[Any]:
            return await session.astream(job.request, job.feature, job.difficulty, job.model)

        run = await asyncio.to_thread(
            lambda: Run(requests, concurrency=concurrency, model=session.model, path=path, progress=progress)
        )
        try:
            await asyncio.to_thread(session.preload, run.models)
            await in_tasks(run, start)
        finally:
            await asyncio.to_thread(run.close)
        return run.items()

    async def count_tokens(
        self,
        input: MessagesInput,  # noqa: A002 - the field's own word
        *,
        tools: Sequence[ToolLike] = (),
    ) -> int:
        """Tokens a chat request with these messages would read, what describes ``tools`` included."""
        return await asyncio.to_thread(self._session.count_tokens, chat_request(input, tools, {}))

    async def plan(self, model: str | None = None) -> Plan:
        """As ``Client.plan``."""
        return await asyncio.to_thread(self._session.plan, model)

    async def memory(self) -> Memory:
        """What the model was seen to take of memory so far, beside what was planned. Loads it, when nothing has."""
        return await asyncio.to_thread(self._session.memory)

    async def load(self, *, progress: Progress | None = None) -> Self:
        """As ``Client.load``; ``progress`` is called in the thread that loads, not in the event loop's."""
        await asyncio.to_thread(self._session.engine, progress)
        return self

    async def close(self) -> None:
        """End open streams and free the model. Closing again does nothing; any other call then raises."""
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
