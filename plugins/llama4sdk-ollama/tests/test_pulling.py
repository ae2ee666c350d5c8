"""Fetching a model on the server's side."""

from __future__ import annotations

import json

import llama4sdk_ollama
import pytest

from llama4sdk.endpoint import Endpoint, RetryPolicy
from llama4sdk.errors import APIConnectionError, AuthenticationError, DownloadError

from .fake_server import Fake

AT_ONCE = Endpoint(retry=RetryPolicy(base=0.001, retries=2))


def test_a_model_is_fetched_with_progress(fake: Fake) -> None:
    """By the SDK's name or Ollama's; what is done grows to what there is."""
    told: list[tuple[int, int | None]] = []
    assert llama4sdk_ollama.pull("scout", progress=lambda done, total: told.append((done, total))) == "llama4:scout"
    assert fake.of("/api/pull") == [{"model": "llama4:scout", "stream": True}]
    assert told == [(0, 1000), (500, 1000), (1000, 1000), (1000, 1010), (1005, 1010), (1010, 1010)]
    assert llama4sdk_ollama.pull("qwen3:8b") == "qwen3:8b"


def test_what_there_is_not_is_an_error(fake: Fake) -> None:
    """In the server's words."""
    with pytest.raises(DownloadError, match="file does not exist") as caught:
        llama4sdk_ollama.pull("no-such-model")
    assert caught.value.hint
    assert len(fake.of("/api/pull")) == 1


def test_an_interrupted_pull_is_taken_up_again(fake: Fake) -> None:
    """As often as the endpoint's policy says; what was told never goes back."""
    half = {"status": "pulling aaaa", "digest": "a", "total": 10, "completed": 5}
    fake.lines = [json.dumps(half).encode() + b"\n"]
    told: list[tuple[int, int | None]] = []
    with pytest.raises(DownloadError, match="stopped before"):
        llama4sdk_ollama.pull("scout", endpoint=AT_ONCE, progress=lambda done, total: told.append((done, total)))
    assert len(fake.of("/api/pull")) == 3
    assert told == [(5, 10)] * 3


def test_a_server_that_is_not_there_or_wants_a_key(fake: Fake) -> None:
    """As with any request."""
    fake.key = "sesame"
    with pytest.raises(AuthenticationError, match="401"):
        llama4sdk_ollama.pull("scout")
    with pytest.raises(APIConnectionError):
        llama4sdk_ollama.pull("scout", endpoint=Endpoint(url="http://127.0.0.1:1", retry=RetryPolicy(retries=0)))
