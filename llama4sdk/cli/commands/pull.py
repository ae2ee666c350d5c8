"""``llama4sdk pull``."""

from __future__ import annotations

from typing import Annotated

import typer

from llama4sdk import weights
from llama4sdk.cli.console import print_json, write
from llama4sdk.cli.options import JsonFlag, YesFlag


def pull(
    model: Annotated[str, typer.Argument(help="The model to fetch; 'demo' needs no account.")] = "demo",
    *,
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Fetch a model's weights: verified, and kept in the cache directory."""
    from llama4sdk.cli.fetching import fetch

    path = weights.locate(model)
    if path is None:
        path = fetch(model, yes=yes) if weights.can_pull(model) else weights.pull(model)
    if json:
        print_json({"model": model, "path": str(path)})
    else:
        write(f"{path}\n")
