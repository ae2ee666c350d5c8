"""``llama4sdk models``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

import llama4sdk
from llama4sdk import weights
from llama4sdk._text import gb
from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.options import JsonFlag
from llama4sdk.cli.views.number_format import format_context, format_parameters
from llama4sdk.cli.views.responsive_table import Column, ResponsiveTable, number_columns

if TYPE_CHECKING:
    from pydantic import JsonValue

    from llama4sdk.catalog.models import ModelSpec


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

        endpoints.print_listings([spec.name for spec in specs], json=json)
    elif json:
        print_json([_document(spec) for spec in specs])
    else:
        show(*_pieces(specs))


def _document(spec: ModelSpec) -> dict[str, JsonValue]:
    path = weights.locate(spec.name)
    return {
        **spec.model_dump(mode="json", exclude={"config", "vision_parameters", "published_precision"}),
        "parameters": spec.parameters,
        "active_parameters": spec.active_parameters,
        "weight_bytes": {size.value: spec.weight_bytes(size) for size in llama4sdk.Quantization},
        "path": str(path) if path else None,
    }


def _pieces(specs: tuple[ModelSpec, ...]) -> Iterator[RenderableType]:
    yield _table(specs)
    yield ""
    for spec in specs:
        yield Text.assemble((spec.name, "bold"), f": {spec.title}. {spec.license}. {spec.notes}")


def _table(specs: tuple[ModelSpec, ...]) -> ResponsiveTable:
    sizes = llama4sdk.Quantization.BF16, llama4sdk.Quantization.INT8, llama4sdk.Quantization.INT4
    headings = "params", "active", "context", *(size.value for size in sizes)
    table = ResponsiveTable(Column("model", style="bold"), *number_columns(*headings), Column("here"))
    for spec in specs:
        table.add_row(
            spec.name,
            format_parameters(spec.parameters),
            format_parameters(spec.active_parameters),
            format_context(spec.context_length),
            *[gb(nbytes) if (nbytes := spec.weight_bytes(size)) else "—" for size in sizes],
            Text("✓", style="green") if weights.locate(spec.name) else "no" if spec.released else "—",
        )
    return table
