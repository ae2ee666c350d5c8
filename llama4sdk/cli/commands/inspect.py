"""``llama4sdk inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.options import JsonFlag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import RenderableType
    from rich.table import Table

    from llama4sdk.llama4.vision_config import VisionConfig
    from llama4sdk.weights.inspection import Inspection

__all__ = ["inspect"]


def inspect(
    model: Annotated[str, typer.Argument(help="A GGUF file, a checkpoint directory, or a model's name.")],
    *,
    json: JsonFlag = False,
) -> None:
    """Show what a checkpoint is, and whether it can be loaded. Reads its headers only."""
    from llama4sdk.errors import CheckpointError
    from llama4sdk.weights import inspection

    found = inspection.inspect(_path(model))
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        show(*_pieces(found))
    if found.problems:
        raise CheckpointError(f"This checkpoint cannot be loaded: {found.problems[0]}")


def _path(model: str) -> Path:
    from llama4sdk import weights
    from llama4sdk.errors import WeightsNotFoundError

    path = weights.locate(model)
    if path is None:
        raise WeightsNotFoundError(
            f"There is no checkpoint '{model}' on this machine.", hint="Give a GGUF file or a directory with weights."
        )
    return path


def _pieces(found: Inspection) -> Iterator[RenderableType]:
    from rich.text import Text

    from llama4sdk.cli.views.status_marks import mark

    yield _facts(found)
    yield _parts(found)
    yield from (Text.assemble(mark("fail"), f" {problem}") for problem in found.problems)
    yield from (Text.assemble(mark("info"), f" {note}") for note in found.notes)
    if not found.problems:
        yield Text.assemble(mark("ok"), " Every tensor is there in its right shape and can be read.")


def _facts(found: Inspection) -> Table:
    from rich.table import Table

    from llama4sdk._text import gb
    from llama4sdk.cli.commands.models import count

    c = found.config
    mixtures = f"{c.num_experts} in {len(c.moe_layers)} layers, {c.experts_per_token} per token"
    chunks = f", chunks of {c.chunk_size} in {len(c.chunked_layers)} layers" if c.chunked_layers else ""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", overflow="fold")
    for title, text in (
        ("checkpoint", f"{found.name} ({found.format})"),
        ("size", f"{count(found.parameters)} parameters, {gb(found.nbytes)}"),
        ("layers", f"{c.num_layers}, hidden size {c.hidden_size}"),
        ("experts", mixtures if c.moe_layers else "none"),
        ("attention", f"{c.num_heads} heads of {c.head_dim}, {c.num_kv_heads} of keys and values{chunks}"),
        ("context", f"{c.max_context} tokens"),
        ("vocabulary", f"{c.vocab_size}, tokenizer {'missing' if found.tokenizer is None else found.tokenizer}"),
        ("chat template", "yes" if found.chat_template else "no"),
        ("vision", _sight(found.vision)),
    ):
        table.add_row(title, text)
    return table


def _sight(vision: VisionConfig | None) -> str:
    if vision is None:
        return "no"
    return f"{vision.num_layers} layers, tiles of {vision.tile_size} pixels in {vision.tokens_per_tile} tokens"


def _parts(found: Inspection) -> Table:
    from rich import box
    from rich.table import Table

    from llama4sdk._text import gb

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Part", no_wrap=True)
    table.add_column("Stored as", no_wrap=True)
    for header in ("Tensors", "Parameters", "Size"):
        table.add_column(header, justify="right", no_wrap=True)
    for part in found.parts:
        table.add_row(part.module, part.dtype, str(part.tensors), f"{part.parameters:,}", gb(part.nbytes))
    return table
