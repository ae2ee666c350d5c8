"""``llama4sdk models``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.options import JsonFlag

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.table import Table
    from rich.text import Text

    from llama4sdk.catalog.models import ModelSpec

__all__ = ["models"]


def models(
    *,
    remote: Annotated[bool, typer.Option("--remote", help="List who serves them, with prices and ends.")] = False,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only this one.")] = None,
    json: JsonFlag = False,
) -> None:
    """List the models known by name: sizes, context, and which are on this machine; with --remote, who serves them."""
    from llama4sdk.catalog import models

    specs: tuple[ModelSpec, ...] = models.MODELS
    if model is not None:
        spec = models.find(model)
        if spec is None:
            raise models.unknown_model(model)
        specs = (spec,)
    if remote:
        from llama4sdk.cli.views import endpoints

        endpoints.listed([spec.name for spec in specs], json=json)
    elif json:
        print_json([_described(spec) for spec in specs])
    else:
        show(_table(specs), *map(_about, specs))


def _about(spec: ModelSpec) -> Text:
    from rich.text import Text

    return Text.assemble((spec.name, "bold"), f": {spec.title}. {spec.license}. {spec.notes}")


def _described(spec: ModelSpec) -> dict[str, JsonValue]:
    from llama4sdk import weights
    from llama4sdk.plan import Quantization

    path = weights.locate(spec.name)
    return {
        "name": spec.name,
        "title": spec.title,
        "aliases": list(spec.aliases),
        "repository": spec.repository,
        "license": spec.license,
        "released": spec.released,
        "parameters": spec.parameters,
        "active_parameters": spec.active_parameters,
        "context_length": spec.context_length,
        "languages": list(spec.languages),
        "weight_bytes": {quantization.value: spec.weight_bytes(quantization) for quantization in Quantization},
        "path": str(path) if path else None,
        "notes": spec.notes,
    }


def _table(specs: tuple[ModelSpec, ...]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from llama4sdk import weights
    from llama4sdk._text import gb
    from llama4sdk.plan import Quantization

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Model", style="bold", no_wrap=True)
    for header in ("Params", "Active", "Context", "bf16", "int8", "int4"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("Here", no_wrap=True)
    for spec in specs:
        sizes = [spec.weight_bytes(q) for q in (Quantization.BF16, Quantization.INT8, Quantization.INT4)]
        table.add_row(
            spec.name,
            count(spec.parameters),
            count(spec.active_parameters),
            tokens(spec.context_length),
            *[gb(size) if size else "—" for size in sizes],
            Text("✓", style="green") if weights.locate(spec.name) else "no" if spec.released else "—",
        )
    return table


def count(number: int | None) -> str:
    """Parameters as people say them: ``109B``, ``135M``."""
    if number is None:
        return "—"
    if number >= 1e9:
        return f"{number / 1e9:.0f}B"
    return f"{number / 1e6:.0f}M" if number >= 1e6 else f"{number:,}"


def tokens(number: int | None) -> str:
    """A context length as people say it: ``10M``, ``128K``; a K is 1024 tokens."""
    if number is None:
        return "—"
    return f"{number // 2**20}M" if number >= 2**20 else f"{number // 1024}K" if number >= 1024 else str(number)
