"""The contract, against a server that speaks as Ollama does. Ollama itself is no package that tests could install."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from llama4sdk_ollama.backend import OllamaBackend

from llama4sdk.backend import BackendInfo, Need
from llama4sdk.registry import Registered
from llama4sdk.testing import BackendConformance

from .fake import ABLE, Fake

ASKS = "a server of one's own is asked what it has, within a second"


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[Fake]:
    """Where ``OLLAMA_HOST`` points to."""
    with pytest.MonkeyPatch.context() as patch, Fake() as fake:
        patch.setenv("OLLAMA_HOST", fake.url)
        patch.delenv("OLLAMA_API_KEY", raising=False)
        yield fake


class TestOllama(BackendConformance):
    """With a model that can do everything."""

    backend = OllamaBackend
    need = Need(model=ABLE, context_length=2048)

    @pytest.mark.xfail(strict=True, reason=ASKS)
    def test_offering_is_quick_and_touches_nothing(self, registered: Registered, info: BackendInfo) -> None:
        """It connects to the address it was given, and to nothing else."""
        super().test_offering_is_quick_and_touches_nothing(registered, info)
