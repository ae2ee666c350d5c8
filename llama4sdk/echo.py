"""The built-in backend, which repeats the last message. For documentation, tests and the doctor's self-check."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar, Final

from llama4sdk.backend import Backend, BackendInfo, Capabilities, Engine, Need, Offer, Unavailable
from llama4sdk.errors import StreamClosedError
from llama4sdk.events import Event, Finish, TextDelta, Usage
from llama4sdk.hardware import Hardware
from llama4sdk.hookspecs import hookimpl
from llama4sdk.local.windows import room_for_answer
from llama4sdk.plan import Placement, Plan
from llama4sdk.progress import Progress
from llama4sdk.requests import Request

__all__ = ["EchoBackend", "EchoEngine", "llama4sdk_backends"]

MODEL: Final = "echo"
CONTEXT_LENGTH: Final = 4096


@hookimpl
def llama4sdk_backends() -> list[BackendInfo]:
    """Declare the echo backend."""
    return [
        BackendInfo(
            name="echo",
            summary="Repeats the last message; needs nothing.",
            cls="llama4sdk.echo:EchoBackend",
            models=(MODEL,),
            capabilities=Capabilities(
                features=frozenset({"generate", "chat", "count_tokens", "astream"}),
                sampling=frozenset({"max_tokens", "temperature", "seed"}),
            ),
        )
    ]


class EchoBackend(Backend):
    """Offers the model ``echo`` on any machine."""

    name: ClassVar[str] = "echo"

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """Offer ``echo`` where it is named or no model is."""
        if need.model not in (None, MODEL):
            return Unavailable(reason=f"it only repeats; it has no model '{need.model}'.", fix="Choose model 'echo'.")
        if need.device not in (None, "cpu"):
            return Unavailable(reason=f"it runs on the CPU, not on '{need.device}'.", fix="Choose device 'cpu'.")
        if need.quantization is not None:
            return Unavailable(reason=f"it has no weights to hold as {need.quantization}.")
        context = need.context_length or CONTEXT_LENGTH
        if context > CONTEXT_LENGTH:
            return Unavailable(reason=f"its context is {CONTEXT_LENGTH} words, {context} were asked.")
        where = Placement(kind="local", devices=("cpu",))
        return Offer(model=MODEL, placement=where, context_length=context, reason="it needs no memory to speak of")

    def load(self, plan: Plan, *, progress: Progress | None = None) -> EchoEngine:
        """Make an engine. Nothing is loaded, so ``progress`` is not called."""
        return EchoEngine(plan.context_length)


class EchoEngine(Engine):
    """Repeats the last message; a word with the space before it is one token."""

    def __init__(self, context_length: int) -> None:
        self.model = MODEL
        self.context_length = context_length
        self._closed = False

    def stream(self, request: Request) -> Iterator[Event]:
        """Stream the words of the last message or the prompt, one delta each."""
        words = _split(request.prompt if request.prompt is not None else request.messages[-1].text)
        read = self.count_tokens(request)
        limit = room_for_answer(read, request.sampling.max_tokens, self.context_length)
        for word in words[:limit]:
            if self._closed:
                raise StreamClosedError("The echo engine was closed while it was answering.")
            yield TextDelta(text=word)
        written = min(limit, len(words))
        usage = Usage(input_tokens=read, output_tokens=written)
        yield Finish(reason="stop" if written == len(words) else "length", usage=usage)

    async def astream(self, request: Request) -> AsyncIterator[Event]:
        """Stream the same events asynchronously."""
        for event in self.stream(request):
            yield event

    def count_tokens(self, request: Request) -> int:
        """Count the words of all messages, or of the prompt."""
        if request.prompt is not None:
            return len(_split(request.prompt))
        return sum(len(_split(message.text)) for message in request.messages)

    def close(self) -> None:
        """End open streams with StreamClosedError."""
        self._closed = True


def _split(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)
