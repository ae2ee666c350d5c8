"""``llama4sdk chat``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama4sdk.cli.answers import StreamFlag, YesFlag, deliver
from llama4sdk.cli.inputs import text_from
from llama4sdk.cli.options import JsonFlag, Sampling, Shape, Target

if TYPE_CHECKING:
    from llama4sdk.messages import ImagePart, Message
    from llama4sdk.requests import GenerateOptions

__all__ = ["chat"]


def chat(
    message: Annotated[
        list[str] | None, typer.Argument(help="What to ask; '-' stands for stdin. Nothing starts a conversation.")
    ] = None,
    *,
    system: Annotated[str | None, typer.Option("--system", "-s", help="Instructions for the model.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="Show this image file (repeatable).")] = None,
    stream: StreamFlag = None,
    yes: YesFlag = False,
    json: JsonFlag = False,
    target: Target,
    sampling: Sampling,
    shape: Shape,
) -> None:
    """Ask a question, or have a conversation.

    With a message, or one piped in, the answer is printed and that is all.

    Without, on a terminal, a conversation starts: Ctrl-C stops an answer, Ctrl-D leaves.
    """
    from llama4sdk.cli.clients import opened, waiting
    from llama4sdk.cli.conversation import Conversation
    from llama4sdk.validation import chat_request

    opening = _opening(system)
    schema = shape.document()
    options: GenerateOptions = {**sampling.given(), **shape.given()}
    if not message and not json and sys.stdin.isatty() and sys.stdout.isatty():
        with opened(target, yes=yes) as client:
            Conversation(client, opening, options, schema).run()
        return
    messages = [*opening, _question(text_from(message), image or [])]
    chat_request(messages, (), options, schema)  # a bad request is refused before anything is fetched or loaded
    with opened(target, yes=yes) as client:
        with waiting("Loading the model …"):
            answer = client.chat(messages, schema=schema, stream=True, **options)
        deliver(answer, as_json=json, live=stream)


def _opening(system: str | None) -> list[Message]:
    from llama4sdk.messages import Message

    return [Message(role="system", content=system)] if system else []


def _question(text: str, images: list[Path]) -> Message:
    from llama4sdk.errors import InvalidRequestError
    from llama4sdk.messages import Message, TextPart

    if not text.strip() and not images:
        raise InvalidRequestError("The message is empty.", hint="Write something for the model to answer.")
    if not images:
        return Message(role="user", content=text)
    return Message(role="user", content=(*[_image(path) for path in images], TextPart(text=text)))


def _image(path: Path) -> ImagePart:
    from llama4sdk.errors import InvalidRequestError
    from llama4sdk.messages import ImagePart

    try:
        return ImagePart.from_path(path)
    except OSError as error:
        raise InvalidRequestError(f"Cannot read the image {path}: {error.strerror or error}.") from error
