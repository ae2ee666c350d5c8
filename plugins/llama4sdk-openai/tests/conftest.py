"""Fake servers, and an environment without vendors' settings."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from llama4sdk_openai.profiles import load_profiles

from .fake_server import Fake, serving

#: Peers are real servers; see the tox environments ``peers-llamacpp`` and ``peers-vllm``.
collect_ignore = [
    module
    for module, variable in (("test_llamacpp_peer.py", "PEERS_LLAMACPP"), ("test_vllm_peer.py", "PEERS_VLLM"))
    if not os.environ.get(variable)
]

OTHERS = ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "VERTEXAI_LOCATION", "GOOGLE_APPLICATION_CREDENTIALS")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for profile in load_profiles().values():
        for name in (*profile.url_variables, *profile.key_variables, *OTHERS):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A server with vLLM's dialect."""
    with serving() as server:
        yield server
