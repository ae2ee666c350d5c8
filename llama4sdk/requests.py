"""Requests to an engine, validated once before any work."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, TypedDict

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from llama4sdk._values import Value
from llama4sdk.constraints import Constraint
from llama4sdk.messages import Message

__all__ = [
    "ChatOptions",
    "EmbedRequest",
    "GenerateOptions",
    "Pooling",
    "Request",
    "SamplingOptions",
    "SamplingParams",
    "ScoreRequest",
    "Tool",
]

Pooling: TypeAlias = Literal["mean", "last"]

TOOL_CHOICES: Final = ("auto", "none", "required")


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class SamplingParams(Value):
    """Sampling options. ``None`` leaves an option to the model's own defaults.

    They are applied in the usual order: repetition penalty, temperature, top_k, top_p, min_p.
    """

    #: Tokens of the answer at most; ``None`` allows the rest of the context.
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    #: 0 always selects the likeliest token.
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    #: Keep the likeliest tokens up to this total probability, including the one that reaches it.
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    #: Drop tokens with less than this fraction of the likeliest token's probability.
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    #: Above 1, tokens of the prompt and of the answer so far become less likely.
    repetition_penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    #: The same seed, request and engine give the same answer.
    seed: int | None = None
    #: The answer ends before the first of these that it would contain.
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_tuple)] = ()
    #: Report the log-probability of each token and of this many likeliest alternatives.
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def asked(self) -> frozenset[str]:
        """The names of the options that were set to something."""
        return frozenset(name for name in self.model_fields_set if getattr(self, name) not in (None, ()))


class SamplingOptions(TypedDict, total=False):
    """The fields of ``SamplingParams`` as keyword arguments."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: str | tuple[str, ...] | list[str]
    logprobs: int | None


class GenerateOptions(SamplingOptions, total=False):
    """Sampling options, a constraint of the answer (a regular expression or a Lark grammar), and the difficulty.

    ``Policy(route=...)`` chooses a model by the difficulty.
    """

    regex: str | None
    grammar: str | None
    difficulty: Literal["easy", "usual", "hard"] | None


class ChatOptions(GenerateOptions, total=False):
    """The options of ``generate`` and ``tool_choice``: ``auto``, ``none``, ``required``, or a tool's name."""

    tool_choice: str


class Tool(Value):
    """A function the model may call; ``parameters`` is a JSON schema of an object."""

    name: str
    description: str = ""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class Request(Value):
    """Either a raw ``prompt`` to continue or ``messages`` to answer."""

    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    #: ``auto`` leaves it to the model; ``none``, no tool; ``required``, one of them; else the tool of this name.
    tool_choice: str = "auto"
    #: The form the answer must have.
    constraint: Constraint | None = None
    sampling: SamplingParams = SamplingParams()

    @model_validator(mode="after")
    def _one_input(self) -> Request:
        if self.prompt is None and not self.messages:
            raise ValueError("there are no messages")
        if self.prompt is not None and self.messages:
            raise ValueError("a request has a prompt or messages, not both")
        if self.prompt == "":
            raise ValueError("the prompt is empty")
        return self

    @model_validator(mode="after")
    def _possible_calls(self) -> Request:
        names = [tool.name for tool in self.tools]
        if self.tool_choice == "required" and not names:
            raise ValueError("a tool must be called, and there is none")
        if self.tool_choice not in (*TOOL_CHOICES, *names):
            known = ", ".join((*TOOL_CHOICES, *names))
            raise ValueError(f"tool_choice is {self.tool_choice!r}, and none of {known}")
        if names and self.constraint is not None and self.tool_choice != "none":
            raise ValueError("an answer that may call tools has no other shape; tool_choice='none' rules calls out")
        return self

    @property
    def forced_calls(self) -> tuple[Tool, ...]:
        """The tools of which one must be called; empty where the model may answer without a call."""
        if self.tool_choice in ("auto", "none"):
            return ()
        return tuple(tool for tool in self.tools if self.tool_choice in ("required", tool.name))


class EmbedRequest(Value):
    """Texts to embed; ``pooling`` selects the hidden states that represent a text."""

    inputs: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    pooling: Pooling = "mean"
    normalize: bool = True


class ScoreRequest(Value):
    """A raw ``prompt`` or ``messages``, with their chat template, to be scored token by token."""

    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    #: Alternatives to report for each token, likeliest first.
    top: Annotated[int, Field(ge=0, le=20)] = 0
    #: Tokens that are read together; ``None`` is the engine's context.
    window: Annotated[int, Field(ge=2)] | None = None
    #: Tokens scored in each window after the first; ``None`` is half a window.
    stride: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _sound(self) -> ScoreRequest:
        if bool(self.prompt) == bool(self.messages):
            raise ValueError("there must be a text or messages, not both and not neither")
        if self.window is not None and self.stride is not None and self.stride >= self.window:
            raise ValueError(f"a stride of {self.stride} leaves no context in a window of {self.window}")
        return self
