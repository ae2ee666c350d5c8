"""The ONNX Runtime backend. Nothing here imports ONNX Runtime until a model is loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from llama4sdk.backend import Backend, Need, Offer, Unavailable
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.catalog import models
from llama4sdk.errors import CheckpointError, ModelLoadError, WeightsNotFoundError
from llama4sdk.hardware import Hardware
from llama4sdk.local.memory_meter import MemoryMeter, require_room
from llama4sdk.plan import Plan
from llama4sdk.probe import free_memory
from llama4sdk.progress import Progress
from llama4sdk.weights.exports import JOURNAL
from llama4sdk.weights.store import locate
from llama4sdk.weights.tensor_names import vision_parameters
from llama4sdk_onnx.export_directory import Export
from llama4sdk_onnx.manifest import is_export
from llama4sdk_onnx.offer import ExportedModel, make_offer

if TYPE_CHECKING:
    from llama4sdk_onnx.engine import OnnxEngine


class OnnxBackend(Backend):
    """Runs what ``llama4sdk export --to onnx`` wrote, on one device."""

    name: ClassVar[str] = "onnx"

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """An offer for an export directory that fits. Of its files only the small ones are read."""
        if need.model is None:
            return Unavailable(reason="it must be told which model to run.", fix="Pass the directory of an export.")
        folder = _folder(need.model)
        if folder is None or not is_export(folder):
            return _not_exported(need.model, folder)
        try:
            model = _exported_model(need.model, Export(folder))
        except CheckpointError as error:
            return Unavailable(reason=error.message, fix=error.hint, damaged=True)
        return make_offer(model, need, hardware)

    def load(self, plan: Plan, *, progress: Progress | None = None) -> OnnxEngine:
        """Check every file against the manifest, telling ``progress`` how far that is, and open the graphs.

        Raises WeightsNotFoundError for a plan without a directory, CheckpointError when files are missing or were
        changed, DeviceMemoryError when they do not fit, ModelLoadError when ONNX Runtime cannot be used there.
        """
        if plan.source is None:
            raise WeightsNotFoundError(
                f"'{plan.model}' was not exported.", hint="Pass the directory of an export as the model."
            )
        export = Export(Path(plan.source))
        require_room(plan, free_memory(plan.placement.devices[0]))
        export.verify(progress)
        meter = MemoryMeter(plan)
        with meter.watching():  # ONNX Runtime itself takes memory, too
            return _load(export, plan, meter)


def _load(export: Export, plan: Plan, meter: MemoryMeter) -> OnnxEngine:
    try:
        from llama4sdk_onnx.engine import OnnxEngine
    except ImportError as error:
        raise ModelLoadError(
            f"ONNX Runtime cannot be imported: {error}.",
            hint="Install it anew: pip install --force-reinstall 'llama4sdk-onnx[cpu]' (or 'llama4sdk-onnx[gpu]')",
        ) from error
    return OnnxEngine(
        export,
        model=plan.model,
        context_length=plan.context_length,
        device=plan.placement.devices[0],
        memory_limit=plan.memory.get(plan.placement.devices[0]),
        batch=plan.batch or 1,
        meter=meter,
    )


def _exported_model(name: str, export: Export) -> ExportedModel:
    vision = export.vision
    facts = ModelFacts(
        name=name,
        config=export.config,
        vision_parameters=vision_parameters(vision, export.config.hidden_size) if vision else 0,
        precision=export.manifest.quantization,
        source=export.path,
        chats=export.prompt_format() is not None,
        calls_tools=export.calls_tools,
    )
    return ExportedModel(facts, export.manifest)


def _folder(model: str) -> Path | None:
    """The directory that is meant, if there is one; catalogue names come before paths, as everywhere."""
    if not model or "\0" in model or models.find(model) is not None:
        return None
    path = Path(os.path.expanduser(model))  # noqa: PTH111  (Path.expanduser raises for an unknown ~user)
    return path if path.is_dir() else None


def _not_exported(model: str, folder: Path | None) -> Unavailable:
    """Why a name or a path is nothing to run here."""
    if folder is not None and (folder / JOURNAL).is_file():
        return Unavailable(
            reason=f"{folder} is an export that was not finished.",
            fix="Run the command that began it again: it goes on where it stopped.",
        )
    spec = models.find(model)
    if (spec is None or spec.config is None) and locate(model) is None:
        return Unavailable(
            reason=f"'{model}' is neither an export nor a model that could be exported.",
            fix="Pass the directory that 'llama4sdk export MODEL --to onnx DIRECTORY' wrote.",
        )
    return Unavailable(
        reason=f"'{model}' was not exported: it runs what 'llama4sdk export' wrote.",
        fix=f"Run 'llama4sdk export {model} --to onnx -q int4 DIRECTORY', and pass that directory as the model.",
    )
