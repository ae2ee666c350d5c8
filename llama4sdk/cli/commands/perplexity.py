"""``llama4sdk eval perplexity``."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from llama4sdk._text import gb
from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.inputs import read_text
from llama4sdk.cli.options import JsonFlag, Target, YesFlag
from llama4sdk.cli.views.progress_bars import count_bar
from llama4sdk.cli.views.responsive_table import Column, ResponsiveTable, key_value_table, number_columns
from llama4sdk.errors import ConfigurationError, InvalidRequestError

if TYPE_CHECKING:
    from llama4sdk import Client


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The score of one model on one text; ``seconds`` without loading."""

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
    """Score a text, and show the perplexity: how well the model predicts it. Lower is better."""
    from llama4sdk.session.validation import score_request

    text = read_text(file)
    score_request(text, 0, window, stride)  # refused before anything is fetched or loaded
    targets = _targets(replace(target, context_length=target.context_length or window), compare)
    measurements = _measure_all(targets, text, window, stride, yes=yes)
    if json:
        scores: list[Any] = [asdict(measurement) for measurement in measurements]
        size = len(text.encode())
        print_json({"file": str(file), "bytes": size, "window": window, "stride": stride, "measurements": scores})
    else:
        show(*(_comparison(measurements) if compare else _summary(measurements[0])))


def _targets(target: Target, compare: str | None) -> list[Target]:
    """The target in each quantization to compare. Raises ConfigurationError for one that does not exist."""
    from llama4sdk.quantization import QuantizationConfig

    if target.fallback:
        raise ConfigurationError("A score is that of one model on one backend.", hint="Leave --fallback out.")
    if compare is None:
        return [target]
    if target.quantization is not None:
        raise ConfigurationError(
            "--quantization and --compare do not go together.", hint="Name the quantization among those to compare."
        )
    names = [name.strip() for name in compare.split(",")]
    return [replace(target, quantization=str(QuantizationConfig.of(name))) for name in names]


def _measure_all(targets: Sequence[Target], text: str, window: int, stride: int, *, yes: bool) -> list[Measurement]:
    from llama4sdk.cli.clients import create_client, open_client

    for target in targets[1:]:
        with create_client(target) as client:
            client.plan()  # raises for what cannot run, before the first is measured
    measurements = []
    for number, target in enumerate(targets):
        with open_client(target, yes=yes, notices=number == 0) as client:
            measurements.append(_measure(client, target, text, window, stride))
    return measurements


def _measure(client: Client, target: Target, text: str, window: int, stride: int) -> Measurement:
    from llama4sdk.cli.clients import load_model

    load_model(client, target)
    plan = client.plan()
    name = None if plan.quantization is None else str(plan.quantization)
    start = time.perf_counter()
    with count_bar(f"Scoring with {name or plan.model}") as progress:
        scores = client.score(text, window=window, stride=stride, progress=progress)
    seconds = time.perf_counter() - start
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


def _summary(measurement: Measurement) -> Iterator[RenderableType]:
    m = measurement
    weights = ", ".join(filter(None, [m.quantization, _size(m)]))
    yield key_value_table(
        [
            ("perplexity", f"{m.perplexity:.3f} ± {m.standard_error:.3f}"),
            ("bits per byte", f"{m.bits_per_byte:.4f}"),
            ("tokens scored", f"{m.tokens}"),
            ("speed", f"{m.tokens_per_second:.0f} tokens/s ({m.seconds:.1f} s)"),
            ("model", f"{m.model} on {m.backend}" + (f", {weights}" if weights else "")),
        ]
    )


def _comparison(measurements: Sequence[Measurement]) -> Iterator[RenderableType]:
    numbers = number_columns("perplexity", "ratio", "bits per byte", "weights", "seconds")
    table = ResponsiveTable(Column("quantization", style="bold"), *numbers)
    first = measurements[0]
    for m in measurements:
        table.add_row(
            m.quantization or "—",
            f"{m.perplexity:.3f} ± {m.standard_error:.3f}",
            f"{m.perplexity / first.perplexity:.4f}",
            f"{m.bits_per_byte:.4f}",
            _size(m) or "—",
            f"{m.seconds:.1f}",
        )
    yield table
    yield Text(f"{first.tokens} tokens scored by {first.model} on {first.backend}.", style="dim")


def _size(measurement: Measurement) -> str | None:
    return gb(measurement.weight_bytes) if measurement.weight_bytes else None
