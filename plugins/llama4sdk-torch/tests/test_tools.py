"""Which checkpoints can call tools, and what they read of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from llama4sdk_torch.backend import TorchBackend
from llama4sdk_torch.engine import TorchEngine
from llama4sdk_torch.loading import load_model
from transformers.models.llama4.processing_llama4 import chat_template

from llama4sdk import AsyncClient, Client
from llama4sdk.backend import Need, Offer
from llama4sdk.errors import UnsupportedFeatureError
from llama4sdk.llama4.prompt_format import Llama4Prompt
from llama4sdk.messages import Message
from llama4sdk.requests import Request, Tool
from llama4sdk.testing.machines import LAPTOP
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint

from .reference import MAVERICK_LIKE, llama4_characters_tokenizer

VOCABULARY = 104
WEATHER = Tool(name="get_weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})


@pytest.fixture(scope="module")
def checkpoint(save_tiny: Callable[..., tuple[Path, torch.nn.Module]]) -> Checkpoint:
    """A random network with Llama 4's control tokens and no chat template."""
    folder, _ = save_tiny(**MAVERICK_LIKE, vocab_size=VOCABULARY, eos_token_id=None, max_position_embeddings=4096)
    (folder / "tokenizer.json").write_text(llama4_characters_tokenizer(), encoding="utf-8")
    return open_checkpoint(folder)


def test_tools_are_counted(checkpoint: Checkpoint) -> None:
    """``count_tokens`` foretells what a request with tools reads, in both clients."""
    plain = {"temperature": 0, "max_tokens": 1}

    async def counted() -> int:
        async with AsyncClient(str(checkpoint.path), backend="torch", hardware=LAPTOP) as client:
            return await client.count_tokens("Rain?", tools=[WEATHER])

    with Client(str(checkpoint.path), backend="torch", hardware=LAPTOP) as client:
        answer = client.chat("Rain?", tools=[WEATHER], **plain)
        assert answer.usage.input_tokens == client.count_tokens("Rain?", tools=[WEATHER]) == asyncio.run(counted())
        assert client.count_tokens("Rain?", tools=[WEATHER]) > client.count_tokens("Rain?") + 200


def test_the_checkpoint_says_how_tools_are_called(checkpoint: Checkpoint) -> None:
    """Without a template calls are asked for in Python; a template that lies beside the weights says otherwise."""
    prompt = checkpoint.prompt_format()
    assert prompt == Llama4Prompt(tool_style="pythonic")
    template = checkpoint.path / "chat_template.jinja"
    template.write_text(chat_template, encoding="utf-8")
    try:
        prompt = checkpoint.prompt_format()
        assert prompt is not None
        assert 'Respond in the format {"name": function name' in prompt.render(
            [Message(role="user", content="?")], tools=[WEATHER]
        )
        assert checkpoint.calls_tools
    finally:
        template.unlink()


def test_tools_are_offered_where_the_vocabulary_has_them(checkpoint: Checkpoint, demo: Checkpoint) -> None:
    """A checkpoint with Llama 4's vocabulary can chat and call tools without a template; the demo model cannot call."""
    offer = TorchBackend().offer(Need(model=str(checkpoint.path)), LAPTOP)
    assert isinstance(offer, Offer)
    assert offer.capabilities is not None
    assert {"chat", "tools"} <= offer.capabilities.features
    assert not demo.calls_tools


def test_a_template_without_tools_cannot_carry_them(checkpoint: Checkpoint) -> None:
    """A checkpoint whose own template ignores tools refuses them rather than dropping them."""
    template = checkpoint.path / "chat_template.jinja"
    template.write_text("{{ messages[0].content }}", encoding="utf-8")
    try:
        assert not checkpoint.calls_tools
        engine = TorchEngine(
            checkpoint,
            load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32),
            model="tiny",
            context_length=64,
        )
        with pytest.raises(UnsupportedFeatureError, match="tools"):
            engine.stream(Request(messages=(Message(role="user", content="Hi"),), tools=(WEATHER,)))
        template.write_text("{{ messages[0].content }}{{ tools }}", encoding="utf-8")
        assert checkpoint.calls_tools
    finally:
        template.unlink()
