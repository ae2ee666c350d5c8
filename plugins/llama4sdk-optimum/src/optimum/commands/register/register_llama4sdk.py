"""The module by which ``optimum-cli`` knows Llama 4: imported at its start. Heavy imports wait for ``export onnx``."""

from __future__ import annotations

from typing import Any

from optimum.commands.export.onnx import ONNXExportCommand

#: The commands that this module adds to ``optimum-cli``: none.
REGISTER_COMMANDS: list[Any] = []

_run = ONNXExportCommand.run


def _register_and_run(command: ONNXExportCommand) -> None:
    import llama4sdk_optimum  # noqa: F401

    _run(command)


ONNXExportCommand.run = _register_and_run
