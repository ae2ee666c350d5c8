"""Printing an answer: as text or as JSON, piece by piece or whole."""

from __future__ import annotations

import json
import sys

from llama4sdk.cli.console import print_json, write
from llama4sdk.events import Event, Finish, TextDelta
from llama4sdk.streams import Stream


def print_answer(stream: Stream, *, as_json: bool, live: bool | None) -> None:
    """Print the whole stream. ``live`` is the user's wish; ``None`` streams text to a terminal only."""
    with stream:
        if as_json and live:
            for event in stream:
                write(_json_line(event))
        elif as_json:
            print_json(stream.completion().model_dump(mode="json"))
        elif live or (live is None and sys.stdout.isatty()):
            for text in stream.text_deltas():
                write(text)
            write("\n")
        else:
            write(stream.completion().text + "\n")


def _json_line(event: Event) -> str:
    """The event as one line of JSON that names its kind."""
    kind = "text" if isinstance(event, TextDelta) else "finish" if isinstance(event, Finish) else "tool_call"
    return json.dumps({"event": kind, **event.model_dump(mode="json")}, ensure_ascii=False) + "\n"
