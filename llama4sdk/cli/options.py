"""The options that commands share, as values, and how a command's signature takes them in."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, get_type_hints

import typer

from llama4sdk.cli.errors import guarded
from llama4sdk.cli.inputs import read_file, read_json_object

if TYPE_CHECKING:
    from llama4sdk.plan import Preference
    from llama4sdk.requests import GenerateOptions, SamplingOptions

__all__ = ["SETTINGS", "JsonFlag", "Sampling", "Shape", "Target", "expanded"]

SETTINGS: Final = {"help_option_names": ["-h", "--help"]}

PLAN_PANEL: Final = "What runs, and where"
SAMPLING_PANEL: Final = "Sampling"
SHAPE_PANEL: Final = "What the answer looks like"

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]


class Wanted(StrEnum):
    """What a policy may prefer, as typer takes choices."""

    BALANCED = "balanced"
    QUALITY = "quality"
    SPEED = "speed"
    CONTEXT = "context"
    COST = "cost"


@dataclass(frozen=True, kw_only=True)
class Target:
    """What to run and where; ``None`` leaves it to the planner."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A name (see 'llama4sdk models'), a GGUF file, or a checkpoint directory.",
            rich_help_panel=PLAN_PANEL,
        ),
    ] = None
    backend: Annotated[
        str | None,
        typer.Option("--backend", "-b", help="See 'llama4sdk backends'.", rich_help_panel=PLAN_PANEL),
    ] = None
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", "-e", metavar="URL", help="The server to ask.", rich_help_panel=PLAN_PANEL),
    ] = None
    ask_key: Annotated[
        bool, typer.Option("--ask-key", help="Ask for the API key at the terminal.", rich_help_panel=PLAN_PANEL)
    ] = False
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="cpu, cuda:0, mps, …", rich_help_panel=PLAN_PANEL)
    ] = None
    quantization: Annotated[
        str | None,
        typer.Option(
            "--quantization",
            "-q",
            help="fp32, bf16, fp16, fp8, int8, int4, int4-g32, …; or by class of modules: experts=int4,attention=int8.",
            rich_help_panel=PLAN_PANEL,
        ),
    ] = None
    context_length: Annotated[
        int | None,
        typer.Option("--context-length", "-c", help="Tokens of prompt and answer.", rich_help_panel=PLAN_PANEL),
    ] = None
    need: Annotated[
        list[str] | None,
        typer.Option(
            help="What requests will use: images, tools, json_schema, embed, … (repeatable).",
            rich_help_panel=PLAN_PANEL,
        ),
    ] = None
    language: Annotated[
        list[str] | None,
        typer.Option(help="What they will be in: Hindi, Thai, … (repeatable).", rich_help_panel=PLAN_PANEL),
    ] = None
    remote: Annotated[
        bool,
        typer.Option("--remote", help="Allow backends that send prompts elsewhere.", rich_help_panel=PLAN_PANEL),
    ] = False
    fallback: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BACKEND[=MODEL]",
            help="Ask this one where those before it fail (repeatable).",
            rich_help_panel=PLAN_PANEL,
        ),
    ] = None
    policy: Annotated[
        Wanted, typer.Option(help="What counts first where several plans are possible.", rich_help_panel=PLAN_PANEL)
    ] = Wanted.BALANCED

    @property
    def prefer(self) -> Preference:
        """The policy as ``Policy.prefer`` takes it."""
        return self.policy.value

    @property
    def places(self) -> tuple[str | tuple[str, str], ...]:
        """The fallbacks as ``Policy.fallback`` takes them."""
        split = (place.partition("=") for place in self.fallback or ())
        return tuple((backend, model) if model else backend for backend, _, model in split)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn; what is not given is the model's own default."""

    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", "-n", help="At most this many.", rich_help_panel=SAMPLING_PANEL)
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", "-t", help="0 takes the likeliest token.", rich_help_panel=SAMPLING_PANEL),
    ] = None
    top_p: Annotated[
        float | None, typer.Option(help="Keep this total probability.", rich_help_panel=SAMPLING_PANEL)
    ] = None
    top_k: Annotated[
        int | None, typer.Option(help="Keep this many of the likeliest tokens.", rich_help_panel=SAMPLING_PANEL)
    ] = None
    min_p: Annotated[
        float | None,
        typer.Option(help="Drop tokens below this share of the likeliest.", rich_help_panel=SAMPLING_PANEL),
    ] = None
    repetition_penalty: Annotated[
        float | None,
        typer.Option(help="Above 1: seen tokens become less likely.", rich_help_panel=SAMPLING_PANEL),
    ] = None
    seed: Annotated[int | None, typer.Option(help="Makes an answer repeatable.", rich_help_panel=SAMPLING_PANEL)] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(help="Stop before this text (repeatable).", rich_help_panel=SAMPLING_PANEL),
    ] = None
    logprobs: Annotated[
        int | None,
        typer.Option(help="Report log-probabilities and this many alternatives.", rich_help_panel=SAMPLING_PANEL),
    ] = None

    def given(self) -> SamplingOptions:
        """The options that were given, as ``Client.chat`` takes them."""
        options: SamplingOptions = {}
        for name, value in vars(self).items():
            if value not in (None, []):
                options[name] = value  # type: ignore[literal-required]  # the fields are the options' names
        return options


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the answer must look like; at most one of them."""

    schema: Annotated[
        Path | None, typer.Option(help="JSON of the JSON schema in this file.", rich_help_panel=SHAPE_PANEL)
    ] = None
    regex: Annotated[
        str | None, typer.Option(help="Text that this regular expression matches.", rich_help_panel=SHAPE_PANEL)
    ] = None
    grammar: Annotated[
        Path | None, typer.Option(help="Text of the Lark grammar in this file.", rich_help_panel=SHAPE_PANEL)
    ] = None

    def given(self) -> GenerateOptions:
        """The options that were given, as ``Client.generate`` takes them. Raises InvalidRequestError for a bad file."""
        options: GenerateOptions = {}
        if self.regex is not None:
            options["regex"] = self.regex
        if self.grammar is not None:
            options["grammar"] = read_file(self.grammar, "grammar")
        return options

    def document(self) -> dict[str, object] | None:
        """The schema, if one was given. Raises InvalidRequestError for a file that holds none."""
        return None if self.schema is None else read_json_object(self.schema, "schema")


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each option group in its signature spread out into single options, and its errors guarded."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)
    }
    parameters = inspect.signature(command).parameters.values()

    @functools.wraps(command)
    def run(**values: object) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        guarded(lambda: command(**values))

    flat = [single for parameter in parameters for single in _spread(parameter, hints)]
    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]  # where inspect and typer look first
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return run


def _spread(parameter: inspect.Parameter, hints: dict[str, object]) -> Iterator[inspect.Parameter]:
    hint = hints[parameter.name]
    if not (isinstance(hint, type) and is_dataclass(hint)):
        yield parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY)
        return
    types = get_type_hints(hint, include_extras=True)
    for field in fields(hint):
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
        )
