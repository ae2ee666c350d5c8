"""Validated requests from the arguments of users, and refusing those that a plan does not support. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast, get_args

from pydantic import SecretStr, ValidationError

from llama4sdk._error_values import MessageView
from llama4sdk._text import in_words, nearest
from llama4sdk._values import Value
from llama4sdk.constraints import as_constraint
from llama4sdk.errors import ConfigurationError, InvalidRequestError, UnknownOptionError, UnsupportedFeatureError
from llama4sdk.messages import Message
from llama4sdk.requests import (
    ChatOptions,
    EmbedRequest,
    GenerateOptions,
    Pooling,
    Request,
    SamplingParams,
    ScoreRequest,
)
from llama4sdk.tools import ToolLike, as_tools

if TYPE_CHECKING:
    from llama4sdk.backend import Need
    from llama4sdk.capabilities import Feature
    from llama4sdk.endpoint import Endpoint, HttpClient
    from llama4sdk.plan import Plan
    from llama4sdk.planning.routing import Difficulty
    from llama4sdk.quantization import Quantization, QuantizationConfig

#: A message, or a dict with the fields of one.
MessageLike: TypeAlias = Message | Mapping[str, object]
#: A string stands for one user message. The messages that an error carries can be passed on.
MessagesInput: TypeAlias = str | MessageLike | Sequence[MessageLike | MessageView]

V = TypeVar("V", bound=Value)

FEATURE_NAMES: Final[dict[Feature, str]] = {
    "generate": "raw text generation",
    "chat": "chat",
    "embed": "embeddings",
    "images": "images",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "json_schema": "answers of a JSON schema",
    "regex": "answers that match a regular expression",
    "grammar": "answers of a grammar",
    "count_tokens": "counting tokens",
    "astream": "native asynchronous streams",
    "score": "scoring texts",
}

TOOL_CHOICE_HINT: Final = (
    "tools= says what may be called, tool_choice= whether: 'auto', 'none', 'required' or a tool's name."
)

MESSAGE_HINT: Final = (
    "Pass at least one message, as text, or with a role (system, user, assistant, tool) and content: "
    "{'role': 'user', 'content': 'Hello'}."
)


def chat_request(
    messages: MessagesInput,
    tools: Sequence[ToolLike],
    options: GenerateOptions,
    schema: object = None,
) -> Request:
    """A chat request. Raises InvalidRequestError or UnknownOptionError."""
    fields: dict[str, object] = {"messages": as_messages(messages), "tools": as_tools(tools) if tools else ()}
    hint = TOOL_CHOICE_HINT if fields["messages"] else MESSAGE_HINT
    return _validate(Request, fields | _option_fields(options, ChatOptions, schema), "request", hint)


def generate_request(prompt: str, options: GenerateOptions, schema: object = None) -> Request:
    """A request to continue raw text. Raises InvalidRequestError or UnknownOptionError."""
    fields = {"prompt": prompt} | _option_fields(options, GenerateOptions, schema)
    return _validate(Request, fields, "request", "Pass some text to continue.")


def read_difficulty(options: GenerateOptions) -> Difficulty | None:
    """The difficulty among a request's options. Raises InvalidRequestError for anything but the three words."""
    difficulty = options.get("difficulty")
    if difficulty not in (None, "easy", "usual", "hard"):
        raise InvalidRequestError(f"difficulty is {difficulty!r}.", hint="It is 'easy', 'usual' or 'hard'.")
    return difficulty


def embed_request(inputs: str | Sequence[str], pooling: Pooling, *, normalize: bool) -> EmbedRequest:
    """An embedding request; one string is one input. Raises InvalidRequestError."""
    texts = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    hint = "Pass one text or a list of texts, none of them empty."
    fields = {"inputs": texts, "pooling": pooling, "normalize": normalize}
    return _validate(EmbedRequest, fields, "request", hint)


def score_request(
    input: MessagesInput,  # noqa: A002 - the field's own word
    top: int,
    window: int | None,
    stride: int | None,
) -> ScoreRequest:
    """A request to score raw text, given as a string, or messages. Raises InvalidRequestError."""
    scored = {"prompt": input} if isinstance(input, str) else {"messages": as_messages(input)}
    hint = "Pass some text or messages; top is 0 to 20, and a window is longer than its stride."
    return _validate(ScoreRequest, scored | {"top": top, "window": window, "stride": stride}, "request", hint)


def require(feature: Feature, plan: Plan) -> None:
    """Raise UnsupportedFeatureError unless the plan's backend declares this feature."""
    if feature not in plan.capabilities.features:
        hint = f"The model in use is '{plan.model}'."
        raise UnsupportedFeatureError(plan.backend, FEATURE_NAMES[feature], hint=hint)


def check_request(request: Request | EmbedRequest, feature: Feature, plan: Plan) -> None:
    """Raise UnsupportedFeatureError for anything in the request that the plan's backend does not declare."""
    require(feature, plan)
    if not isinstance(request, Request):
        return
    if request.tools:
        require("tools", plan)
    if request.tool_choice != "auto":
        require("tool_choice", plan)
    if request.constraint is not None:
        require(request.constraint.kind, plan)
    if any(message.has_images for message in request.messages):
        require("images", plan)
    if unknown := request.sampling.asked() - plan.capabilities.sampling:
        supported = ", ".join(sorted(plan.capabilities.sampling))
        option = f"the option {', '.join(sorted(unknown))}"
        raise UnsupportedFeatureError(plan.backend, option, hint=f"It supports: {supported}.")


def check_score(request: ScoreRequest, plan: Plan) -> None:
    """Raise UnsupportedFeatureError for a text or conversation that the plan's backend cannot score."""
    require("score", plan)
    if request.messages:
        require("chat", plan)
    if any(message.has_images for message in request.messages):
        raise UnsupportedFeatureError(plan.backend, "scoring images", hint="Send messages of text only.")


def need(
    model: str | Path | None,
    device: str | None,
    quantization: Quantization | QuantizationConfig | str | None,
    context_length: int | None,
    batch: int | None = None,
    endpoint: Endpoint | None = None,
    needs: str | Iterable[str] = (),
    languages: str | Iterable[str] = (),
) -> Need:
    """A client's need from its arguments. Raises ConfigurationError for invalid ones."""
    from llama4sdk.backend import Need
    from llama4sdk.capabilities import Feature
    from llama4sdk.catalog import models
    from llama4sdk.quantization import QuantizationConfig

    if context_length is not None and context_length < 1:
        raise ConfigurationError(
            f"context_length is {context_length}.", hint="It counts tokens of prompt and answer; pass at least 1."
        )
    if batch is not None and (type(batch) is not int or batch < 1):
        raise ConfigurationError(f"batch is {batch!r}.", hint="It counts conversations at once; pass at least 1.")
    languages_known = {language for spec in models.MODELS for language in spec.languages}
    return Need(
        model=None if model is None else str(model),
        features=cast("frozenset[Feature]", _match_spelling(needs, get_args(Feature), "feature")),
        languages=_match_spelling(languages, languages_known, "language"),
        device=device,
        quantization=None if quantization is None else QuantizationConfig.of(quantization).simplest,
        context_length=context_length,
        batch=batch or 1,
        endpoint=endpoint,
    )


def as_endpoint(
    endpoint: Endpoint | str | None, api_key: str | None, http_client: HttpClient | None, *, asynchronous: bool
) -> Endpoint | None:
    """An endpoint from a client's arguments. Raises ConfigurationError for invalid ones; errors never repeat the key.

    ``asynchronous`` says whether the client can use an asynchronous HTTP client.
    """
    from llama4sdk.endpoint import Endpoint, is_async_client, is_http_client

    address, key = cast("tuple[object, object]", (endpoint, api_key))
    if not isinstance(address, Endpoint | str | None) or not isinstance(key, str | None):
        raise ConfigurationError(
            "The endpoint or its key is neither text nor an Endpoint.",
            hint="Pass endpoint='https://host/v1' or an Endpoint, and api_key as a string.",
        )
    changes: dict[str, object] = {}
    if api_key is not None:
        changes["api_key"] = _parse_api_key(api_key)
    if http_client is not None:
        if not is_http_client(http_client):
            raise ConfigurationError(
                "The http_client is no client of httpx.",
                hint="Pass an httpx.Client; AsyncClient takes an httpx.AsyncClient, too.",
            )
        changes["http_client"] = http_client
    if isinstance(endpoint, str):
        endpoint = _parse_address(endpoint)
    if changes:
        endpoint = (endpoint or Endpoint()).model_copy(update=changes)
    if endpoint is not None and is_async_client(endpoint.http_client) and not asynchronous:
        raise ConfigurationError(
            "The http_client is asynchronous, and Client is not: an httpx.AsyncClient belongs to one event loop.",
            hint="Pass an httpx.Client, or use llama4sdk.AsyncClient.",
        )
    return endpoint


def _parse_api_key(api_key: str) -> SecretStr:
    if not (api_key.isascii() and api_key.isprintable() and api_key.strip()):
        raise ConfigurationError(
            "The api_key is empty, or has characters that no key has.", hint="Look for line breaks and quotes."
        )
    return SecretStr(api_key.strip())


def _parse_address(address: str) -> Endpoint:
    from llama4sdk.endpoint import Endpoint

    try:
        return Endpoint(url=address)
    except ValidationError as error:
        raise ConfigurationError(
            f"That is no address: {error.errors(include_input=False)[0]['msg'].removeprefix('Value error, ')}.",
            hint="Write https://host/v1, with the key in api_key.",
        ) from None


def _match_spelling(names: str | Iterable[str], known: Iterable[str], kind: str) -> frozenset[str]:
    """Correct the case of names to that of the known ones; a string is one name. Raises ConfigurationError."""
    spellings = {name.lower(): name for name in known}
    lowered = [str(name).lower() for name in ([names] if isinstance(names, str) else names)]
    for name in lowered:
        if name not in spellings:
            guess = nearest(name if kind == "feature" else name.title(), spellings.values(), f"{kind.title()}s")
            raise ConfigurationError(f"There is no {kind} '{name}' that a model could be chosen by.", hint=guess)
    return frozenset(spellings[name] for name in lowered)


def as_messages(messages: MessagesInput) -> tuple[Message, ...]:
    """Messages from any of the ways to write them. Raises InvalidRequestError."""
    if isinstance(messages, str):
        if not messages:
            raise InvalidRequestError("The message is empty.", hint="Write something for the model to answer.")
        return (Message(role="user", content=messages),)
    if isinstance(messages, Message | Mapping):
        messages = (messages,)
    return tuple(_as_message(message, index) for index, message in enumerate(messages))


def _as_message(message: MessageLike | MessageView, index: int) -> Message:
    return message if isinstance(message, Message) else _validate(Message, message, f"message {index}", MESSAGE_HINT)


def _option_fields(options: Mapping[str, object], known: type[GenerateOptions], schema: object) -> dict[str, object]:
    """The fields of a request that its options and its schema set."""
    for name in options:
        if name not in known.__annotations__:
            raise UnknownOptionError(
                f"There is no option '{name}'.", hint=nearest(name, known.__annotations__, "Options")
            )
    fields = {name: options[name] for name in Request.model_fields if name in options}
    if sampling := {name: options[name] for name in SamplingParams.model_fields if name in options}:
        hint = "llama4sdk.SamplingParams lists every option with its range."
        fields["sampling"] = _validate(SamplingParams, sampling, "option", hint)
    if schema is not None or options.keys() & {"regex", "grammar"}:
        fields["constraint"] = as_constraint(schema, options.get("regex"), options.get("grammar"))
    return fields


def _validate(kind: type[V], fields: object, noun: str, hint: str) -> V:
    try:
        return kind.model_validate(fields, from_attributes=True)
    except ValidationError as error:
        raise InvalidRequestError(f"Invalid {noun}: {in_words(error)}.", hint=hint) from error
