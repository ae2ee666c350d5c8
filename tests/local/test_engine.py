"""Requests to an engine that is nothing but the shared part and one matrix."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import numpy as np
import pytest

from llama4sdk.errors import (
    CheckpointError,
    ContextLengthError,
    DeviceMemoryError,
    InvalidRequestError,
    StreamClosedError,
    UnsupportedFeatureError,
)
from llama4sdk.events import Finish, TextDelta
from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.local.engine import MAX_EMBED_TOKENS
from llama4sdk.messages import ImagePart, Message
from llama4sdk.requests import EmbedRequest, Request, SamplingParams, ScoreRequest, Tool
from llama4sdk.results import Completion, fold

from .bigrams import CONTROL, PADDING, Bigrams, Texts, byte_tokenizer, log_softmax, random_table

TOKENIZER = byte_tokenizer()


@pytest.fixture
def engine() -> Bigrams:
    """With room for two, and a context of 64 tokens."""
    return Bigrams(random_table(), batch=2)


def ask(prompt: str = "ab", **sampling: object) -> Request:
    return Request(prompt=prompt, sampling=SamplingParams.model_validate({"max_tokens": 20} | sampling))


def whole(engine: Bigrams, request: Request) -> Completion:
    return fold(engine.stream(request), model="tiny", backend="bigrams")


def chain(engine: Bigrams, last: str, count: int) -> str:
    """The greedy continuation, each character the likeliest after the one before."""
    ids = TOKENIZER.encode(last)[-1:]
    for _ in range(count):
        ids.append(int(engine.table[ids[-1]].argmax()))
    return TOKENIZER.decode(ids[1:])


def test_tokens_become_events(engine: Bigrams) -> None:
    """The answer is the network's, with true counts, and ends once."""
    events = list(engine.stream(ask()))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == chain(engine, "b", 20)
    assert [type(event) for event in events].count(Finish) == 1
    assert isinstance(events[-1], Finish)
    assert events[-1].reason == "length"
    assert (events[-1].usage.input_tokens, events[-1].usage.output_tokens) == (2, 20)


def test_a_stopping_token_ends_the_answer(engine: Bigrams) -> None:
    """The source's own, and Llama 4's; neither is shown, and nothing is drawn after it."""
    expected = chain(engine, "b", 20)
    third = TOKENIZER.encode(expected[:3])[-1]
    for mark in ("<|eot|>", "<|python_end|>"):
        ending = Bigrams(engine.table.copy(), Texts(stop_ids=frozenset({CONTROL["<|python_end|>"]})))
        ending.table[third, CONTROL[mark]] += 1000
        answer = whole(ending, ask())
        assert answer.text == expected[: expected.index(expected[2]) + 1]
        assert answer.finish_reason == "stop"
        assert answer.usage.output_tokens == len(answer.text) + 1


def test_stop_strings_lie_across_tokens(engine: Bigrams) -> None:
    """Every token is one byte here, so every stop string lies across several; no delta shows any of it."""
    text = chain(engine, "b", 20)
    stop = text[4:8]
    answer = whole(engine, ask(stop=stop))
    assert answer.text == text.partition(stop)[0]
    assert answer.finish_reason == "stop"
    held = whole(engine, ask(stop=text[17:] + "!"))
    assert (held.text, held.finish_reason) == (text, "length")


def test_characters_are_shown_whole(engine: Bigrams) -> None:
    """The three bytes of a character are three tokens and one delta."""
    ids = TOKENIZER.encode("b日")
    for last, following in zip(ids, [*ids[1:], ids[0]], strict=True):
        engine.table[last, following] += 1000
    events = [event.text for event in engine.stream(ask(max_tokens=4)) if isinstance(event, TextDelta)]
    assert events == ["日", "b"]


def test_log_probabilities_have_their_tokens(engine: Bigrams) -> None:
    """Each token's, and the alternatives', by name, with the text they belong to."""
    answer = whole(engine, ask(logprobs=2))
    assert "".join(entry.token for entry in answer.logprobs) == answer.text
    expected = log_softmax(engine.table[TOKENIZER.encode("b")[0]])
    first = answer.logprobs[0]
    assert first.logprob == pytest.approx(float(expected.max()), abs=1e-6)
    assert [entry.logprob for entry in first.top] == pytest.approx(sorted(expected, reverse=True)[:2], abs=1e-6)
    assert first.top[0].token == first.token


def test_what_exceeds_the_context_is_refused(engine: Bigrams) -> None:
    """Before any work, for answers, embeddings and windows."""
    refused: list[Callable[[], object]] = [
        lambda: engine.stream(ask("a" * 65)),
        lambda: engine.stream(ask("a" * 60, max_tokens=5)),
        lambda: engine.embed(EmbedRequest(inputs=("a" * 65,))),
        lambda: engine.score(ScoreRequest(prompt="ab", window=65)),
    ]
    for call in refused:
        with pytest.raises(ContextLengthError):
            call()
    assert engine.runner.peak == 0


def test_what_the_model_cannot_do_is_refused_by_the_backends_name(engine: Bigrams) -> None:
    """Images where it is blind, conversations without a template, tools that it is not told of, and nothing at all."""
    user = Message(role="user", content="Hi")
    picture = Message(role="user", content=(ImagePart(data=b"png"),))
    mute = Bigrams(engine.table, Texts(format=None, calls_tools=False))
    tool = Tool(name="clock")
    for model, request, feature in (
        (engine, Request(messages=(picture,)), "images"),
        (mute, Request(messages=(user,)), "chat"),
        (mute, Request(messages=(user,), tools=(tool,)), "tools"),
        (engine, Request(prompt="Hi", tools=(tool,)), "tools"),
    ):
        for verb in (model.stream, model.count_tokens):
            with pytest.raises(UnsupportedFeatureError, match=f"'bigrams' does not support {feature}") as caught:
                verb(request)
            assert caught.value.hint
    silent = Bigrams(engine.table, Texts(format=ChatTemplate("")))
    with pytest.raises(InvalidRequestError, match="Nothing is left"):
        silent.stream(Request(messages=(user,)))


def test_a_tokenizer_larger_than_its_network_is_refused() -> None:
    """Ids the network has no row for would fail in the middle of an answer."""
    size = 256 + len(CONTROL)
    with pytest.raises(CheckpointError, match=f"bigrams has {size} tokens, its network only {size - 1}"):
        Bigrams(random_table(), vocab_size=size - 1)
    assert len(Bigrams(random_table()).table) == size + PADDING


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("normalize", [True, False])
def test_texts_are_embedded_together_and_come_back_in_order(pooling: str, normalize: bool) -> None:
    """Similar lengths go together, never too many tokens with their padding; each has its own vector."""
    engine = Bigrams(random_table(), context_length=MAX_EMBED_TOKENS + 100)
    texts = tuple("abcde"[n % 5] * length for n, length in enumerate([3, 200, 1, 300, 2, 512, 600, 40, 200, 250]))
    found = engine.embed(EmbedRequest.model_validate({"inputs": texts, "pooling": pooling, "normalize": normalize}))
    assert sorted(length for batch in engine.embedded for length in batch) == sorted(map(len, texts))
    assert all(len(batch) * max(batch) <= MAX_EMBED_TOKENS for batch in engine.embedded if len(batch) > 1)
    assert len(engine.embedded) < len(texts)
    for text, vector in zip(texts, found.vectors, strict=True):
        row = engine.table[TOKENIZER.encode(text[0])[0]]  # its mean, too, as all letters are the same
        assert vector == pytest.approx(row / (np.linalg.norm(row) if normalize else 1), rel=1e-4)
    assert found.usage.input_tokens == sum(map(len, texts))
    assert found.backend == "bigrams"


def test_scores_are_the_networks(engine: Bigrams) -> None:
    """Every token but the first, whatever the windows, with alternatives; progress ends at all of them."""
    text = "the llama eats grass. " * 6
    seen: list[tuple[int, int | None]] = []
    scores = engine.score(ScoreRequest(prompt=text, top=2), progress=lambda done, total: seen.append((done, total)))
    ids = TOKENIZER.encode(text)
    expected = log_softmax(engine.table[ids[:-1]])
    values = [entry.logprob for entry in scores.logprobs if entry is not None]
    assert scores.logprobs[0] is None
    assert values == pytest.approx(expected[range(len(ids) - 1), ids[1:]], abs=1e-5)
    assert "".join(scores.tokens) == text
    assert all(entry is None or len(entry.top) == 2 for entry in scores.logprobs)
    assert len(seen) > 1
    assert seen[-1] == (len(ids), len(ids))


def test_a_closed_engine_works_no_more(engine: Bigrams) -> None:
    """Streams end, scoring ends between two windows, new work is refused, and closing again is harmless."""
    stream = engine.stream(ask())
    next(stream)
    with pytest.raises(StreamClosedError):
        engine.score(ScoreRequest(prompt="a" * 200, window=8), progress=lambda done, total: engine.close())
    engine.close()
    with pytest.raises(StreamClosedError):
        list(stream)
    for call in (lambda: engine.stream(ask()), lambda: engine.embed(EmbedRequest(inputs=("a",)))):
        with pytest.raises(StreamClosedError):
            call()
    assert engine.runner.caches == []


def test_errors_of_the_network_are_translated_everywhere(engine: Bigrams) -> None:
    """The subclass's translation holds for answers, embeddings and scores."""

    class Full(Bigrams):
        @contextmanager
        def _translated_errors(self) -> Iterator[None]:
            try:
                yield
            except MemoryError as error:
                raise DeviceMemoryError("the matrix is full") from error

    def refuse() -> NoReturn:
        raise MemoryError

    full = Full(engine.table)
    full.runner.open = refuse  # type: ignore[method-assign]
    for call in (
        lambda: list(full.stream(ask())),
        lambda: full.embed(EmbedRequest(inputs=("a",))),
        lambda: full.score(ScoreRequest(prompt="abc")),
    ):
        with pytest.raises(DeviceMemoryError, match="the matrix is full"):
            call()
    with pytest.raises(DeviceMemoryError):  # and nothing was left behind each time
        list(full.stream(ask()))


def test_threads_do_not_disturb_each_other(engine: Bigrams) -> None:
    """Requests at the same time give what each gives alone, and hold no more caches than were planned for."""
    requests = [ask(letter, max_tokens=40) for letter in "abcdefgh"]
    alone = [whole(engine, request) for request in requests]
    together: dict[int, Completion] = {}
    threads = [
        threading.Thread(target=lambda n=n: together.__setitem__(n, whole(engine, requests[n])))
        for n in range(len(requests))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[n] for n in range(len(requests))] == alone
    assert engine.runner.caches == []


def test_memory_is_held_for_so_many_contexts() -> None:
    """A batch of two has memory for two whole contexts; shorter requests share it, so that more run at once."""
    engine = Bigrams(random_table(), batch=2)
    assert engine._scheduler.memory_bytes == 2 * engine.context_length
    streams = [engine.stream(ask(max_tokens=40)) for _ in range(3)]  # 42 tokens each: the third has to wait
    short = [engine.stream(ask(max_tokens=14)) for _ in range(8)]
    assert [len(list(stream)) for stream in streams] == [41] * 3
    assert engine.runner.peak <= 3
    for row in zip(*short, strict=True):
        assert len(row) == 8
    assert max(engine.runner.batches) == 8
    assert engine.runner.caches == []
