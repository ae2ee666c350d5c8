"""A client for a command: its weights fetched with consent, its notices on stderr."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from llama4sdk import Client, weights
from llama4sdk.capabilities import Feature
from llama4sdk.cli.console import ask_key, note
from llama4sdk.cli.fetching import fetch
from llama4sdk.cli.options import Target
from llama4sdk.cli.views.progress_bars import loading_bar
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan
from llama4sdk.planning.policy import Policy
from llama4sdk.registry import Registry


def create_client(
    target: Target,
    *,
    registry: Registry | None = None,
    hardware: Hardware | None = None,
    batch: int = 1,
    max_cost: float | None = None,
) -> Client:
    """The client that the options describe. Nothing is probed or planned yet."""
    return Client(
        target.model,
        registry=registry,
        backend=target.backend,
        device=target.device,
        quantization=target.quantization,
        context_length=target.context_length,
        batch=batch,
        needs=cast("list[Feature]", target.need or []),  # the client checks names
        languages=target.language or [],
        endpoint=target.endpoint,
        api_key=ask_key() if target.ask_key else None,
        policy=Policy(allow_remote=target.remote, prefer=target.policy, fallback=target.fallbacks, max_cost=max_cost),
        hardware=hardware,
    )


@contextmanager
def open_client(target: Target, *, yes: bool, notices: bool = True, max_cost: float | None = None) -> Iterator[Client]:
    """A client whose weights are on this machine, after asking for a download where one is needed; closed at the end.

    ``notices``: print the SDK's warnings; a second client for the same model would only repeat them.
    """
    client = create_client(target, max_cost=max_cost)
    plan = None if target.fallback else client.plan()
    if plan is not None and weights.needs_pull(plan):
        fetch(plan.model, yes=yes)
        client.close()
        client = create_client(target, max_cost=max_cost)  # plans anew, now that the weights are here
    with _warnings_on_stderr(shown=notices), client:
        yield client


def load_model(client: Client, target: Target, check: Callable[[Plan], None] = lambda plan: None) -> None:
    """Check the plan, then load the model, with a bar on the terminal when that takes more than a moment.

    With fallbacks nothing is done beforehand: each backend is planned for when it is asked.
    """
    if target.fallback:
        return
    plan = client.plan()
    check(plan)
    with loading_bar(plan.model) as progress:
        client.load(progress=progress)


@contextmanager
def _warnings_on_stderr(*, shown: bool) -> Iterator[None]:
    """Print each warning that the SDK logs (such as which model this really is) as one line on stderr."""
    logger, handler = logging.getLogger("llama4sdk"), _NoteHandler(logging.WARNING) if shown else logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _NoteHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())
