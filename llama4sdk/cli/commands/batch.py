"""``llama4sdk batch``."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from llama4sdk._text import dollars
from llama4sdk.cli.console import note, note_if_interrupted, print_json, show
from llama4sdk.cli.inputs import read_text
from llama4sdk.cli.options import JsonFlag, Target, YesFlag
from llama4sdk.cli.views.progress_bars import count_bar
from llama4sdk.cli.views.responsive_table import ResponsiveTable, key_value_table
from llama4sdk.errors import InvalidRequestError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from llama4sdk.batch.items import BatchItem, BatchRequest

#: Failures that are printed one by one.
MAX_FAILURES_SHOWN: Final = 5


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
    from llama4sdk.cli.clients import load_model, open_client

    batch_requests = _read(requests)
    models = {job.model for job in as_jobs(batch_requests)}  # raises for a bad request before anything is loaded
    with open_client(target, yes=yes, max_cost=max_cost) as client:
        if target.model is not None or models <= {None}:
            load_model(client, target)
        resume = note_if_interrupted(f"What is done is in {answers}; the same command goes on from there.")
        with count_bar("Asking", len(batch_requests)) as progress, resume:
            items = client.batch(batch_requests, concurrency=concurrency, path=answers, progress=progress)
    failed = [item for item in items if item.error is not None]
    if json:
        print_json(_summary(items) | {"path": str(answers), "failures": [_failure(item) for item in failed]})
    else:
        _note_failures(failed)
        show(_table(_summary(items), answers))
    if failed:
        raise typer.Exit(1)


def _read(path: Path) -> list[BatchRequest]:
    """Read the requests of a file, one a line. Raises InvalidRequestError for a line that is no JSON."""
    requests: list[BatchRequest] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                requests.append(jsonlib.loads(line))
            except (ValueError, RecursionError) as error:
                raise InvalidRequestError(
                    f"Line {number} of {path} is no JSON: {error}.",
                    hint='Write one request a line, a plain text in quotes: "Hello!", or {"messages": "Hello!"}.',
                ) from error
    return requests


def _summary(items: Sequence[BatchItem]) -> dict[str, JsonValue]:
    """Counts, and tokens and dollars of this run's answers; ``None`` where not all of them say."""
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


def _failure(item: BatchItem) -> dict[str, JsonValue]:
    assert item.error is not None  # noqa: S101 - only failures are described
    kind = type(item.error).__name__
    return {"index": item.index, "id": item.id, "type": kind, "message": item.error.message, "hint": item.error.hint}


def _note_failures(failed: Sequence[BatchItem]) -> None:
    for item in failed[:MAX_FAILURES_SHOWN]:
        name = f" ({item.id})" if item.id else ""
        note(f"Request {item.index}{name} failed: {item.error}")
    if len(failed) > MAX_FAILURES_SHOWN:
        note(f"So did {len(failed) - MAX_FAILURES_SHOWN} more; the file says why.")


def _table(summary: Mapping[str, JsonValue], answers: Path) -> ResponsiveTable:
    before = f", {summary['resumed']} of them before" if summary["resumed"] else ""
    read, written = ("?" if n is None else f"{n:,}" for n in (summary["input_tokens"], summary["output_tokens"]))
    cost = summary["cost"]
    return key_value_table(
        [
            ("answered", f"{summary['answered']} of {summary['requests']}{before}"),
            ("failed", Text(str(summary["failed"]), style="red" if summary["failed"] else "")),
            ("tokens", f"{read} read, {written} written"),
            ("cost", dollars(cost) if isinstance(cost, (int, float)) else "not known, or not priced"),
            ("answers", str(answers)),
        ]
    )
