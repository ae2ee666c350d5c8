"""What differs between endpoints of one protocol, as data: ``profiles.toml``, one table for each backend."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Final, Literal

from pydantic import Field, JsonValue

from llama4sdk._values import Value
from llama4sdk.capabilities import Capabilities, Feature

__all__ = ["COMMON_OPTIONS", "ConstraintField", "Profile", "profile", "profiles"]

ConstraintKind = Literal["json_schema", "regex", "grammar"]

#: Where in a request a constraint stands, and in which notation.
ConstraintField = Literal["response_format", "structured_outputs", "json_schema", "sglang", "tgi", "regex"]

COMMON_OPTIONS = ("context_length", "extra_body", "rescue")
"""The ``Endpoint.options`` that every backend here takes."""

#: JSON schemas in chats: what nearly every endpoint has.
SCHEMAS_IN_CHATS: Final[dict[ConstraintKind, ConstraintField]] = {"json_schema": "response_format"}


class Profile(Value):
    """One backend. Endpoints differ in these, and in nothing else."""

    name: str
    title: str
    """What people call it."""
    summary: str
    url: str | None = None
    """Where it is unless somebody says otherwise; ``None`` where everybody has an address of one's own."""
    path: str = "/v1"
    """Added to an address that has none."""
    url_variables: tuple[str, ...] = ()
    """Environment variables that may hold its address, the first that is set counts."""
    key_variables: tuple[str, ...] = ()
    key: Literal["needed", "optional"] = "needed"
    auth: Literal["bearer", "api-key", "google"] = "bearer"
    own: bool = False
    """Whether it is a server of one's own, that may be asked what it serves."""
    start: str | None = None
    """The command that starts such a server."""
    discovery: Literal["models", "vllm", "llamacpp", "tgi", "lmstudio"] | None = None
    """How it is asked for its model and context."""
    counting: Literal["vllm", "llamacpp"] | None = None
    """How it is asked to count tokens."""
    features: frozenset[Feature]
    sampling: frozenset[str]
    constraints: dict[ConstraintKind, ConstraintField] = Field(default_factory=lambda: SCHEMAS_IN_CHATS)
    names: dict[str, str] = Field(default_factory=dict)
    """Sampling options that it calls something else."""
    beside: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """What must go with a sampling option for it to mean what it says."""
    neutral: dict[str, float] = Field(default_factory=dict)
    """Values that change nothing, and that it refuses: they are left out."""
    logprobs: Literal["flag", "integer"] = "flag"
    """Whether a chat asks for them with a flag and ``top_logprobs``, or with one number."""
    max_logprobs: int = 20
    logprobs_with_tools: bool = True
    completion_logprobs: bool = True
    """Whether ``/completions`` gives them, too."""
    asks_usage: bool = True
    """Whether a stream's usage must be asked for."""
    tells_cost: bool = False
    """Whether its usage says what an answer cost, in dollars."""
    completion_limit: Literal["omit", "room"] = "omit"
    """What keeps ``/completions`` from ending after a few tokens when the caller set no limit: ``room`` sends a number
    that surely fits."""
    names_tools: bool = True
    """Whether one tool can be demanded by its name; elsewhere it is the only one sent."""
    forces_calls: bool = True
    """Whether a call that is demanded comes at once; elsewhere the answer is given the shape of one."""
    chat_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Sent with every chat."""
    completion_body: dict[str, JsonValue] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    embeddings: Literal["openai", "feature-extraction"] = "openai"
    embedding_format: Literal["float", "base64"] | None = None
    raw_vectors: dict[str, JsonValue] | None = None
    """What asks for vectors as the model made them; ``None`` where that cannot be asked."""
    options: tuple[str, ...] = ()
    """The ``Endpoint.options`` that only this one takes."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do at best."""
        return Capabilities(features=self.features | {"astream"}, sampling=self.sampling, remote=True)


@lru_cache(maxsize=1)
def profiles() -> dict[str, Profile]:
    """All of them, by name."""
    text = files("llama4sdk_openai").joinpath("profiles.toml").read_text(encoding="utf-8")
    return {name: Profile.model_validate({"name": name} | fields) for name, fields in tomllib.loads(text).items()}


def profile(name: str) -> Profile:
    """The one of this name."""
    return profiles()[name]
