"""The conformance kit, run with a fake server: Ollama is no package that tests could install."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from llama4sdk_ollama.backend import OllamaBackend

from llama4sdk.backend import Need
from llama4sdk.testing import BackendConformance

from .fake_server import ABLE, Fake


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[Fake]:
    """The server at ``OLLAMA_HOST``."""
    with pytest.MonkeyPatch.context() as patch, Fake() as fake:
        patch.setenv("OLLAMA_HOST", fake.url)
        patch.delenv("OLLAMA_API_KEY", raising=False)
        yield fake


class TestOllama(BackendConformance):
    """A model with all capabilities."""

    backend = OllamaBackend
    need = Need(model=ABLE, context_length=2048)
