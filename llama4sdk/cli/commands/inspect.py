"""``llama4sdk inspect``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from llama4sdk._text import gb
from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.options import JsonFlag
from llama4sdk.cli.views.number_format import format_parameters
from llama4sdk.cli.views.responsive_table import Column, ResponsiveTable, key_value_table, number_columns
from llama4sdk.cli.views.status_marks import status_mark
from llama4sdk.errors import CheckpointError

if TYPE_CHECKING:
    from llama4sdk.weights.inspection import Inspection


def inspect(
    model: Annotated[str, typer.Argument(help="A GGUF file, a checkpoint directory, or a model's name.")],
    *,
    json: JsonFlag = False,
) -> None:
    """Show what a checkpoint is, and whether it can be loaded. Reads its headers only."""
    from llama4sdk.cli.model_argument import find_checkpoint
    from llama4sdk.weights import inspection

    result = inspection.inspect(find_checkpoint(model))
    if json:
        print_json(result.model_dump(mode="json"))
    else:
        show(*_pieces(result))
    if result.problems:
        raise CheckpointError(f"This checkpoint cannot be loaded: {result.problems[0]}")


def _pieces(inspection: Inspection) -> Iterator[RenderableType]:
    yield _facts_table(inspection)
    yield ""
    yield _parts_table(inspection)
    yield ""
    yield from (Text.assemble(status_mark("fail"), f" {problem}") for problem in inspection.problems)
    yield from (Text.assemble(status_mark("info"), f" {note}") for note in inspection.notes)
    if not inspection.problems:
        yield Text.assemble(status_mark("ok"), " Every tensor is there in its right shape and can be read.")


def _facts_table(inspection: Inspection) -> ResponsiveTable:
    c = inspection.config
    experts = f"{c.num_experts} in {len(c.moe_layers)} layers, {c.experts_per_token} per token"
    chunks = f", chunks of {c.chunk_size} in {len(c.chunked_layers)} layers" if c.chunked_layers else ""
    vision = "no"
    if v := inspection.vision:
        vision = f"{v.num_layers} layers, tiles of {v.tile_size} pixels in {v.tokens_per_tile} tokens"
    return key_value_table(
        [
            ("checkpoint", f"{inspection.name} ({inspection.format})"),
            ("size", f"{format_parameters(inspection.parameters)} parameters, {gb(inspection.nbytes)}"),
            ("layers", f"{c.num_layers}, hidden size {c.hidden_size}"),
            ("experts", experts if c.moe_layers else "none"),
            ("attention", f"{c.num_heads} heads of {c.head_dim}, {c.num_kv_heads} of keys and values{chunks}"),
            ("context", f"{c.max_context} tokens"),
            ("vocabulary", f"{c.vocab_size}, tokenizer {inspection.tokenizer or 'missing'}"),
            ("chat template", "yes" if inspection.chat_template else "no"),
            ("vision", vision),
        ]
    )


def _parts_table(inspection: Inspection) -> ResponsiveTable:
    sizes = number_columns("tensors", "parameters", "size")
    table = ResponsiveTable(Column("part", style="bold"), Column("stored as"), *sizes)
    for part in inspection.parts:
        table.add_row(part.module, part.dtype, str(part.tensors), f"{part.parameters:,}", gb(part.nbytes))
    return table
