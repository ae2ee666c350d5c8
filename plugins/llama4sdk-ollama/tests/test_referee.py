"""Ollama's own client reads the fake server."""

from __future__ import annotations

from collections.abc import Iterator

import ollama
import pytest

from .fake_server import ABLE, EMBEDDER, SCOUT, Fake

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
HELLO = {"role": "user", "content": "Hello there"}
ANSWER = "You said this to me: Hello there That is all there is."


@pytest.fixture
def client(fake: Fake) -> Iterator[ollama.Client]:
    """Ollama's client, at the address in the environment."""
    client = ollama.Client()
    yield client
    client._client.close()


def test_it_reads_lists_of_models(client: ollama.Client, fake: Fake) -> None:
    """Models on disk and in memory, and the details of one."""
    assert [model.model for model in client.list().models] == [SCOUT, EMBEDDER, ABLE]
    assert client.ps().models == []
    client.generate(SCOUT, options={"num_ctx": 2048})
    (running,) = client.ps().models
    assert (running.model, running.context_length) == (SCOUT, 2048)
    details = client.show(SCOUT)
    assert details.modelinfo is not None
    assert details.modelinfo["llama4.context_length"] == 10_485_760
    assert details.capabilities == ["completion", "vision", "tools"]


def test_it_reads_answers(client: ollama.Client) -> None:
    """Whole and streamed chats and raw text, with counts, logprobs and finish reasons."""
    whole = client.chat(SCOUT, [HELLO], logprobs=True, top_logprobs=2, options={"num_predict": 4})
    assert (whole.message.content, whole.done_reason) == ("You said this to", "length")
    assert (whole.prompt_eval_count, whole.eval_count) == (6, 4)
    assert whole.logprobs is not None
    assert [len(entry.top_logprobs or ()) for entry in whole.logprobs] == [2] * 4
    pieces = list(client.chat(SCOUT, [HELLO], stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == ANSWER
    assert [piece.done for piece in pieces][-2:] == [False, True]
    assert client.generate(SCOUT, "Once", raw=True).response == " goes on: Once"
    text = client.chat(SCOUT, [HELLO], format={"type": "object", "properties": {"n": {"minimum": 3}}}).message.content
    assert text == '{"n": 3}'


def test_it_reads_tool_calls(client: ollama.Client) -> None:
    """Their arguments are objects."""
    message = client.chat(SCOUT, [{"role": "user", "content": "call it"}], tools=[TOOL]).message
    assert message.tool_calls is not None
    function = message.tool_calls[0].function
    assert (function.name, function.arguments) == ("weather", {"city": "Zürich", "days": 0})


def test_it_reads_embeddings(client: ollama.Client) -> None:
    """There is one vector for each text."""
    answer = client.embed(EMBEDDER, ["one", "two words"])
    assert len(answer.embeddings) == 2
    assert answer.prompt_eval_count == 3


def test_it_reads_the_progress_of_a_pull(client: ollama.Client) -> None:
    """Layer by layer, to the end."""
    steps = list(client.pull("llama4:scout", stream=True))
    assert steps[0].status == "pulling manifest"
    assert {(step.completed, step.total) for step in steps if step.digest} >= {(500, 1000), (1000, 1000), (10, 10)}
    assert steps[-1].status == "success"


def test_it_reads_errors(client: ollama.Client, fake: Fake) -> None:
    """Missing models, missing features, long prompts, and errors within an answer."""
    with pytest.raises(ollama.ResponseError, match="not found, try pulling it first") as missing:
        client.chat("nothing", [HELLO])
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="does not support chat"):
        client.chat(EMBEDDER, [HELLO])
    with pytest.raises(ollama.ResponseError, match="input length exceeds") as long:
        client.embed(EMBEDDER, "word " * 3000, truncate=False, options={"num_ctx": 2048})
    assert long.value.status_code == 400
    fake.lines = [b'{"message":{"role":"assistant","content":"Hel"},"done":false}\n', b'{"error":"boom"}\n']
    with pytest.raises(ollama.ResponseError, match="boom"):
        list(client.chat(SCOUT, [HELLO], stream=True))
