"""``llama4sdk generate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llama4sdk.cli.answers import StreamFlag, YesFlag, deliver
from llama4sdk.cli.inputs import text_from
from llama4sdk.cli.options import JsonFlag, Sampling, Shape, Target

if TYPE_CHECKING:
    from llama4sdk.requests import GenerateOptions

__all__ = ["generate"]


def generate(
    prompt: Annotated[list[str] | None, typer.Argument(help="Text to continue; '-' or nothing reads stdin.")] = None,
    *,
    stream: StreamFlag = None,
    yes: YesFlag = False,
    json: JsonFlag = False,
    target: Target,
    sampling: Sampling,
    shape: Shape,
) -> None:
    """Continue a text, with no chat template around it."""
    from llama4sdk.cli.clients import load, opened
    from llama4sdk.session.preflight import check_request
    from llama4sdk.session.validation import generate_request

    text, schema = text_from(prompt), shape.document()
    options: GenerateOptions = {**sampling.given(), **shape.given()}
    request = generate_request(text, options, schema)  # a bad request is refused before anything is loaded
    with opened(target, yes=yes) as client:
        load(client, target, lambda plan: check_request(request, "generate", plan))
        deliver(client.generate(text, schema=schema, stream=True, **options), as_json=json, live=stream)
