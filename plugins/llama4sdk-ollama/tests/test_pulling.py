"""Downloads of models by the server."""

from __future__ import annotations

import json

import llama4sdk_ollama
import pytest

from llama4sdk.endpoint import Endpoint, RetryPolicy
from llama4sdk.errors import APIConnectionError, AuthenticationError, DownloadError

from .fake_server import Fake

AT_ONCE = Endpoint(retry=RetryPolicy(base=0.001, retries=2))


def test_a_model_is_downloaded_with_progress(fake: Fake) -> None:
    """The SDK's name or Ollama's will do; progress grows to the total."""
    calls: list[tuple[int, int | None]] = []
    assert llama4sdk_ollama.pull("scout", progress=lambda done, total: calls.append((done, total))) == "llama4:scout"
    assert fake.bodies("/api/pull") == [{"model": "llama4:scout", "stream": True}]
    assert calls == [(0, 1000), (500, 1000), (1000, 1000), (1000, 1010), (1005, 1010), (1010, 1010)]
    assert llama4sdk_ollama.pull("qwen3:8b") == "qwen3:8b"


def test_an_unknown_model_is_an_error(fake: Fake) -> None:
    """The error has the server's words."""
    with pytest.raises(DownloadError, match="file does not exist") as caught:
        llama4sdk_ollama.pull("no-such-model")
    assert caught.value.hint
    assert len(fake.bodies("/api/pull")) == 1


def test_an_interrupted_pull_is_resumed(fake: Fake) -> None:
    """It is resumed as often as the endpoint's policy says, and progress never decreases."""
    status = {"status": "pulling aaaa", "digest": "a", "total": 10, "completed": 5}
    fake.lines = [json.dumps(status).encode() + b"\n"]
    calls: list[tuple[int, int | None]] = []
    with pytest.raises(DownloadError, match="stopped before"):
        llama4sdk_ollama.pull("scout", endpoint=AT_ONCE, progress=lambda done, total: calls.append((done, total)))
    assert len(fake.bodies("/api/pull")) == 3
    assert calls == [(5, 10)] * 3


def test_an_unreachable_server_and_a_missing_key(fake: Fake) -> None:
    """They raise the errors of any request."""
    fake.key = "sesame"
    with pytest.raises(AuthenticationError, match="401"):
        llama4sdk_ollama.pull("scout")
    with pytest.raises(APIConnectionError):
        llama4sdk_ollama.pull("scout", endpoint=Endpoint(url="http://127.0.0.1:1", retry=RetryPolicy(retries=0)))
