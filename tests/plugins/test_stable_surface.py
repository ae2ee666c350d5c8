"""The modules and names that authors of plugins may rely on: a change here is a decision, noted in the changelog."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Final

import pytest

PAGE: Final = (Path(__file__).parents[2] / "docs" / "stability.md").read_text(encoding="utf-8")

#: Every module that docs/stability.md lists, with the names that plugins import from it.
SURFACE: Final = {
    "backend": (
        "CONTRACT_VERSION", "Backend", "BackendInfo", "Capabilities", "Engine", "Feature", "Need", "Offer",
        "Unavailable",
    ),
    "capabilities": ("ALL_SAMPLING_OPTIONS", "Capabilities", "Feature"),
    "endpoint": ("Endpoint", "RetryPolicy", "Timeouts"),
    "errors": (
        "APIConnectionError", "APIError", "APIStatusError", "APITimeoutError", "AuthenticationError", "BackendError",
        "BatchFileError", "BudgetExceededError", "CheckpointError", "ClientClosedError", "ConfigurationError",
        "ContentFilteredError", "ContextLengthError", "DeviceMemoryError", "DownloadError", "ExportError",
        "InsufficientMemoryError", "InvalidRequestError", "Llama4Error", "ModelLoadError", "ModelRetiredError",
        "NoBackendError", "OverloadedError", "PermissionDeniedError", "PlanningError", "PluginContractError",
        "PluginError", "PluginLoadError", "RateLimitError", "StreamClosedError", "StreamError",
        "StreamInterruptedError", "StructuredOutputError", "ToolLimitError", "UnknownBackendError", "UnknownModelError",
        "UnknownOptionError", "UnsupportedFeatureError", "WeightsNotFoundError",
    ),
    "events": (
        "Attempt", "Event", "Finish", "FinishReason", "TextDelta", "TokenLogprob", "ToolCallDelta", "TopLogprob",
        "Usage",
    ),
    "exporter": ("ExportOptions", "ExportReport", "Exporter", "ExporterInfo", "Notice"),
    "hardware": ("Cpu", "Device", "DeviceKind", "DiskKind", "Hardware", "Link", "Runtime"),
    "hookspecs": ("ENTRY_POINT_GROUP", "hookimpl", "hookspec"),
    "llama4.stop_strings": ("cut",),
    "local.windows": ("room_for_answer", "windows"),
    "messages": ("Frame", "ImagePart", "Message", "Part", "Role", "TextPart", "ToolCall", "VideoPart"),
    "plan": ("Breakdown", "Decision", "Placement", "Plan", "Preference", "Rejection"),
    "quantization": ("MatrixFormat", "ModuleClass", "Quantization", "QuantizationConfig"),
    "requests": ("EmbedRequest", "Pooling", "Request", "SamplingParams", "ScoreRequest", "Tool"),
    "results": ("Completion", "Embeddings", "Memory", "Scores", "fold"),
    "testing": (
        "MACHINES", "BackendConformance", "ScriptedBackend", "ScriptedEngine", "Step", "machine", "scripted_registry",
    ),
}  # fmt: skip


def test_the_page_lists_these_modules_and_no_others() -> None:
    """The modules that the page promises are those that are tested."""
    listed = {
        name for row in re.findall(r"^\| (`.*`) \|", PAGE, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    }
    assert listed == {f"llama4sdk.{module}" for module in SURFACE}


@pytest.mark.parametrize("module", SURFACE)
def test_plugins_can_import_what_they_are_promised(module: str) -> None:
    """Each name is there, and is exported by its module."""
    content = importlib.import_module(f"llama4sdk.{module}")
    assert set(SURFACE[module]) <= set(content.__all__)
    for name in SURFACE[module]:
        assert getattr(content, name) is not None
