"""Published figures of Llama 4 beside what the SDK predicts: ``python -m benchmarks.scorecard [--json]``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import ascii_letters
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.scorecard.scorecard import Metric, Score, score
from llama4sdk._text import gb
from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.views.status_marks import status_mark

__all__ = ["main"]

TITLES: Final[dict[Metric, str]] = {
    "parameters": "Parameters",
    "active_parameters": "Parameters read for each token",
    "weights": "Weights",
    "kv_cache": "Key-value cache",
    "decode_speed": "Decoding, one answer",
    "prefill_speed": "Prefill",
    "served_speed": "Serving, all answers together",
    "fits": "Whether it fits",
    "max_context": "Longest context",
    "kv_pool": "Memory left for the cache, on each device",
    "kv_capacity": "Tokens the cache is said to hold",
    "concurrency": "Requests of this length at once",
    "compute_buffer": "Buffer of a block of a prompt",
    "load_time": "Loading",
    "disk": "Disk",
}

LETTERS: Final = (*ascii_letters, *(f"a{letter}" for letter in ascii_letters))


def main(arguments: Sequence[str] | None = None) -> None:
    """Show every published figure with its prediction and whether they agree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scorecard", description=__doc__)
    parser.add_argument("--json", action="store_true", help="Print an array of objects, one for each figure.")
    options = parser.parse_args(arguments)
    scores = score()
    if options.json:
        print_json([{**entry.model_dump(mode="json"), "hit": entry.hit} for entry in scores])
    else:
        show(*_pieces(scores))


def _pieces(scores: Sequence[Score]) -> Iterator[RenderableType]:
    sources = _numbered(entry.row.source for entry in scores)
    for metric in dict.fromkeys(entry.row.metric for entry in scores):
        rows = [entry for entry in scores if entry.row.metric == metric]
        notes = _numbered(entry.reason for entry in rows if entry.reason)
        yield Text(TITLES[metric], style="bold")
        yield _table(rows, notes, sources)
        yield from (Text(f"   {LETTERS[number - 1]} {note}", style="dim") for note, number in notes.items())
        yield ""
    yield Text("Sources", style="bold")
    yield from (
        Text(f"{number:4} {source}", style="dim", no_wrap=True, overflow="ignore") for source, number in sources.items()
    )
    yield ""
    yield _summary(scores)


def _numbered(texts: Iterable[str]) -> dict[str, int]:
    """Each once, in order, from 1."""
    return {text: number for number, text in enumerate(dict.fromkeys(texts), start=1)}


def _summary(scores: Sequence[Score]) -> Text:
    hits = sum(entry.hit is True for entry in scores)
    misses = sum(entry.hit is False for entry in scores)
    silent = sum(entry.hit is None for entry in scores)
    return Text(
        f"{hits} of {len(scores)} published figures are met as nearly as each asks, {misses} are missed, "
        f"{silent} are not predicted.",
        style="bold",
    )


def _table(rows: Sequence[Score], notes: Mapping[str, int], sources: Mapping[str, int]) -> Table:
    """Remarks on predictions stand below the table, by letter; sources at the end, by number."""
    table = Table(box=None, show_header=True, pad_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("what", overflow="fold")
    for heading in ("published", "predicted"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("source", justify="right", no_wrap=True, style="dim")
    for entry in rows:
        verdict = status_mark("info" if entry.hit is None else "ok" if entry.hit else "fail")
        note = LETTERS[notes[entry.reason] - 1] if entry.reason else ""
        number = str(sources[entry.row.source])
        table.add_row(verdict, _what(entry), _number(entry, entry.row.value), _predicted(entry), note, number)
    return table


def _what(entry: Score) -> str:
    row = entry.row
    on = f"on {row.devices}x {row.device}" if row.devices > 1 else f"on {row.device}" if row.device else ""
    sizes = f"{row.prompt} in, {row.answer} out" if row.answer else f"{row.context} tokens" if row.context else ""
    parts = (row.model, row.weights, row.engine, row.version, on, sizes)
    return " ".join(part for part in parts if part)


def _predicted(entry: Score) -> str:
    if entry.predicted is None:
        return "—"
    if entry.low is None or entry.high is None:
        return _number(entry, entry.predicted)
    low, high = (_number(entry, end).removesuffix(" tok/s") for end in (entry.low, entry.high))
    return f"{low} to {high} tok/s"


def _number(entry: Score, value: float) -> str:
    metric = entry.row.metric
    if metric in ("weights", "kv_cache", "kv_pool", "compute_buffer", "disk"):
        return gb(int(value))
    if metric == "fits":
        return "fits" if value else "does not fit"
    if metric in ("max_context", "kv_capacity"):
        return f"{value:,.0f} tokens"
    if metric in ("concurrency", "load_time"):
        return f"{value:.2f}" if metric == "concurrency" else f"{value:.0f} s"
    if metric.endswith("parameters"):
        return f"{value / 1e9:.4f}B"
    return f"{value:,.0f} tok/s" if value >= 100 else f"{value:.1f} tok/s"
