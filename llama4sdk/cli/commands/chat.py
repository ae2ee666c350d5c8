"""``llama4sdk chat``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import llama4sdk
from llama4sdk.cli.inputs import read_words
from llama4sdk.cli.options import JsonFlag, OutputFormat, Sampling, StreamFlag, Target, YesFlag
from llama4sdk.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama4sdk.requests import GenerateOptions


def chat(
    message: Annotated[
        list[str] | None, typer.Argument(help="What to ask; '-' stands for stdin. Nothing starts a conversation.")
    ] = None,
    *,
    system: Annotated[str | None, typer.Option("--system", "-s", help="Instructions for the model.")] = None,
    image: Annotated[
        list[str] | None, typer.Option(help="Show this image, a file or an https URL (repeatable).", metavar="FILE|URL")
    ] = None,
    video: Annotated[list[Path] | None, typer.Option(help="Show 8 frames of this video file (repeatable).")] = None,
    stream: StreamFlag = None,
    yes: YesFlag = False,
    json: JsonFlag = False,
    target: Target,
    sampling: Sampling,
    output: OutputFormat,
) -> None:
    """Ask a question, or have a conversation.

    With a message, or one piped in, the answer is printed and that is all.

    Without, on a terminal, a conversation starts: Ctrl-C stops an answer, Ctrl-D leaves.
    """
    from llama4sdk.cli.answers import print_answer
    from llama4sdk.cli.clients import load_model, open_client
    from llama4sdk.cli.conversation import Conversation
    from llama4sdk.session.validation import chat_request, check_request

    opening = [llama4sdk.Message(role="system", content=system)] if system else []
    schema = output.read_schema()
    options: GenerateOptions = {**sampling.as_options(), **output.as_options()}
    media: list[llama4sdk.ImagePart | llama4sdk.VideoPart] = [*map(_image, image or []), *map(_video, video or [])]
    if not (message or media or json) and sys.stdin.isatty() and sys.stdout.isatty():
        with open_client(target, yes=yes) as client:
            load_model(client, target)
            Conversation(client, opening, options, schema).run(None if target.fallback else client.plan())
        return
    messages = [*opening, _question(read_words(message), media)]
    request = chat_request(messages, (), options, schema)  # a bad request is refused before anything is loaded
    with open_client(target, yes=yes) as client:
        load_model(client, target, lambda plan: check_request(request, "chat", plan))
        print_answer(client.chat(messages, schema=schema, stream=True, **options), as_json=json, live=stream)


def _question(text: str, media: Sequence[llama4sdk.ImagePart | llama4sdk.VideoPart]) -> llama4sdk.Message:
    if not text.strip() and not media:
        raise InvalidRequestError("The message is empty.", hint="Write something for the model to answer.")
    return llama4sdk.Message(role="user", content=(*media, llama4sdk.TextPart(text=text)) if media else text)


def _image(source: str) -> llama4sdk.ImagePart:
    """The image of a file or an https URL. Raises InvalidRequestError."""
    scheme, separator, _ = source.partition("://")
    if not separator:
        with _file_errors("image", source):
            return llama4sdk.ImagePart.from_path(source)
    if scheme.lower() != "https":
        raise InvalidRequestError(
            f"An image can be fetched by https only, not by {scheme.lower()}.", hint="Save it, and pass the file."
        )
    return llama4sdk.ImagePart(url=source)


def _video(path: Path) -> llama4sdk.VideoPart:
    """Frames of a file. Raises InvalidRequestError."""
    with _file_errors("video", path):
        return llama4sdk.VideoPart.from_path(path)


@contextmanager
def _file_errors(kind: str, path: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidRequestError(f"Cannot read the {kind} {path}: {error.strerror or error}.") from error
