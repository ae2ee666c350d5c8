"""``llama4sdk generate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llama4sdk.cli.inputs import read_words
from llama4sdk.cli.options import JsonFlag, OutputFormat, Sampling, StreamFlag, Target, YesFlag

if TYPE_CHECKING:
    from llama4sdk.requests import GenerateOptions


def generate(
    prompt: Annotated[list[str] | None, typer.Argument(help="Text to continue; '-' or nothing reads stdin.")] = None,
    *,
    stream: StreamFlag = None,
    yes: YesFlag = False,
    json: JsonFlag = False,
    target: Target,
    sampling: Sampling,
    output: OutputFormat,
) -> None:
    """Continue a text, with no chat template around it."""
    from llama4sdk.cli.answers import print_answer
    from llama4sdk.cli.clients import load_model, open_client
    from llama4sdk.session.validation import check_request, generate_request

    text, schema = read_words(prompt), output.read_schema()
    options: GenerateOptions = {**sampling.as_options(), **output.as_options()}
    request = generate_request(text, options, schema)  # a bad request is refused before anything is loaded
    with open_client(target, yes=yes) as client:
        load_model(client, target, lambda plan: check_request(request, "generate", plan))
        print_answer(client.generate(text, schema=schema, stream=True, **options), as_json=json, live=stream)
