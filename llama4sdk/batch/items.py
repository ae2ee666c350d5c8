"""The requests of a batch and their outcomes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from llama4sdk.batch.bodies import arguments_from_body
from llama4sdk.capabilities import Feature
from llama4sdk.errors import ConfigurationError, InvalidRequestError, Llama4Error
from llama4sdk.planning.routing import Difficulty
from llama4sdk.requests import ChatOptions, Request
from llama4sdk.results import Completion
from llama4sdk.session.validation import MessagesInput, chat_request, generate_request, read_difficulty

#: Messages as ``chat`` takes them; a dict of the arguments of ``chat`` (with ``messages``) or ``generate`` (with
#: ``prompt``); a dict with ``custom_id`` and ``body``, as in OpenAI's batch files; or a ``Request``.
BatchRequest: TypeAlias = MessagesInput | Mapping[str, object] | Request

REQUEST_HINT: Final = "Pass messages, a dict with 'messages' or 'prompt', or one with 'custom_id' and 'body'."


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    """The outcome of one request: its ``completion`` or its ``error``."""

    #: The request's position in the batch, from 0.
    index: int
    #: The request's ``custom_id``, if it has one.
    id: str | None = None
    completion: Completion[Any] | None = None
    error: Llama4Error | None = None
    #: Whether the answer was read from the batch's file.
    resumed: bool = False

    def result(self) -> Completion[Any]:
        """Return the completion. Raises the error where there is none."""
        if self.error is not None:
            raise self.error
        assert self.completion is not None  # noqa: S101 - an item has one of the two
        return self.completion


@dataclass(frozen=True, slots=True)
class Job:
    """A validated request of a batch."""

    index: int
    request: Request
    feature: Feature
    difficulty: Difficulty | None = None
    #: The model to use where the client names none.
    model: str | None = None
    id: str | None = None

    def key(self, model: str | None) -> str:
        """A hash of everything that determines the answer; ``model`` is the client's."""
        content = {
            "request": self.request.model_dump(mode="json", exclude_defaults=True),
            "difficulty": self.difficulty,
            "model": model or self.model,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def as_jobs(requests: Iterable[BatchRequest]) -> list[Job]:
    """Validate requests. Raises InvalidRequestError or UnknownOptionError with the number of the invalid one."""
    if isinstance(requests, (str, Mapping)):
        raise InvalidRequestError("A batch is a list of requests, and this is one.", hint="Put it into a list.")
    return [_as_job(index, request) for index, request in enumerate(requests)]


def _as_job(index: int, entry: BatchRequest) -> Job:
    try:
        if isinstance(entry, Request):
            return Job(index, entry, "chat" if entry.prompt is None else "generate")
        if isinstance(entry, Mapping) and "role" not in entry:
            return _job_from_arguments(index, entry)
        return Job(index, chat_request(entry, (), {}), "chat")
    except ConfigurationError as error:
        raise type(error)(f"Request {index}: {error.message}", hint=error.hint) from error
    except (TypeError, AttributeError) as error:
        raise InvalidRequestError(f"Request {index} is no request: {entry!r:.60}", hint=REQUEST_HINT) from error


def _job_from_arguments(index: int, entry: Mapping[str, object]) -> Job:
    custom_id = entry.get("custom_id")
    arguments = dict(arguments_from_body(entry["body"]) if "body" in entry else entry)
    arguments.pop("custom_id", None)
    model, tools, schema = arguments.pop("model", None), arguments.pop("tools", ()), arguments.pop("schema", None)
    if ("messages" in arguments) == ("prompt" in arguments):
        raise InvalidRequestError("It has neither messages nor a prompt, or both.", hint=REQUEST_HINT)
    if model is not None and not isinstance(model, str):
        raise InvalidRequestError(f"Its model is {model!r}.", hint="It is a name.")
    inputs = {name: arguments.pop(name) for name in ("messages", "prompt") if name in arguments}
    options = cast("ChatOptions", arguments)
    feature: Feature = "chat" if "messages" in inputs else "generate"
    if feature == "chat":
        request = chat_request(cast("MessagesInput", inputs["messages"]), cast("Any", tools), options, schema)
    elif tools:
        raise InvalidRequestError("It has a prompt and tools.", hint="Tools are for chat; pass messages.")
    else:
        request = generate_request(cast("str", inputs["prompt"]), options, schema)
    return Job(index, request, feature, read_difficulty(options), model, None if custom_id is None else str(custom_id))
