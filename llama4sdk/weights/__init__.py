"""Where checkpoints come from, and what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from llama4sdk.catalog.models import ModelSpec
    from llama4sdk.plan import Plan
    from llama4sdk.progress import Progress

__all__ = ["can_pull", "kept", "locate", "missing", "pull", "unfinished"]


def locate(model: str) -> Path | None:
    """The local path of a catalogue model, a path, or a Hugging Face repository id; ``None`` when it is not here."""
    from llama4sdk.weights import store

    return store.locate(model)


def unfinished(model: str) -> tuple[Path, int] | None:
    """Where a catalogue model that is not whole has begun to arrive, and how many bytes of it are there."""
    from llama4sdk.weights import store

    return store.unfinished(model)


def kept() -> list[tuple[Path, int]]:
    """Every model that is kept on this machine, whole or not, with its bytes."""
    from llama4sdk.weights import store

    return list(store.kept())


def can_pull(model: str) -> bool:
    """Whether ``pull`` can fetch this model: its weights are free to take, without an account or a signed licence."""
    from llama4sdk.catalog import models

    return models.find(model) is models.DEMO


def pull(model: str, *, progress: Progress | None = None) -> Path:
    """Fetch a model's weights, verified, and return where they are; at once when they are here already.

    Interrupted at any point, nothing broken is left and the next call starts again. Raises DownloadError when the
    weights cannot be had this way (the hint says how they can), UnknownModelError for a name nobody knows.
    """
    from llama4sdk.weights import demo, store

    if found := store.locate(model):
        return found
    if not can_pull(model):
        raise _not_ours_to_fetch(model)
    return demo.fetch(demo.DEMO, store.model_dir(store.DEMO), progress=progress)


def _not_ours_to_fetch(model: str) -> Exception:
    from llama4sdk.catalog import models
    from llama4sdk.errors import DownloadError

    spec = models.find(model)
    if spec is not None:
        return DownloadError(_why_not(spec), hint=_how_instead(spec))
    if model.count("/") == 1:
        return DownloadError(
            f"'{model}' is not fetched by llama4sdk.", hint=f"Run 'hf download {model}', then use it by that name."
        )
    return models.unknown_model(model)


def _why_not(spec: ModelSpec) -> str:
    if not spec.released:
        return f"{spec.title} was never released, so there are no weights to fetch."
    return f"The weights of {spec.title} are gated: Meta gives them to those who accept the {spec.license}."


def _how_instead(spec: ModelSpec) -> str | None:
    if spec.repository is None:
        return None
    return (
        f"Accept the licence at https://huggingface.co/{spec.repository}, run 'hf auth login' and "
        f"'hf download {spec.repository}'; llama4sdk then finds it as '{spec.name}'."
    )


def missing(plan: Plan) -> bool:
    """Whether a plan's weights are not here yet and ``pull`` can fetch them."""
    return plan.source is None and plan.placement.kind != "remote" and can_pull(plan.model)
