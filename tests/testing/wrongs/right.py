"""A backend that keeps every rule: what the wrong ones are made of."""

from __future__ import annotations

import hashlib
import json
import math
import wave  # noqa: F401 - 'heavyhook' claims to need this, so the hook must not have loaded it
from collections.abc import Iterator
from typing import Any, ClassVar

from llama4sdk.backend import BackendInfo, Capabilities
from llama4sdk.constraints import JsonSchema
from llama4sdk.echo import EchoBackend, EchoEngine
from llama4sdk.events import Event, Finish, TextDelta, TokenLogprob, TopLogprob, Usage
from llama4sdk.llama4.stop_strings import cut
from llama4sdk.local.windows import windows
from llama4sdk.plan import Plan
from llama4sdk.progress import Progress
from llama4sdk.requests import EmbedRequest, Request, ScoreRequest
from llama4sdk.results import Embeddings, Scores

DECLARED = Capabilities(
    features=frozenset({"generate", "chat", "count_tokens", "embed", "json_schema", "score"}),
    sampling=frozenset({"max_tokens", "temperature", "seed", "stop"}),
)


class RightEngine(EchoEngine):
    """Echo, with stop strings and embeddings; and JSON, the first that comes to mind."""

    def stream(self, request: Request) -> Iterator[Event]:
        if isinstance(request.constraint, JsonSchema):
            yield TextDelta(text=_example(request.constraint))
            yield Finish(reason="stop", usage=Usage(input_tokens=self.count_tokens(request), output_tokens=1))
            return
        held = ""
        for event in super().stream(request):
            if not isinstance(event, TextDelta):
                yield from [TextDelta(text=held)] if held else []
                yield event
                continue
            safe, held, stopped = cut(held + event.text, request.sampling.stop)
            yield from [TextDelta(text=safe)] if safe else []
            if stopped:
                yield Finish(reason="stop", usage=Usage(input_tokens=self.count_tokens(request), output_tokens=1))
                return

    def embed(self, request: EmbedRequest) -> Embeddings:
        vectors = tuple(_unit(text) for text in request.inputs)
        return Embeddings(vectors=vectors, model=self.model, backend="right")

    def score(self, request: ScoreRequest, *, progress: Progress | None = None) -> Scores:
        tokens = (request.prompt or "").split()
        entries: list[TokenLogprob | None] = [None]
        for window in windows(
            len(tokens), window=request.window, stride=request.stride, context_length=self.context_length
        ):
            entries += [likely(token, request.top) for token in tokens[window.first : window.end]]
        return Scores(tokens=tuple(tokens), logprobs=tuple(entries), model=self.model, backend="right")


def likely(token: str, top: int) -> TokenLogprob:
    others = [TopLogprob(token=token, logprob=-0.5), TopLogprob(token="llama", logprob=-1.5)]
    return TokenLogprob(token=token, logprob=-0.5, top=tuple(others[:top]))


def _example(schema: JsonSchema) -> str:
    properties: Any = schema.definition["properties"]
    return json.dumps({name: (kind.get("enum") or [kind.get("minimum")])[0] for name, kind in properties.items()})


def _unit(text: str) -> tuple[float, ...]:
    raw = [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()]
    return tuple(x / math.hypot(*raw) for x in raw)


class Right(EchoBackend):
    """Keeps every rule."""

    engine: ClassVar[type[EchoEngine]] = RightEngine
    capabilities: ClassVar[Capabilities] = DECLARED
    requires: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.name = cls.__name__.lower()

    name = "right"

    @classmethod
    def card(cls) -> BackendInfo:
        return BackendInfo(
            name=cls.name,
            summary="Breaks one rule, for testing.",
            cls=f"wrongs:{cls.__name__}",
            models=("echo",),
            capabilities=cls.capabilities,
            requires=cls.requires,
        )

    def load(self, plan: Plan, *, progress: Progress | None = None) -> EchoEngine:
        return self.engine(plan.context_length)
