"""The contract between the core and every exporter: a program that writes a checkpoint in another engine's format.

A plugin's hook ``llama4sdk_exporters`` returns ``ExporterInfo`` values; the class that one names is imported on first
use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeAlias

from llama4sdk._values import Value
from llama4sdk.backend import PluginClass
from llama4sdk.progress import Progress

__all__ = ["ExportOptions", "ExportReport", "Exporter", "ExporterInfo", "Notice"]

#: Receives sentences for the user who waits, such as what is being resumed.
Notice: TypeAlias = Callable[[str], None]


class ExporterInfo(PluginClass):
    """The description of an ``Exporter`` subclass."""


class ExportOptions(Value):
    """Options of one export. ``None`` leaves the choice to the exporter."""

    #: Name of the model, for reports.
    model: str
    #: Quantization, in the notation that ``QuantizationConfig.of`` reads.
    quantization: str | None = None
    #: Version of the operator set that graphs use.
    opset: int | None = None
    #: Use standard operators only, for engines that lack the fast ones.
    portable: bool = False
    #: Run the result and compare its logits with the source model's.
    verify: bool = True


class ExportReport(Value):
    """The result of an export."""

    path: str
    #: Bytes of all files.
    size: int
    files: int
    quantization: str
    opset: int | None = None
    #: Difference of the logits from the source model's, divided by their spread, at the median token of a test prompt.
    verified: float | None = None
    #: The reason why nothing was verified; ``None`` where it was.
    unverified: str | None = None
    #: The target already contained the same export, so nothing was written.
    already: bool = False


class Exporter(ABC):
    """Writes checkpoints in one format. The constructor takes no arguments and does no work."""

    name: ClassVar[str]

    @abstractmethod
    def export(
        self,
        checkpoint: Path,
        target: Path,
        options: ExportOptions,
        *,
        progress: Progress | None = None,
        notice: Notice | None = None,
    ) -> ExportReport:
        """Write the checkpoint into the directory ``target``.

        After an interruption the next call with the same arguments resumes; until then the target cannot be mistaken
        for a complete export. ``progress`` counts bytes of the checkpoint. Raises ConfigurationError for unsupported
        options and for a target that contains something else, before any work; CheckpointError for a damaged
        checkpoint; ExportError when the target cannot be written, or when the export computes something else.
        """
