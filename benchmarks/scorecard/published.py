"""Published figures of Llama 4: one row each, with source, date and tolerance."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from llama4sdk._values import Value

__all__ = ["Metric", "Published", "published"]

Metric: TypeAlias = Literal[
    "parameters",
    "active_parameters",
    "weights",
    "kv_cache",
    "decode_speed",
    "prefill_speed",
    "served_speed",
    "fits",
    "max_context",
    "kv_pool",
    "kv_capacity",
    "concurrency",
    "compute_buffer",
    "load_time",
    "disk",
]


class Published(Value):
    """One row. Sizes are in bytes, speeds in tokens per second; empty fields do not matter to the metric.

    ``fits`` is 1 or 0. A ``claim`` other than empty is one that does not hold: to meet it is to disagree. Where the
    ``tolerance`` is ``at least``, somebody runs it so, and may not have needed to stop there.
    """

    id: str
    model: str
    metric: Metric
    value: float
    tolerance: str
    weights: str
    file_gb: float | None
    engine: str
    version: str
    device: str
    devices: int
    cpu_gbs: float | None
    cpu_tflops: float | None
    prompt: int | None
    answer: int | None
    concurrency: int | None
    context: int | None
    kv_bytes: float
    #: A ``KVPolicy``, where flags choose another than the engine's usual one.
    kv: str
    ram_gb: float | None
    #: Tokens of a prompt that are computed together.
    block: int | None
    #: Why it does not hold.
    claim: str
    note: str
    source: str
    date: str


@cache
def published() -> tuple[Published, ...]:
    """All rows."""
    with (Path(__file__).parent / "published.csv").open(encoding="utf-8") as file:
        return tuple(Published.model_validate(_filled(row)) for row in csv.DictReader(file))


def _filled(row: dict[str, str]) -> dict[str, object]:
    numbers = ("file_gb", "cpu_gbs", "cpu_tflops", "prompt", "answer", "concurrency", "context", "ram_gb", "block")
    fields: dict[str, object] = {key: value for key, value in row.items() if key not in numbers or value}
    for key in numbers:
        fields.setdefault(key, None)
    return fields | {"devices": row["devices"] or 1, "kv_bytes": row["kv_bytes"] or 2}
