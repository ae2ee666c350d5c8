"""Imports of the package: their cost, and the names they promise."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import llama4sdk

HEAVY = ["torch", "numpy", "httpx", "onnxruntime", "transformers", "tokenizers", "gguf", "rich", "typer", "asyncio"]


def loaded_after(code: str) -> set[str]:
    """The modules a fresh interpreter has loaded after running ``code``."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


@pytest.mark.parametrize("code", ["import llama4sdk", "from llama4sdk import Client"])
def test_importing_loads_nothing_heavy_and_no_plugin(code: str) -> None:
    """Neither import loads a tensor library, an HTTP client or any plugin."""
    loaded = loaded_after(code)
    assert not loaded & set(HEAVY)
    assert not {name for name in loaded if name.startswith(("llama4sdk_", "llama4sdk.echo", "llama4sdk.cli."))}


def test_the_bare_import_does_not_even_load_pydantic() -> None:
    """``import llama4sdk`` costs a few milliseconds because nothing is behind it yet."""
    assert "pydantic" not in loaded_after("import llama4sdk")


def test_engines_that_run_networks_load_no_tensor_library_but_numpy() -> None:
    """Their shared code works without torch; llguidance is loaded with the first constraint."""
    loaded = loaded_after("import llama4sdk.local.engine, llama4sdk.weights.quantization_plan")
    assert "numpy" in loaded
    assert not loaded & {"torch", "onnxruntime", "transformers", "llguidance", "gguf", "httpx", "rich", "typer"}


def test_every_public_name_can_be_imported_and_listed() -> None:
    """``__all__``, ``dir`` and the lazy table name the same things."""
    for name in llama4sdk.__all__:
        assert getattr(llama4sdk, name) is not None
    assert set(dir(llama4sdk)) == set(llama4sdk.__all__)


def test_public_surface() -> None:
    """The surface is a decision: a change to it changes this list in the same commit."""
    assert sorted(llama4sdk.__all__) == [
        "AsyncClient", "AsyncStream", "Attempt", "BatchItem", "Client", "Completion", "Embeddings", "Endpoint", "Event",
        "Finish", "Hardware", "ImagePart", "Llama4Error", "Message", "Place", "Plan", "Policy", "Quantization",
        "QuantizationConfig", "RetryPolicy", "SamplingParams", "Scores", "Stream", "TextDelta", "TextPart", "Timeouts",
        "TokenLogprob", "Tool", "ToolCall", "ToolCallDelta", "Usage", "VideoPart", "__version__",
    ]  # fmt: skip


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The lazy module fails as any module does."""
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        getattr(llama4sdk, "Clint")  # noqa: B009 - a plain attribute would not type-check


def test_all_names_what_the_modules_define() -> None:
    """Every public module has an ``__all__``, and it is true."""
    root = Path(llama4sdk.__file__).parent
    for path in sorted(root.glob("*.py")):
        if path.stem.startswith("_") or path.stem == "settings":
            continue
        module = importlib.import_module(f"llama4sdk.{path.stem}")
        missing = [name for name in module.__all__ if not hasattr(module, name)]
        assert not missing, f"{path.name} exports {missing} but does not define them"


@pytest.mark.skipif(not os.environ.get("TEST_WHEELS"), reason="the run does not claim to test the wheels")
def test_the_wheel_is_what_is_tested() -> None:
    """Under tox the installed package is imported, not the checkout, and it carries its type marker."""
    home = Path(llama4sdk.__file__).parent
    assert "site-packages" in home.parts
    assert (home / "py.typed").is_file()
