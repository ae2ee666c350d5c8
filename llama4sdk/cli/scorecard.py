"""``llama4sdk plan --scorecard``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llama4sdk.cli.console import print_json, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from llama4sdk.planning.scorecard import Metric, Score

__all__ = ["scorecard"]


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


def scorecard(*, json: bool) -> None:
    """Every published figure beside what the planner predicts."""
    from llama4sdk.cli.clients import waiting
    from llama4sdk.planning.scorecard import score

    with waiting("Predicting …"):
        scores = score()
    if json:
        print_json([{**entry.model_dump(mode="json"), "hit": entry.hit} for entry in scores])
    else:
        show(*_pieces(scores))


def _pieces(scores: Sequence[Score]) -> Iterator[RenderableType]:
    from rich.text import Text

    for metric in dict.fromkeys(entry.row.metric for entry in scores):
        rows = [entry for entry in scores if entry.row.metric == metric]
        yield Text(TITLES[metric], style="bold")
        yield _table(rows)
        yield ""
    yield _summary(scores)


def _summary(scores: Sequence[Score]) -> Text:
    from rich.text import Text

    hits = sum(entry.hit is True for entry in scores)
    misses = sum(entry.hit is False for entry in scores)
    silent = sum(entry.hit is None for entry in scores)
    return Text(
        f"{hits} of {len(scores)} published figures are met as nearly as each asks, {misses} are missed, "
        f"{silent} are not predicted.",
        style="bold",
    )


def _table(rows: Sequence[Score]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from llama4sdk.cli.marks import mark

    table = Table(box=None, show_header=True, pad_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("what", overflow="fold")
    table.add_column("published", justify="right", no_wrap=True)
    table.add_column("predicted", justify="right", overflow="fold")
    table.add_column("source", no_wrap=True, overflow="ellipsis", style="dim", max_width=24)
    for entry in rows:
        verdict = mark("info" if entry.hit is None else "ok" if entry.hit else "fail")
        table.add_row(verdict, _what(entry), _number(entry, entry.row.value), Text(_predicted(entry)), entry.row.source)
    return table


def _what(entry: Score) -> str:
    row = entry.row
    on = f"on {row.devices}x {row.device}" if row.devices > 1 else f"on {row.device}" if row.device else ""
    sizes = f"{row.prompt} in, {row.answer} out" if row.answer else f"{row.context} tokens" if row.context else ""
    parts = (row.model, row.weights, row.engine, row.version, on, sizes)
    return " ".join(part for part in parts if part)


def _predicted(entry: Score) -> str:
    if entry.predicted is None:
        return entry.reason
    if entry.low is None or entry.high is None:
        return (
            f"{_number(entry, entry.predicted)}; the claim {entry.reason}"
            if entry.reason
            else _number(entry, entry.predicted)
        )
    low, high = (_number(entry, end).removesuffix(" tok/s") for end in (entry.low, entry.high))
    return f"{low} to {high} tok/s"


def _number(entry: Score, value: float) -> str:
    from llama4sdk.text import gb

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
