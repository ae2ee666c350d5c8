"""Tools through the engine: a small random network whose last step is told what to say, token by token."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from llama4sdk_torch.backend import TorchBackend
from llama4sdk_torch.engine import TorchEngine
from llama4sdk_torch.loading import load_model
from llama4sdk_torch.model import TextModel
from transformers.models.llama4.processing_llama4 import chat_template

from llama4sdk import AsyncClient, Client
from llama4sdk.backend import Need, Offer
from llama4sdk.errors import UnsupportedFeatureError
from llama4sdk.events import Event, Finish, TextDelta, ToolCallDelta
from llama4sdk.llama4.prompt import Llama4Prompt
from llama4sdk.messages import Message, ToolCall
from llama4sdk.requests import Request, SamplingParams, Tool
from llama4sdk.results import fold
from llama4sdk.testing.machines import LAPTOP
from llama4sdk.weights.checkpoint import Checkpoint, open_checkpoint

from .reference import CONTROL, MAVERICK_LIKE, PYTHON, llama4_characters_tokenizer

VOCABULARY = 104
WEATHER = Tool(name="get_weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})


class Prompter(TextModel):
    """A real network, but the likeliest next token is always the script's."""

    script: Iterator[int] = iter(())

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The real logits, with the script's token far above all others."""
        logits = super().logits(hidden).clone()
        logits[..., next(self.script)] += 1000
        return logits


@pytest.fixture(scope="module")
def checkpoint(save_tiny: Callable[..., tuple[Path, torch.nn.Module]]) -> Checkpoint:
    """A random network with Llama 4's control tokens and no chat template."""
    folder, _ = save_tiny(**MAVERICK_LIKE, vocab_size=VOCABULARY, eos_token_id=None, max_position_embeddings=4096)
    (folder / "tokenizer.json").write_text(llama4_characters_tokenizer(), encoding="utf-8")
    return open_checkpoint(folder)


@pytest.fixture
def answer(checkpoint: Checkpoint) -> Callable[..., list[Event]]:
    """Answers a request with the given text, in which control tokens are control tokens."""
    real = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    network = Prompter(real.config, real.weights)
    engine = TorchEngine(checkpoint, network, model="tiny", context_length=4096)
    control = checkpoint.tokenizer().control

    def run(text: str, *earlier: Message, tools: tuple[Tool, ...] = (WEATHER,), **sampling: object) -> list[Event]:
        parts = re.split(f"({'|'.join(map(re.escape, CONTROL + PYTHON))})", text)
        ids = [[control[part]] if part in control else checkpoint.tokenizer().encode(part) for part in parts]
        network.script = iter([token for part in ids for token in part])
        params = SamplingParams.model_validate({"temperature": 0} | sampling)
        messages = (Message(role="user", content="Rain?"), *earlier)
        return list(engine.stream(Request(messages=messages, tools=tools, sampling=params)))

    return run


@pytest.mark.parametrize(
    "text",
    [
        '<|python_start|>[get_weather(city="Lima")]<|python_end|><|eom|>',
        '[get_weather(city="Lima")]<|eot|>',
        '{"name": "get_weather", "parameters": {"city": "Lima"}}<|eom|>',
        '<function=get_weather>{"city": "Lima"}</function><|end_of_text|>',
        '<|python_start|>get_weather.call(city="Lima")<|python_end|><|eom|>',
    ],
)
def test_calls_are_events(answer: Callable[..., list[Event]], text: str) -> None:
    """A call in any form is one event without text; the answer ends for the sake of its result."""
    call, finish = answer(text)
    assert call == ToolCallDelta(index=0, id="call_0", name="get_weather", arguments='{"city": "Lima"}')
    assert isinstance(finish, Finish)
    assert finish.reason == "tool_calls"


def test_words_come_before_calls(answer: Callable[..., list[Event]]) -> None:
    """Prose streams as text, and no control token is ever shown."""
    events = answer('Let me see.<|python_start|>[get_weather(city="A"), get_weather(city="B")]<|python_end|><|eom|>')
    whole = fold(events, model="tiny", backend="torch")
    assert whole.text == "Let me see."
    assert [call.parsed() for call in whole.tool_calls] == [{"city": "A"}, {"city": "B"}]
    assert [event.text for event in events if isinstance(event, TextDelta)] == list("Let me see.")


def test_what_is_no_call_is_an_answer(answer: Callable[..., list[Event]]) -> None:
    """Malformed calls are text, the wrapper left out, and the answer simply stops."""
    whole = fold(answer("<|python_start|>[get_weather(city=)]<|python_end|><|eom|>"), model="tiny", backend="torch")
    assert (whole.text, whole.tool_calls, whole.finish_reason) == ("[get_weather(city=)]", (), "stop")


def test_without_tools_nothing_is_parsed(answer: Callable[..., list[Event]]) -> None:
    """A request without tools gets the same characters as text."""
    whole = fold(answer("[get_weather()]<|eot|>", tools=()), model="tiny", backend="torch")
    assert (whole.text, whole.tool_calls, whole.finish_reason) == ("[get_weather()]", (), "stop")


def test_an_answer_cut_short_keeps_its_reason(answer: Callable[..., list[Event]]) -> None:
    """At the limit of tokens, an unfinished call is text, and a finished one is still a call."""
    whole = fold(answer("[get_weather(city=1)]<|eot|>", max_tokens=10), model="tiny", backend="torch")
    assert (whole.text, whole.tool_calls, whole.finish_reason) == ("[get_weath", (), "length")
    whole = fold(answer("[get_weather(city=1)] abc", max_tokens=22), model="tiny", backend="torch")
    assert (len(whole.tool_calls), whole.finish_reason) == (1, "length")


def test_ids_are_counted_through_the_conversation(answer: Callable[..., list[Event]]) -> None:
    """A later answer's calls do not share ids with earlier ones."""
    asked = Message(role="assistant", tool_calls=(ToolCall(id="call_0", name="get_weather", arguments="{}"),))
    result = Message(role="tool", content="rain", tool_call_id="call_0")
    call, _ = answer("[get_weather()]<|eom|>", asked, result)
    assert isinstance(call, ToolCallDelta)
    assert call.id == "call_1"


def test_log_probabilities_of_calls_are_not_lost(answer: Callable[..., list[Event]]) -> None:
    """Every token has its log-probability, those inside a call too."""
    whole = fold(answer("Hi [get_weather()]<|eom|>", logprobs=0), model="tiny", backend="torch")
    assert "".join(entry.token for entry in whole.logprobs) == "Hi [get_weather()]"
    assert (whole.text, len(whole.tool_calls)) == ("Hi ", 1)


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
