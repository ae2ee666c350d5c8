"""Local weights: where they are, what checkpoints contain, and fetching the demo model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llama4sdk.errors import DownloadError
from llama4sdk.progress import Progress
from llama4sdk.weights.store import DEMO, incomplete_model, locate, model_dir, stored_models

if TYPE_CHECKING:
    from llama4sdk.plan import Plan

__all__ = ["can_pull", "incomplete_model", "locate", "needs_pull", "pull", "stored_models"]


def can_pull(model: str) -> bool:
    """Whether ``pull`` can fetch this model: its weights need no account and no signed licence."""
    from llama4sdk.catalog import models

    return models.find(model) is models.DEMO


def needs_pull(plan: Plan) -> bool:
    """Whether a plan's weights are not on this machine, but ``pull`` can fetch them."""
    return plan.source is None and plan.placement.kind != "remote" and can_pull(plan.model)


def pull(model: str, *, progress: Progress | None = None) -> Path:
    """Fetch and verify a model's weights and return their path; at once when they are on this machine.

    An interrupted call leaves nothing broken, and the next one starts again. Raises DownloadError when the weights
    cannot be fetched (the hint says how to get them), UnknownModelError for an unknown name.
    """
    from llama4sdk.weights import demo

    if path := locate(model):
        return path
    if not can_pull(model):
        raise _cannot_pull(model)
    return demo.fetch(demo.DEMO_MODEL, model_dir(DEMO), progress=progress)


def _cannot_pull(model: str) -> Exception:
    from llama4sdk.catalog import models

    spec = models.find(model)
    if spec is None and model.count("/") == 1:
        return DownloadError(
            f"'{model}' is not fetched by llama4sdk.", hint=f"Run 'hf download {model}', then use it by that name."
        )
    if spec is None:
        return models.unknown_model(model)
    reason = f"The weights of {spec.title} are gated: Meta gives them to those who accept the {spec.license}."
    if not spec.released:
        reason = f"{spec.title} was never released, so there are no weights to fetch."
    if spec.repository is None:
        return DownloadError(reason)
    return DownloadError(
        reason,
        hint=f"Accept the licence at https://huggingface.co/{spec.repository}, run 'hf auth login' and "
        f"'hf download {spec.repository}'; llama4sdk then finds it as '{spec.name}'.",
    )
