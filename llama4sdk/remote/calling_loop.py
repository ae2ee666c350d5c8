"""The event loop that waits for a synchronous call: the one in which a user's ``httpx.AsyncClient`` may be used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_CALLING_LOOP: Final[ContextVar[asyncio.AbstractEventLoop | None]] = ContextVar("calling_loop", default=None)


def calling_loop() -> asyncio.AbstractEventLoop | None:
    """The running event loop that waits for this thread, by ``run_in_thread``; ``None`` where there is none."""
    return _CALLING_LOOP.get()


async def run_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a thread, as ``asyncio.to_thread`` does; it can learn which event loop waits for it."""
    token = _CALLING_LOOP.set(asyncio.get_running_loop())
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    finally:
        _CALLING_LOOP.reset(token)
