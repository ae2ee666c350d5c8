"""What all these tests share: no vendor's settings of whoever runs them, and fakes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from llama4sdk_openai.profiles import profiles

from .fake_server import Fake, serving

OTHERS = ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "VERTEXAI_LOCATION", "GOOGLE_APPLICATION_CREDENTIALS")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in profiles().values():
        for name in (*one.url_variables, *one.key_variables, *OTHERS):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A server with vLLM's manners."""
    with serving() as server:
        yield server
