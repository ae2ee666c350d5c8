"""Refusing what a plan does not support, before anything is loaded or sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llama4sdk.errors import UnsupportedFeatureError
from llama4sdk.requests import Request

if TYPE_CHECKING:
    from llama4sdk.capabilities import Feature
    from llama4sdk.plan import Plan
    from llama4sdk.requests import EmbedRequest, ScoreRequest

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
