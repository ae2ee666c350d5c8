"""``llama4sdk eval perplexity``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama4sdk.cli.answers import YesFlag
from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.inputs import read_text
from llama4sdk.cli.options import JsonFlag, Target
from llama4sdk.cli.views.progress_bars import count_bar

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.table import Table

    from llama4sdk import Client

__all__ = ["perplexity"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One model on one text. ``seconds`` are those of scoring, loading not counted."""

    model: str
    backend: str
    quantization: str | None
    weight_bytes: int | None
    tokens: int
    perplexity: float
    standard_error: float
    bits_per_byte: float
    seconds: float
    tokens_per_second: float


def perplexity(
    file: Annotated[Path, typer.Argument(help="A text file in UTF-8; '-' is stdin.")],
    *,
    window: Annotated[int, typer.Option(help="Tokens that are read together.")] = 512,
    stride: Annotated[int, typer.Option(help="Tokens of each further window that are scored.")] = 256,
    compare: Annotated[
        str | None, typer.Option(help="Quantizations to compare, the first with all: bf16,int8,int4.")
    ] = None,
    yes: YesFlag = False,
    json: JsonFlag = False,
    target: Target,
) -> None:
    """Score a text, and show the perplexity: how well the model foretells it. Lower is better."""
    from llama4sdk.session.validation import score_request

    text = read_text(file)
    score_request(text, 0, window, stride)  # refused before anything is fetched or loaded
    targets = _targets(replace(target, context_length=target.context_length or window), compare)
    found = _measured(targets, text, window, stride, yes=yes)
    if json:
        about: dict[str, JsonValue] = {
            "file": str(file),
            "bytes": len(text.encode()),
            "window": window,
            "stride": stride,
        }
        print_json(about | {"measurements": [asdict(one) for one in found]})
    else:
        show(_table(found) if compare else _one(found[0]))


def _targets(target: Target, compare: str | None) -> list[Target]:
    """One for each quantization to compare. Raises ConfigurationError for one that is none."""
    from llama4sdk.errors import ConfigurationError
    from llama4sdk.quantization import QuantizationConfig

    if target.fallback:
        raise ConfigurationError("A score is that of one model, at one place.", hint="Leave --fallback out.")
    if compare is None:
        return [target]
    if target.quantization is not None:
        raise ConfigurationError(
            "--quantization and --compare do not go together.", hint="Name the quantization among those to compare."
        )
    names = [name.strip() for name in compare.split(",")]
    return [replace(target, quantization=str(QuantizationConfig.of(name))) for name in names]


def _measured(targets: Sequence[Target], text: str, window: int, stride: int, *, yes: bool) -> list[Measurement]:
    from llama4sdk.cli.clients import client_for, opened

    found = []
    for target in targets[1:]:
        with client_for(target) as client:
            client.plan()  # what cannot be had is told before the first is measured
    for number, target in enumerate(targets):
        with opened(target, yes=yes, notices=number == 0) as client:
            found.append(_measure(client, target, text, window, stride))
    return found


def _measure(client: Client, target: Target, text: str, window: int, stride: int) -> Measurement:
    import math
    import time

    from llama4sdk.cli.clients import load
    from llama4sdk.errors import InvalidRequestError

    load(client, target)
    plan = client.plan()
    name = None if plan.quantization is None else str(plan.quantization)
    begin = time.perf_counter()
    with count_bar(f"Scoring with {name or plan.model}") as progress:
        scores = client.score(text, window=window, stride=stride, progress=progress)
    seconds = time.perf_counter() - begin
    if not scores.scored:
        raise InvalidRequestError("The text is a single token, which nothing comes before.", hint="Give a longer text.")
    return Measurement(
        model=plan.model,
        backend=plan.backend,
        quantization=name,
        weight_bytes=plan.weight_bytes,
        tokens=scores.scored,
        perplexity=scores.perplexity,
        standard_error=scores.standard_error,
        bits_per_byte=-scores.log_likelihood / math.log(2) / len(text.encode()),
        seconds=seconds,
        tokens_per_second=scores.scored / seconds,
    )


def _one(found: Measurement) -> Table:
    from rich.table import Table

    from llama4sdk._text import gb

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("perplexity", f"{found.perplexity:.3f} ± {found.standard_error:.3f}")
    table.add_row("bits per byte", f"{found.bits_per_byte:.4f}")
    table.add_row("tokens scored", f"{found.tokens}")
    table.add_row("speed", f"{found.tokens_per_second:.0f} tokens/s ({found.seconds:.1f} s)")
    held = ", ".join(filter(None, [found.quantization, gb(found.weight_bytes) if found.weight_bytes else None]))
    table.add_row("model", f"{found.model} on {found.backend}" + (f", {held}" if held else ""))
    return table


def _table(found: Sequence[Measurement]) -> Table:
    from rich import box
    from rich.table import Table

    from llama4sdk._text import gb

    caption = f"{found[0].tokens} tokens scored by {found[0].model} on {found[0].backend}."
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption)
    table.add_column("Quantization", style="bold", no_wrap=True)
    for header in ("Perplexity", "Ratio", "Bits per byte", "Weights", "Seconds"):
        table.add_column(header, justify="right", no_wrap=True)
    for one in found:
        table.add_row(
            one.quantization or "—",
            f"{one.perplexity:.3f} ± {one.standard_error:.3f}",
            f"{one.perplexity / found[0].perplexity:.4f}",
            f"{one.bits_per_byte:.4f}",
            gb(one.weight_bytes) if one.weight_bytes else "—",
            f"{one.seconds:.1f}",
        )
    return table
