"""``llama4sdk batch``."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from llama4sdk.cli.answers import YesFlag
from llama4sdk.cli.console import note, print_json, show
from llama4sdk.cli.inputs import read_text
from llama4sdk.cli.options import JsonFlag, Target
from llama4sdk.cli.views.progress_bars import count_bar

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.table import Table

    from llama4sdk.batch.items import BatchItem, BatchRequest

__all__ = ["batch"]

SHOWN: Final = 5
"""Failures that are told one by one."""


def batch(
    requests: Annotated[
        Path,
        typer.Argument(
            metavar="IN.jsonl", help="One request a line: a text, {'messages': …}, or OpenAI's form. '-' is stdin."
        ),
    ],
    answers: Annotated[
        Path, typer.Argument(metavar="OUT.jsonl", help="Where each outcome is kept. Run it again to go on from there.")
    ],
    *,
    concurrency: Annotated[int, typer.Option("--concurrency", "-j", help="Requests at once.", min=1)] = 8,
    max_cost: Annotated[float | None, typer.Option(help="Spend no more US dollars than this.")] = None,
    yes: YesFlag = False,
    json: JsonFlag = False,
    target: Target,
) -> None:
    """Ask many requests from a file, and keep each answer in another.

    Ends with 1 when some failed. The same command asks those again, and none that was answered.
    """
    from llama4sdk.batch.items import as_jobs
    from llama4sdk.cli.clients import load, opened

    wanted = _read(requests)
    named = {job.model for job in as_jobs(wanted)}  # what means nothing is refused before anything is fetched or loaded
    with opened(target, yes=yes, max_cost=max_cost) as client:
        if target.model is not None or named <= {None}:
            load(client, target)
        with count_bar("Asking", len(wanted)) as progress, _kept(answers):
            items = client.batch(wanted, concurrency=concurrency, path=answers, progress=progress)
    failed = [item for item in items if item.error is not None]
    if json:
        print_json(_summary(items) | {"path": str(answers), "failures": [_described(item) for item in failed]})
    else:
        _tell(failed)
        show(_table(items, answers))
    if failed:
        raise typer.Exit(1)


def _read(path: Path) -> list[BatchRequest]:
    """The requests of a file, blank lines left out. Raises InvalidRequestError for a line that is no JSON."""
    from llama4sdk.errors import InvalidRequestError

    found: list[BatchRequest] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                found.append(jsonlib.loads(line))
            except (ValueError, RecursionError) as error:
                raise InvalidRequestError(
                    f"Line {number} of {path} is no JSON: {error}.",
                    hint='Write one request a line, a plain text in quotes: "Hello!", or {"messages": "Hello!"}.',
                ) from error
    return found


@contextmanager
def _kept(answers: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        note(f"What is done is in {answers}; the same command goes on from there.")
        raise


def _summary(items: Sequence[BatchItem]) -> dict[str, JsonValue]:
    """Tokens and dollars are those of this run's answers; ``None`` for what not all of them tell."""
    answered = [item.completion for item in items if item.completion is not None]
    new = [item.completion for item in items if item.completion is not None and not item.resumed]

    def total(field: str) -> JsonValue:
        values = [getattr(answer.usage, field) for answer in new]
        return None if None in values else sum(values)

    return {
        "requests": len(items),
        "answered": len(answered),
        "resumed": len(answered) - len(new),
        "failed": len(items) - len(answered),
        "input_tokens": total("input_tokens"),
        "output_tokens": total("output_tokens"),
        "cost": total("cost"),
    }


def _described(item: BatchItem) -> dict[str, JsonValue]:
    assert item.error is not None  # noqa: S101 - only failures are described
    kind = type(item.error).__name__
    return {"index": item.index, "id": item.id, "type": kind, "message": item.error.message, "hint": item.error.hint}


def _tell(failed: Sequence[BatchItem]) -> None:
    for item in failed[:SHOWN]:
        name = f" ({item.id})" if item.id else ""
        note(f"Request {item.index}{name} failed: {item.error}")
    if len(failed) > SHOWN:
        note(f"So did {len(failed) - SHOWN} more; the file says why.")


def _table(items: Sequence[BatchItem], answers: Path) -> Table:
    from rich.table import Table

    from llama4sdk._text import dollars

    found = _summary(items)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    before = f", {found['resumed']} of them before" if found["resumed"] else ""
    table.add_row("answered", f"{found['answered']} of {found['requests']}{before}")
    table.add_row("failed", str(found["failed"]), style="red" if found["failed"] else None)
    tokens = [found["input_tokens"], found["output_tokens"]]
    table.add_row("tokens", "{} read, {} written".format(*("?" if n is None else f"{n:,}" for n in tokens)))
    cost = found["cost"]
    table.add_row("cost", dollars(cost) if isinstance(cost, (int, float)) else "not known, or not priced")
    table.add_row("answers", str(answers))
    return table
