"""The ONNX backend keeps the contract, on an export of the demo model."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama4sdk_onnx.backend import OnnxBackend

from llama4sdk.backend import Need
from llama4sdk.testing import BackendConformance
from llama4sdk.weights.store import locate


@pytest.fixture(scope="session", autouse=True)
def exported(demo_int8: Path) -> None:
    """The export must be there before any test asks for an offer."""
    TestOnnx.need = Need(model=str(demo_int8))


@pytest.mark.skipif(locate("demo") is None, reason="the demo model is not here; run 'llama4sdk pull demo'")
class TestOnnx(BackendConformance):
    """The kit, on ``onnx``."""

    backend = OnnxBackend
    need = Need(model="demo")
    prompt = "Once upon a time, a llama"
    max_tokens = 8
