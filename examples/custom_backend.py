"""A backend in a few lines, used without packaging it; see docs/writing-a-backend.md for a real one."""

from collections.abc import Iterator

from llama4sdk import Client, Event, Finish, Hardware, Plan, TextDelta
from llama4sdk.backend import Backend, BackendInfo, Engine, Need, Offer
from llama4sdk.plan import Placement
from llama4sdk.progress import Progress
from llama4sdk.registry import Registered, Registry
from llama4sdk.requests import Request


class Shout(Backend, Engine):
    """Backend and engine in one: answers in capitals."""

    name = model = "shout"
    context_length = 1000

    def offer(self, need: Need, hardware: Hardware) -> Offer:
        where = Placement(kind="local", devices=("cpu",))
        return Offer(model="shout", placement=where, context_length=1000, reason="it is tiny")

    def load(self, plan: Plan, *, progress: Progress | None = None) -> Engine:
        return self

    def stream(self, request: Request) -> Iterator[Event]:
        yield TextDelta(text=request.messages[-1].text.upper())
        yield Finish(reason="stop")


info = BackendInfo(name="shout", summary="Answers in capitals.", cls=f"{__name__}:Shout", models=("shout",))
registry = Registry([Registered(info=info, plugin="shout", distribution="example", version="1")])

with Client("shout", registry=registry) as client:
    print(client.chat("Hello, llama!"))
