"""``llama4sdk embed``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from rich.console import RenderableType
from rich.text import Text

from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.inputs import read_stdin, read_text
from llama4sdk.cli.options import JsonFlag, Target, YesFlag
from llama4sdk.cli.views.progress_bars import spinner
from llama4sdk.cli.views.responsive_table import Column, ResponsiveTable
from llama4sdk.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama4sdk.results import Embeddings

#: Numbers of each vector, and columns of each text, that people see.
NUMBERS_SHOWN: Final = 4
MAX_TEXT_WIDTH: Final = 40


def embed(
    text: Annotated[list[str] | None, typer.Argument(help="Texts; one vector for each.")] = None,
    *,
    file: Annotated[list[Path] | None, typer.Option("--file", "-f", help="One text per line (repeatable).")] = None,
    pooling: Annotated[
        Literal["mean", "last"], typer.Option(help="Which hidden states stand for a text: all of them, or the last.")
    ] = "mean",
    normalize: Annotated[bool, typer.Option(help="Make every vector's length 1.")] = True,
    yes: YesFlag = False,
    json: JsonFlag = False,
    target: Target,
) -> None:
    """Turn texts into vectors: from arguments, files, or the lines on stdin."""
    from llama4sdk.cli.clients import load_model, open_client
    from llama4sdk.session.validation import embed_request, require

    inputs = _inputs(text or [], file or [])
    embed_request(inputs, pooling, normalize=normalize)  # refused before anything is fetched or loaded
    with open_client(target, yes=yes) as client:
        load_model(client, target, lambda plan: require("embed", plan))
        with spinner("Reading …"):
            result = client.embed(inputs, pooling=pooling, normalize=normalize)
    if json:
        print_json(result.model_dump(mode="json"))
    else:
        show(*_pieces(inputs, result))


def _inputs(texts: list[str], files: list[Path]) -> list[str]:
    """The texts of the arguments and files, or else of stdin. Raises InvalidRequestError when there are none."""
    inputs = [*texts, *(line for path in files for line in _lines(read_text(path)))]
    if not inputs and not texts and not files and not sys.stdin.isatty():
        inputs = _lines(read_stdin())
    if not inputs:
        raise InvalidRequestError("There is no text to embed.", hint="Give texts, --file, or lines on stdin.")
    return inputs


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _pieces(inputs: list[str], result: Embeddings) -> Iterator[RenderableType]:
    table = ResponsiveTable(Column("text"), Column("vector"))
    for text, vector in zip(inputs, result.vectors, strict=True):
        excerpt = Text(text)
        excerpt.truncate(MAX_TEXT_WIDTH, overflow="ellipsis")
        table.add_row(excerpt, " ".join(f"{x:+.4f}" for x in vector[:NUMBERS_SHOWN]) + " …")
    yield table
    yield Text(f"{result.dimensions} numbers each; --json prints all.", style="dim")
