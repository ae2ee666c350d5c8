"""What ``optimum-cli`` imports when it starts: ``export onnx`` then knows Llama 4. Nothing heavy until it is run."""

from __future__ import annotations

from typing import Any

from optimum.commands.export.onnx import ONNXExportCommand

REGISTER_COMMANDS: list[Any] = []
"""No commands of our own."""

_run = ONNXExportCommand.run


def _run_knowing_llama4(command: ONNXExportCommand) -> None:
    import llama4sdk_optimum  # noqa: F401

    _run(command)


ONNXExportCommand.run = _run_knowing_llama4
