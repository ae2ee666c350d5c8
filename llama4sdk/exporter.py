"""The contract between the core and every exporter: what writes a checkpoint as files of another engine.

A plugin's hook ``llama4sdk_exporters`` returns ``ExporterInfo`` values. The class that one names is imported when the
exporter is asked for, and no earlier.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeAlias

from pydantic import Field

from llama4sdk._installed import missing
from llama4sdk._values import Value
from llama4sdk.backend import CONTRACT_VERSION
from llama4sdk.progress import Progress

__all__ = ["ExportOptions", "ExportReport", "Exporter", "ExporterInfo", "Notice"]

Notice: TypeAlias = Callable[[str], None]
"""Told, in a sentence, what somebody who waits should know."""


class ExporterInfo(Value):
    """An exporter's visiting card. Making one must import nothing heavy."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    summary: str
    cls: str = Field(pattern=r"^[\w.]+:\w+$")
    """Where the ``Exporter`` subclass is: ``package.module:Class``."""
    requires: tuple[str, ...] = ()
    """Modules that must be installed to export."""
    install: str | None = None
    """The command that installs what ``requires`` names."""
    contract: int = CONTRACT_VERSION

    def missing_modules(self) -> tuple[str, ...]:
        """Those of ``requires`` that are not installed. Imports none of them."""
        return missing(self.requires)


class ExportOptions(Value):
    """How to export. ``None`` leaves the choice to the exporter."""

    model: str
    """What the checkpoint is called: what a report names."""
    quantization: str | None = None
    """As ``QuantizationConfig.of`` reads it."""
    opset: int | None = None
    """The version of the operators that a graph is made of."""
    portable: bool = False
    """Nothing but standard operators, for engines that lack the fast ones."""
    verify: bool = True
    """Whether to run what was written, and compare with the model that it was made from."""


class ExportReport(Value):
    """What lies in the target now."""

    path: str
    size: int
    """In bytes, of all files."""
    files: int
    quantization: str
    opset: int | None = None
    verified: float | None = None
    """How much logits differ from the original's, as a share of how far they are from each other: at the median token
    of the prompt that was tried."""
    unverified: str | None = None
    """Why nothing was tried, in a sentence's rest; ``None`` where it was."""
    already: bool = False
    """Whether the same was exported before, so that there was nothing to do."""


class Exporter(ABC):
    """A way to write models. Constructed without arguments, with no work done."""

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

        Interrupted at any point, the next call with the same arguments resumes, and nobody can take what is there
        meanwhile for a whole export. ``progress`` counts bytes of the checkpoint. Raises ConfigurationError for options
        that cannot be had and for a target that holds something else, before any work; CheckpointError for a damaged
        checkpoint; ExportError when the target cannot be written, or what was written does not compute the same.
        """
