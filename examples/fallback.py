"""Ask elsewhere when the first place is full; a local one here, so that the example needs no key."""

from collections.abc import Iterator

from llama4sdk import Client, Event, Plan, Policy
from llama4sdk.backend import BackendInfo
from llama4sdk.echo import EchoBackend, EchoEngine
from llama4sdk.errors import OverloadedError
from llama4sdk.progress import Progress
from llama4sdk.registry import Registered, Registry
from llama4sdk.requests import Request


class Full(EchoBackend):
    """Has no capacity, whenever it is asked."""

    name = "full"

    def load(self, plan: Plan, *, progress: Progress | None = None) -> EchoEngine:
        return FullEngine(plan.context_length)


class FullEngine(EchoEngine):
    """Says so."""

    def stream(self, request: Request) -> Iterator[Event]:
        raise OverloadedError("There is no capacity.", backend="full", retry_after=30)


full = BackendInfo(name="full", summary="Is full.", cls=f"{__name__}:Full", models=("echo",))
installed = [Registered(info=full, plugin="full", distribution="example", version="1")]
registry = Registry([*Registry.discover().backends, *installed])

with Client("echo", backend="full", policy=Policy(fallback=("echo",)), registry=registry) as client:
    answer = client.chat("Hello, llama!")
    print(answer, "from", answer.backend)
    for attempt in answer.attempts:
        print(attempt.backend, "->", attempt.error or "answered")
