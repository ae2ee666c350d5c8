"""What a batch is given and gives back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from llama4sdk.batch.bodies import arguments_of
from llama4sdk.errors import ConfigurationError, InvalidRequestError
from llama4sdk.requests import Request
from llama4sdk.session.validation import MessagesInput, chat_request, generate_request, read_difficulty

if TYPE_CHECKING:
    from llama4sdk.capabilities import Feature
    from llama4sdk.errors import Llama4Error
    from llama4sdk.planning.routing import Difficulty
    from llama4sdk.requests import ChatOptions
    from llama4sdk.results import Completion

__all__ = ["BatchItem", "BatchRequest", "Job", "as_jobs"]

BatchRequest: TypeAlias = MessagesInput | Mapping[str, object] | Request
"""What ``chat`` takes as messages; a dict of the arguments of ``chat`` (with ``messages``) or ``generate`` (with
``prompt``); a dict with ``custom_id`` and ``body``, as in OpenAI's batch files; or a ``Request``."""

HINT: Final = "Pass messages, a dict with 'messages' or 'prompt', or one with 'custom_id' and 'body'."


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    """One request's outcome: its ``completion``, or the ``error`` that it ended with."""

    index: int
    """The request's place in the batch, from 0."""
    id: str | None = None
    """Its ``custom_id``, where it had one."""
    completion: Completion[Any] | None = None
    error: Llama4Error | None = None
    resumed: bool = False
    """Whether the answer was in the file already."""

    def result(self) -> Completion[Any]:
        """The completion. Raises the error where there is none."""
        if self.error is not None:
            raise self.error
        assert self.completion is not None  # noqa: S101 - an item has one of the two
        return self.completion


@dataclass(frozen=True, slots=True)
class Job:
    """A request that was read, and what it is known by."""

    index: int
    request: Request
    feature: Feature
    difficulty: Difficulty | None = None
    model: str | None = None
    """Asked for where the client names none."""
    id: str | None = None

    def key(self, model: str | None) -> str:
        """What changes with anything that is asked for; ``model`` is the client's."""
        content = {
            "request": self.request.model_dump(mode="json", exclude_defaults=True),
            "difficulty": self.difficulty,
            "model": model or self.model,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def as_jobs(requests: Iterable[BatchRequest]) -> list[Job]:
    """All of them, read. Raises InvalidRequestError or UnknownOptionError that says which cannot be."""
    if isinstance(requests, (str, Mapping)):
        raise InvalidRequestError("A batch is a list of requests, and this is one.", hint="Put it into a list.")
    return [_read(index, request) for index, request in enumerate(requests)]


def _read(index: int, entry: BatchRequest) -> Job:
    try:
        if isinstance(entry, Request):
            return Job(index, entry, "chat" if entry.prompt is None else "generate")
        if isinstance(entry, Mapping) and "role" not in entry:
            return _of_arguments(index, entry)
        return Job(index, chat_request(entry, (), {}), "chat")
    except ConfigurationError as error:
        raise type(error)(f"Request {index}: {error.message}", hint=error.hint) from error
    except (TypeError, AttributeError) as error:
        raise InvalidRequestError(f"Request {index} is no request: {entry!r:.60}", hint=HINT) from error


def _of_arguments(index: int, entry: Mapping[str, object]) -> Job:
    name = entry.get("custom_id")
    given = dict(arguments_of(entry) if "body" in entry else entry)
    given.pop("custom_id", None)
    model, tools, schema = given.pop("model", None), given.pop("tools", ()), given.pop("schema", None)
    if ("messages" in given) == ("prompt" in given):
        raise InvalidRequestError("It has neither messages nor a prompt, or both.", hint=HINT)
    if model is not None and not isinstance(model, str):
        raise InvalidRequestError(f"Its model is {model!r}.", hint="It is a name.")
    options = cast("ChatOptions", {name: value for name, value in given.items() if name not in ("messages", "prompt")})
    feature: Feature = "chat" if "messages" in given else "generate"
    if feature == "chat":
        request = chat_request(cast("MessagesInput", given["messages"]), cast("Any", tools), options, schema)
    elif tools:
        raise InvalidRequestError("It has a prompt and tools.", hint="Tools are for chat; pass messages.")
    else:
        request = generate_request(cast("str", given["prompt"]), options, schema)
    return Job(index, request, feature, read_difficulty(options), model, None if name is None else str(name))
