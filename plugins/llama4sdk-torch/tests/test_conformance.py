"""The torch backend keeps the contract, on the demo model."""

import pytest
from llama4sdk_torch.backend import TorchBackend

from llama4sdk.backend import Need
from llama4sdk.testing import BackendConformance
from llama4sdk.weights.store import locate


@pytest.mark.skipif(locate("demo") is None, reason="the demo model is not here; run 'llama4sdk pull demo'")
class TestTorch(BackendConformance):
    """The kit, on ``torch``."""

    backend = TorchBackend
    need = Need(model="demo")
    prompt = "Once upon a time, a llama"
    max_tokens = 10
