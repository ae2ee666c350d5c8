"""A conversation on a terminal."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from llama4sdk.cli.console import note, write
from llama4sdk.cli.errors import report
from llama4sdk.errors import BackendError, ContextLengthError, Llama4Error
from llama4sdk.messages import Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llama4sdk.client import Client
    from llama4sdk.plan import Plan
    from llama4sdk.requests import GenerateOptions
    from llama4sdk.streams import Stream

__all__ = ["Conversation"]

HELP: Final = """\
/clear  forget the conversation so far
/help   show this
/exit   leave; Ctrl-D does the same
Ctrl-C  stop the answer that is being written"""

PROMPT: Final = "> "


class Conversation:
    """Question and answer until the user leaves. Every answer knows all that was said before."""

    def __init__(
        self,
        client: Client,
        opening: Sequence[Message],
        options: GenerateOptions,
        schema: Mapping[str, object] | None = None,
    ) -> None:
        self._client = client
        self._opening = tuple(opening)
        self._options = options
        self._schema = schema
        self._said: list[Message] = []

    def run(self, plan: Plan | None) -> None:
        """Read, answer, repeat; ``plan`` is what answers, where that is known.

        An error that concerns one answer does not end the conversation.
        """
        with suppress(ImportError):
            import readline  # noqa: F401  (gives input() line editing and a history)
        who = f"{plan.model} on {plan.placement} ({plan.backend}). " if plan else ""
        note(f"{who}/help lists the commands, Ctrl-D leaves.")
        while (line := _read()) is not None:
            command = line.strip()
            if command in ("/exit", "/quit"):
                return
            if command.startswith("/"):
                self._obey(command)
            elif command:
                self._answer(line)

    def _obey(self, command: str) -> None:
        if command == "/clear":
            self._said.clear()
            note("Forgotten.")
        else:
            note(HELP if command == "/help" else f"There is no command {command}.\n{HELP}")

    def _answer(self, line: str) -> None:
        question = Message(role="user", content=line)
        try:
            answer = self._write([*self._opening, *self._said, question])
        except ContextLengthError as error:
            report(error)
            note("The conversation no longer fits into the context; /clear starts anew.")
        except BackendError:
            raise
        except Llama4Error as error:
            report(error)
        else:
            self._said += [question, answer] if answer.text else []

    def _write(self, messages: Sequence[Message]) -> Message:
        """Print the answer as it comes; what had come of it before Ctrl-C is an answer as well."""
        stream: Stream | None = None
        try:
            with self._client.chat(messages, schema=self._schema, stream=True, **self._options) as stream:
                for piece in stream.text_deltas():
                    write(piece)
            write("\n")
        except KeyboardInterrupt:
            write("\n")
            note("Stopped.")
        return stream.partial.message if stream else Message(role="assistant")


def _read() -> str | None:
    """The next line, or None at the end of the input. Ctrl-C drops the line that was begun."""
    while True:
        try:
            return input(PROMPT)
        except KeyboardInterrupt:
            write("\n")
            note("Ctrl-D leaves.")
        except EOFError:
            write("\n")
            return None
