"""``llama4sdk eval``: measurements of a model, each a command of its own."""

from __future__ import annotations

import typer

from llama4sdk.cli.commands.perplexity import perplexity
from llama4sdk.cli.options import SETTINGS, expand_options

eval = typer.Typer(name="eval", no_args_is_help=True, add_completion=False, context_settings=SETTINGS)  # noqa: A001
eval.command("perplexity")(expand_options(perplexity))


@eval.callback()
def _eval() -> None:
    """Measure how good a model is, and what a quantization costs."""
