"""Prompt log-probabilities, against transformers' logits on the same weights."""

from __future__ import annotations

import asyncio

import pytest
import torch
from llama4sdk_torch.engine import TorchEngine
from llama4sdk_torch.model import TextModel
from llama4sdk_torch.scoring import score_window
from torch import Tensor

from llama4sdk import AsyncClient, Client
from llama4sdk.errors import ContextLengthError, StreamClosedError, UnsupportedFeatureError
from llama4sdk.local.windows import Scored, Window
from llama4sdk.messages import Message
from llama4sdk.requests import ScoreRequest
from llama4sdk.results import Scores
from llama4sdk.weights.checkpoint import Checkpoint

from .numeric import assert_near
from .reference import transformers_twin

TEXT = (
    "The llama is a domesticated South American camelid, widely used as a meat and pack animal by Andean cultures "
    "since the pre-Columbian era. Llamas are social animals and live with others as a herd."
)


def expected(theirs: torch.nn.Module, ids: list[int]) -> Tensor:
    """The log-probabilities [tokens - 1, vocabulary] that transformers gives each place after the first."""
    with torch.inference_mode():
        logits = theirs(torch.tensor([ids])).logits[0, :-1]
    return logits.float().log_softmax(-1)


def values(scores: Scores) -> Tensor:
    """The log-probabilities of all tokens but the first."""
    return torch.tensor([entry.logprob for entry in scores.logprobs if entry is not None])


def scores_of(network: TextModel, ids: list[int], window: Window, *, top: int, rows: int | None = None) -> list[Scored]:
    """All blocks of a window."""
    return [scored for block in score_window(network, ids, window, top=top, rows=rows) for scored in block]


@pytest.fixture(scope="module")
def oracle(demo: Checkpoint) -> torch.nn.Module:
    """The demo model in transformers."""
    return transformers_twin(demo)


def test_scores_are_those_of_transformers(demo: Checkpoint, demo_engine: TorchEngine, oracle: torch.nn.Module) -> None:
    """Token by token, with the same alternatives, for text and for a conversation as it is rendered."""
    tokenizer, template = demo.tokenizer(), demo.prompt_format()
    assert template is not None
    messages = (Message(role="user", content="What is a llama?"), Message(role="assistant", content="A camelid."))
    for request, ids in (
        (ScoreRequest(prompt=TEXT, top=4), tokenizer.encode(TEXT)),
        (ScoreRequest(messages=messages, top=4), tokenizer.encode_chat(template, messages, tools=())),
    ):
        scores = demo_engine.score(request)
        theirs = expected(oracle, ids)
        assert scores.tokens == tuple(map(tokenizer.piece, ids))
        assert scores.usage.input_tokens == len(ids)
        assert_near(values(scores), theirs[range(len(ids) - 1), ids[1:]])
        best = theirs.topk(4)
        for entry, indices, logprobs in zip(scores.logprobs[1:], best.indices, best.values, strict=True):
            assert entry is not None
            assert [other.token for other in entry.top] == [tokenizer.piece(int(index)) for index in indices]
            assert_near(torch.tensor([o.logprob for o in entry.top]), logprobs)


def test_windows_see_what_they_say(demo: Checkpoint, demo_engine: TorchEngine, oracle: torch.nn.Module) -> None:
    """Of each window but the first the last tokens are scored, given only what is in the window."""
    ids = demo.tokenizer().encode(TEXT)
    window, stride = 16, 6
    scores = values(demo_engine.score(ScoreRequest(prompt=TEXT, window=window, stride=stride)))
    parts = [expected(oracle, ids[:window])[range(window - 1), ids[1:window]]]
    for first in range(window, len(ids), stride):
        part = ids[first + stride - window : first + stride]
        count = min(stride, len(ids) - first)
        own = expected(oracle, part)
        parts.append(own[range(len(part) - 1), part[1:]][-count:])
    assert_near(scores, torch.cat(parts))


@pytest.mark.parametrize("rows", [1, 3, 1000, None])
def test_blocks_change_nothing(tiny: tuple[TextModel, torch.nn.Module], rows: int | None) -> None:
    """However few logits are made at once, and across chunks and blocks: the scores of the whole text."""
    network, theirs = tiny
    ids = torch.randint(0, 96, (40,), generator=torch.Generator().manual_seed(1)).tolist()
    for first in (1, 17, 39):
        found = scores_of(network, ids, Window(0, first, 40), top=2, rows=rows)
        own = expected(theirs, ids)[first - 1 :]
        entries = list(found)
        assert_near(torch.tensor([entry.logprob for entry in entries]), own[range(len(own)), ids[first:]])
        assert [entry.top[0][0] for entry in entries] == own.argmax(-1).tolist()


def test_a_text_of_several_blocks(demo: Checkpoint, demo_network: TextModel, oracle: torch.nn.Module) -> None:
    """More than 512 tokens in one window are scored as one text."""
    ids = demo.tokenizer().encode(TEXT * 16)[:560]
    found = [entry.logprob for entry in scores_of(demo_network, ids, Window(0, 1, 560), top=0)]
    theirs = expected(oracle, ids)[range(559), ids[1:]]
    assert_near(torch.tensor(found), theirs)


def test_both_clients_score_and_say_how_far_they_are() -> None:
    """The same from either client; progress ends at the number of tokens, one token has nothing to be scored."""
    seen: list[tuple[int, int]] = []
    with Client("demo", context_length=64) as client:
        scores = client.score(TEXT, window=16, progress=lambda done, total: seen.append((done, total)))
        assert client.score("The").logprobs == (None,)
        with pytest.raises(ContextLengthError):
            client.score(TEXT, window=65)
    assert seen == sorted(seen)
    assert seen[-1] == (len(scores.tokens),) * 2

    async def main() -> Scores:
        async with AsyncClient("demo", context_length=64) as client:
            return await client.score(TEXT, window=16)

    assert asyncio.run(main()) == scores


def test_a_cancelled_task_ends_the_work() -> None:
    """Whoever no longer waits for scores does not keep the processor busy: at most one more window is read."""
    seen: list[int] = []

    async def main() -> int:
        async with AsyncClient("demo", context_length=64) as client:
            await client.load()
            scores = client.score(TEXT * 20, window=8, stride=1, progress=lambda done, total: seen.append(done))
            task = asyncio.create_task(scores)
            while not seen:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return len(seen)

    count = asyncio.run(main())  # waits for the threads it began
    assert len(seen) <= count + 1


def test_a_closed_engine_scores_no_more(tiny_engine: TorchEngine) -> None:
    """Between two windows, too; a model without a template has no conversations to score."""
    with pytest.raises(UnsupportedFeatureError, match="chat"):
        tiny_engine.score(ScoreRequest(messages=(Message(role="user", content="hi"),)))
    with pytest.raises(StreamClosedError):
        tiny_engine.score(
            ScoreRequest(prompt="abcdefgh" * 4, window=8), progress=lambda done, total: tiny_engine.close()
        )
