"""A conversation on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from llama4sdk.cli.console import note, write
from llama4sdk.cli.errors import print_error
from llama4sdk.client import Client
from llama4sdk.errors import BackendError, ContextLengthError, Llama4Error
from llama4sdk.messages import Message
from llama4sdk.plan import Plan
from llama4sdk.requests import GenerateOptions
from llama4sdk.streams import Stream

HELP: Final = """\
/clear  forget the conversation so far
/help   show this
/exit   leave; Ctrl-D does the same
Ctrl-C  stop the answer that is being written"""

PROMPT: Final = "> "


@dataclass
class Conversation:
    """Questions and answers until the user leaves; each request holds all messages before it."""

    client: Client
    opening: Sequence[Message]
    options: GenerateOptions
    schema: Mapping[str, object] | None = None
    history: list[Message] = field(default_factory=list)

    def run(self, plan: Plan | None) -> None:
        """Read, answer, repeat; ``plan`` is the model that answers, where one is known beforehand.

        An error that concerns one answer does not end the conversation.
        """
        with suppress(ImportError):
            import readline  # noqa: F401  (gives input() line editing and a history)
        description = f"{plan.model} on {plan.placement} ({plan.backend}). " if plan else ""
        note(f"{description}/help lists the commands, Ctrl-D leaves.")
        while (line := _read_line()) is not None:
            command = line.strip()
            if command in ("/exit", "/quit"):
                return
            if command.startswith("/"):
                self._run_command(command)
            elif command:
                self._answer(line)

    def _run_command(self, command: str) -> None:
        if command == "/clear":
            self.history.clear()
            note("Forgotten.")
        else:
            note(HELP if command == "/help" else f"There is no command {command}.\n{HELP}")

    def _answer(self, line: str) -> None:
        question = Message(role="user", content=line)
        try:
            answer = self._print_answer([*self.opening, *self.history, question])
        except ContextLengthError as error:
            print_error(error)
            note("The conversation no longer fits into the context; /clear starts anew.")
        except BackendError:
            raise
        except Llama4Error as error:
            print_error(error)
        else:
            self.history += [question, answer] if answer.text else []

    def _print_answer(self, messages: Sequence[Message]) -> Message:
        """Print the answer as it comes; after Ctrl-C the part that had come is the answer."""
        stream: Stream | None = None
        try:
            with self.client.chat(messages, schema=self.schema, stream=True, **self.options) as stream:
                for text in stream.text_deltas():
                    write(text)
            write("\n")
        except KeyboardInterrupt:
            write("\n")
            note("Stopped.")
        return stream.partial.message if stream else Message(role="assistant")


def _read_line() -> str | None:
    """Read the next line; ``None`` at the end of the input. Ctrl-C drops a half-written line."""
    while True:
        try:
            return input(PROMPT)
        except KeyboardInterrupt:
            write("\n")
            note("Ctrl-D leaves.")
        except EOFError:
            write("\n")
            return None
