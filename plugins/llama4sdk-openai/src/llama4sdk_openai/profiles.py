"""Differences between endpoints of one protocol, as data: ``profiles.toml``, one table for each backend."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Final, Literal

from pydantic import Field, JsonValue

from llama4sdk._values import Value
from llama4sdk.capabilities import Capabilities, Feature

ConstraintKind = Literal["json_schema", "regex", "grammar"]

#: Where in a request a constraint stands, and in which notation.
ConstraintField = Literal["response_format", "structured_outputs", "json_schema", "sglang", "tgi", "regex"]

#: The ``Endpoint.options`` that every backend here takes.
COMMON_OPTIONS: Final = ("context_length", "extra_body", "rescue")

#: JSON schemas in chats: what nearly every endpoint has.
SCHEMAS_IN_CHATS: Final[dict[ConstraintKind, ConstraintField]] = {"json_schema": "response_format"}


class Profile(Value):
    """One backend. Endpoints differ in these fields and in nothing else."""

    name: str
    summary: str

    #: The default address; ``None`` where every user has an address of their own.
    url: str | None = None
    #: Added to an address that has no path.
    path: str = "/v1"
    #: Environment variables for the address and the key; the first that is set counts.
    url_variables: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    key: Literal["required", "optional"] = "required"
    auth: Literal["bearer", "api-key", "google"] = "bearer"
    headers: dict[str, str] = Field(default_factory=dict)
    #: The ``Endpoint.options`` that only this backend takes.
    options: tuple[str, ...] = ()

    #: Whether users run it themselves, so that it is asked what it serves when a plan is made.
    self_hosted: bool = False
    #: The command that starts such a server.
    start_command: str | None = None
    #: How the server is asked for its models and their context, and for token counts.
    discovery: Literal["models", "vllm", "llamacpp", "tgi", "lmstudio"] | None = None
    counting_api: Literal["vllm", "llamacpp"] | None = None

    features: frozenset[Feature]
    sampling: frozenset[str]
    constraints: dict[ConstraintKind, ConstraintField] = Field(default_factory=lambda: SCHEMAS_IN_CHATS)

    #: Names of sampling options that differ from the SDK's.
    option_names: dict[str, str] = Field(default_factory=dict)
    #: Fields that must accompany a sampling option for it to mean what the SDK says.
    option_companions: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    #: Values of sampling options that change nothing and that the endpoint refuses: they are left out.
    omitted_values: dict[str, float] = Field(default_factory=dict)

    #: Whether a chat asks for logprobs with a flag and ``top_logprobs``, or with one number.
    logprobs: Literal["flag", "integer"] = "flag"
    max_logprobs: int = 20
    logprobs_with_tools: bool = True
    completion_logprobs: bool = True

    #: Whether a stream's usage must be asked for, and whether usage has the cost in US dollars.
    requests_usage: bool = True
    reports_cost: bool = False
    #: Limit sent to ``/completions`` where the caller set none: nothing, or the tokens that surely fit, for servers
    #: that otherwise end after a few tokens.
    completion_limit: Literal["omit", "remaining_context"] = "omit"

    #: Whether one tool can be demanded by its name; elsewhere it is the only one sent.
    named_tool_choice: bool = True
    #: Whether a demanded call comes at once; elsewhere a JSON schema gives the answer the form of a call.
    enforces_tool_choice: bool = True

    #: Fields sent with every chat, and with every completion.
    chat_fields: dict[str, JsonValue] = Field(default_factory=dict)
    completion_fields: dict[str, JsonValue] = Field(default_factory=dict)

    embeddings: Literal["openai", "feature-extraction"] = "openai"
    embedding_format: Literal["float", "base64"] | None = None
    #: Fields that ask for vectors without normalization; ``None`` where that cannot be asked.
    unnormalized_fields: dict[str, JsonValue] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of the endpoint at best; a model there may have fewer."""
        return Capabilities(features=self.features | {"astream"}, sampling=self.sampling, remote=True)

    @property
    def class_name(self) -> str:
        """The name of the backend's class in ``llama4sdk_openai.backends``."""
        return "".join(part.capitalize() for part in self.name.split("-")) + "Backend"


@cache
def load_profiles() -> dict[str, Profile]:
    """Read all profiles, by name."""
    text = files("llama4sdk_openai").joinpath("profiles.toml").read_text(encoding="utf-8")
    return {name: Profile.model_validate({"name": name} | fields) for name, fields in tomllib.loads(text).items()}
