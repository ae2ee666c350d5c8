"""The options that commands share, as values, and how a command's signature takes them in."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import typer

from llama4sdk.cli.errors import exit_on_error
from llama4sdk.cli.inputs import read_file, read_json_object

if TYPE_CHECKING:
    from llama4sdk.requests import GenerateOptions, SamplingOptions

SETTINGS: Final = {"help_option_names": ["-h", "--help"]}

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
StreamFlag = Annotated[
    bool | None, typer.Option("--stream/--no-stream", help="Print while the model writes; the default on a terminal.")
]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before downloading.")]

#: ``Preference``, whose module takes too long to import for a program that only shows its help.
PolicyName: TypeAlias = Literal["balanced", "quality", "speed", "context", "cost"]

_target = functools.partial(typer.Option, rich_help_panel="What runs, and where")
_sampling = functools.partial(typer.Option, rich_help_panel="Sampling")
_shape = functools.partial(typer.Option, rich_help_panel="What the answer looks like")

MODEL_HELP: Final = "A name (see 'llama4sdk models'), a GGUF file, or a checkpoint directory."
QUANTIZATION_HELP: Final = (
    "fp32, bf16, fp16, fp8, int8, int4, int4-g32, …; or by class of modules: experts=int4,attention=int8."
)
NEED_HELP: Final = "What requests will use: images, tools, json_schema, embed, … (repeatable)."


@dataclass(frozen=True, kw_only=True)
class Target:
    """The model to run, and how; ``None`` leaves a choice to the planner."""

    model: Annotated[str | None, _target("--model", "-m", help=MODEL_HELP)] = None
    backend: Annotated[str | None, _target("--backend", "-b", help="See 'llama4sdk backends'.")] = None
    endpoint: Annotated[str | None, _target("--endpoint", "-e", metavar="URL", help="The server to ask.")] = None
    ask_key: Annotated[bool, _target("--ask-key", help="Ask for the API key at the terminal.")] = False
    device: Annotated[str | None, _target("--device", "-d", help="cpu, cuda:0, mps, …")] = None
    quantization: Annotated[str | None, _target("--quantization", "-q", help=QUANTIZATION_HELP)] = None
    context_length: Annotated[int | None, _target("--context-length", "-c", help="Tokens of prompt and answer.")] = None
    need: Annotated[list[str] | None, _target(help=NEED_HELP)] = None
    language: Annotated[list[str] | None, _target(help="What they will be in: Hindi, Thai, … (repeatable).")] = None
    remote: Annotated[bool, _target("--remote", help="Allow backends that send prompts elsewhere.")] = False
    fallback: Annotated[
        list[str] | None,
        _target(metavar="BACKEND[=MODEL]", help="Ask this one where those before it fail (repeatable)."),
    ] = None
    policy: Annotated[PolicyName, _target(help="What counts first where several plans are possible.")] = "balanced"

    @property
    def fallbacks(self) -> tuple[str | tuple[str, str], ...]:
        """The fallbacks as ``Policy.fallback`` takes them."""
        pairs = (text.partition("=") for text in self.fallback or ())
        return tuple((backend, model) if model else backend for backend, _, model in pairs)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn; what is not given is the model's own default."""

    max_tokens: Annotated[int | None, _sampling("--max-tokens", "-n", help="At most this many.")] = None
    temperature: Annotated[float | None, _sampling("--temperature", "-t", help="0 takes the likeliest token.")] = None
    top_p: Annotated[float | None, _sampling(help="Keep this total probability.")] = None
    top_k: Annotated[int | None, _sampling(help="Keep this many of the likeliest tokens.")] = None
    min_p: Annotated[float | None, _sampling(help="Drop tokens below this share of the likeliest.")] = None
    repetition_penalty: Annotated[float | None, _sampling(help="Above 1: seen tokens become less likely.")] = None
    seed: Annotated[int | None, _sampling(help="Makes an answer repeatable.")] = None
    stop: Annotated[list[str] | None, _sampling(help="Stop before this text (repeatable).")] = None
    logprobs: Annotated[int | None, _sampling(help="Report log-probabilities and this many alternatives.")] = None

    def as_options(self) -> SamplingOptions:
        """The options that are set, as ``Client.chat`` takes them."""
        options: SamplingOptions = {}
        for name, value in vars(self).items():
            if value not in (None, []):
                options[name] = value  # type: ignore[literal-required]  # the fields are the options' names
        return options


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """The form that the answer must have; at most one can be set."""

    schema: Annotated[Path | None, _shape(help="JSON of the JSON schema in this file.")] = None
    regex: Annotated[str | None, _shape(help="Text that this regular expression matches.")] = None
    grammar: Annotated[Path | None, _shape(help="Text of the Lark grammar in this file.")] = None

    def as_options(self) -> GenerateOptions:
        """The options that are set, as ``Client.generate`` takes them. Raises InvalidRequestError for a bad file."""
        options: GenerateOptions = {}
        if self.regex is not None:
            options["regex"] = self.regex
        if self.grammar is not None:
            options["grammar"] = read_file(self.grammar, "grammar")
        return options

    def read_schema(self) -> dict[str, object] | None:
        """The schema; ``None`` if the option is not set. Raises InvalidRequestError for a file that holds none."""
        return None if self.schema is None else read_json_object(self.schema, "schema")


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command for typer: each option group of its signature as single options, and errors as exit statuses."""
    groups: dict[str, type] = {}
    flat: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        group = parameter.annotation
        if isinstance(group, type) and is_dataclass(group):
            groups[parameter.name] = group
            flat += inspect.signature(group, eval_str=True).parameters.values()
        else:
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**values: object) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        exit_on_error(lambda: command(**values))

    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]  # where inspect and typer look first
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return run
