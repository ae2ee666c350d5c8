"""Asking the same engine twice on one connection."""

from __future__ import annotations

import asyncio

from llama4sdk.errors import Llama4Error
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk.requests import Request
from tests.remote.conftest import Asked

__all__ = ["twice"]

REQUEST = Request(prompt="Hi")


def twice(engine: RemoteEngine, way: str) -> tuple[Asked, Asked]:
    """Outcomes of both requests; the engine is closed afterwards."""
    if way == "async":
        return asyncio.run(_twice(engine))
    both = Asked(), Asked()
    for asked in both:
        try:
            asked.events.extend(engine.stream(REQUEST))
        except Llama4Error as error:
            asked.error = error
    engine.close()
    return both


async def _twice(engine: RemoteEngine) -> tuple[Asked, Asked]:
    both = Asked(), Asked()
    for asked in both:
        try:
            asked.events.extend([event async for event in engine.astream(REQUEST)])
        except Llama4Error as error:
            asked.error = error
        await asyncio.sleep(0.02)  # for what the server does to the idle connection
    await engine.aclose()
    return both
