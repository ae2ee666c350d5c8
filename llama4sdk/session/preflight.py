"""Refusing what a plan cannot do, before anything is loaded or sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llama4sdk.errors import UnsupportedFeatureError

if TYPE_CHECKING:
    from llama4sdk.capabilities import Feature
    from llama4sdk.plan import Plan
    from llama4sdk.requests import Request, ScoreRequest

__all__ = ["check_request", "check_score", "require"]

_FEATURE_WORDS: Final[dict[Feature, str]] = {
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


def require(feature: Feature, plan: Plan) -> None:
    """Raise UnsupportedFeatureError unless the plan's backend has declared this feature."""
    if feature not in plan.capabilities.features:
        hint = f"The model in use is '{plan.model}'."
        if feature in ("regex", "grammar") and "json_schema" in plan.capabilities.features:
            hint = f"Use schema=, a type or a JSON schema. {hint}"
        raise UnsupportedFeatureError(plan.backend, _FEATURE_WORDS[feature], hint=hint)


def check_request(request: Request, feature: Feature, plan: Plan) -> None:
    """The same for everything the request asks for, sampling options included."""
    require(feature, plan)
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
    """The same for a text or a conversation to score."""
    require("score", plan)
    if request.messages:
        require("chat", plan)
    if any(message.has_images for message in request.messages):
        raise UnsupportedFeatureError(plan.backend, "scoring images", hint="Send messages of text only.")
