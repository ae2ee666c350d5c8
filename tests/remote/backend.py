"""The small dialect as a backend, so that a whole client can be held to the faults too."""

from __future__ import annotations

from typing import ClassVar

from llama4sdk.backend import Backend, BackendInfo, Capabilities, Engine, Need, Offer, Unavailable
from llama4sdk.endpoint import Endpoint
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Placement, Plan
from llama4sdk.progress import Progress
from llama4sdk.registry import Registered, Registry
from llama4sdk.remote.engine import RemoteEngine
from tests.remote.small import SmallDialect

__all__ = ["registry"]


class SmallBackend(Backend):
    """Takes any model, at the address it is given."""

    name: ClassVar[str] = "small"

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        if need.endpoint is None:
            return Unavailable(reason="there is no address", fix="Client(endpoint=...)")
        return Offer(
            model=need.model or "scout",
            placement=Placement(kind="remote", devices=("small",)),
            context_length=8192,
            reason="it was named",
        )

    def load(self, plan: Plan, *, progress: Progress | None = None) -> Engine:
        raise AssertionError("connect is asked")

    def connect(self, plan: Plan, need: Need, *, progress: Progress | None = None) -> Engine:
        endpoint = need.endpoint or Endpoint()
        return RemoteEngine(
            model=plan.model,
            context_length=8192,
            dialect=SmallDialect(endpoint),
            endpoint=endpoint,
            cost=lambda usage: 0.5,
        )


def registry() -> Registry:
    """With this backend alone."""
    info = BackendInfo(
        name="small",
        summary="Speaks the tests' own dialect.",
        cls=f"{__name__}:SmallBackend",
        models=("scout",),
        capabilities=Capabilities(remote=True, features=frozenset({"generate", "chat", "astream"})),
    )
    return Registry([Registered(info=info, plugin="small", distribution="tests", version="0")])
