"""Requests of the torch engine share steps and memory, and each gets the tokens it gets alone."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import WeakSet

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama4sdk_torch.backend import TorchBackend
from llama4sdk_torch.cache import KVCache
from llama4sdk_torch.engine import TorchEngine
from llama4sdk_torch.model import TextModel

from llama4sdk.events import Event
from llama4sdk.local.sequence import Reservation
from llama4sdk.requests import EmbedRequest, Request, SamplingParams, ScoreRequest
from llama4sdk.results import Completion, fold

from .reference import MAVERICK_LIKE, characters_tokenizer
from .test_backend import plan
from .test_engine import ask, whole

#: After which a test gives up.
SECONDS = 60.0


def request(seed: int = 0, *, length: int = 2, max_tokens: int = 20) -> Request:
    return Request(prompt=f"p{seed}" * length, sampling=SamplingParams(seed=seed, max_tokens=max_tokens))


def _plan_for(engine: TorchEngine, batch: int) -> None:
    """Give an engine memory for so many whole contexts."""
    scheduler = engine._scheduler
    scheduler.memory_bytes = scheduler._runner.cache_bytes([Reservation(tokens=engine.context_length)] * batch)


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeakSet[KVCache]]:
    """Those that are in use."""
    open_caches: WeakSet[KVCache] = WeakSet()
    make = TextModel.new_cache

    def counted(self: TextModel, *args: int, **more: int) -> KVCache:
        cache = make(self, *args, **more)
        open_caches.add(cache)
        return cache

    monkeypatch.setattr(TextModel, "new_cache", counted)
    yield open_caches
    gc.collect()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sequences of each pass through the network."""
    counts: list[int] = []
    forward = TextModel.forward

    def counted(self: TextModel, tokens: torch.Tensor, segments: list[object]) -> torch.Tensor:
        counts.append(len(segments))
        return forward(self, tokens, segments)  # type: ignore[arg-type]

    monkeypatch.setattr(TextModel, "forward", counted)
    return counts


def test_requests_share_steps(tiny_engine: TorchEngine, steps: list[int], caches: WeakSet[KVCache]) -> None:
    """Three streams that are read in turns go through the network together, and draw what each draws alone."""
    _plan_for(tiny_engine, 3)
    requests = [request(n, max_tokens=16) for n in range(3)]
    alone = [whole(tiny_engine, request) for request in requests]
    steps.clear()
    streams = [tiny_engine.stream(request) for request in requests]
    events: list[list[Event]] = [[], [], []]
    for row in itertools.zip_longest(*streams):
        for number, event in enumerate(row):
            events[number] += [] if event is None else [event]
    assert [fold(answer, model="tiny", backend="torch") for answer in events] == alone
    assert steps.count(3) > 8
    assert not caches


def test_all_kinds_of_work_at_once(tiny_engine: TorchEngine, caches: WeakSet[KVCache]) -> None:
    """Eight threads generate, embed and score at once, with memory for one context: each gets what it gets alone."""
    alone = [whole(tiny_engine, request(n)) for n in range(4)]
    works: list[Callable[[], object]] = [lambda n=n: whole(tiny_engine, request(n)) for n in range(4)]  # type: ignore[misc]
    works += [lambda: tiny_engine.embed(EmbedRequest(inputs=("a", "bc")))] * 2
    works += [lambda: tiny_engine.score(ScoreRequest(prompt="abcdefgh"))] * 2
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda work: work(), works, timeout=SECONDS))
    assert results[:4] == alone
    gc.collect()
    assert not caches


def test_caches_stay_within_the_plan(
    tiny_engine: TorchEngine, caches: WeakSet[KVCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long answers at once take no more memory than one whole context: those that came last wait, or begin again."""
    requests = [request(n, length=3, max_tokens=55) for n in range(4)]
    alone = [whole(tiny_engine, request) for request in requests]
    peak, grow = 0, KVCache.reserve

    def measured(cache: KVCache, tokens: int) -> None:
        nonlocal peak
        grow(cache, tokens)
        peak = max(peak, sum(other.bytes for other in tuple(caches)))

    monkeypatch.setattr(KVCache, "reserve", measured)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda request: whole(tiny_engine, request), requests, timeout=SECONDS)) == alone
    assert 0 < peak <= tiny_engine._scheduler.memory_bytes


def test_a_stream_that_is_closed_frees_its_cache(tiny_engine: TorchEngine, caches: WeakSet[KVCache]) -> None:
    """At once, while the stream itself is still there."""
    stream = tiny_engine.stream(request())
    next(stream)
    assert len(caches) == 1
    stream.close()  # type: ignore[attr-defined]
    assert not caches


def test_a_plan_says_how_many(
    save_tiny: Callable[..., tuple[Path, torch.nn.Module]], caplog: pytest.LogCaptureFixture
) -> None:
    """Three streams of a plan for three are read in turns, and none waits or takes more than was planned."""
    folder, _ = save_tiny(**MAVERICK_LIKE)
    (folder / "tokenizer.json").write_text(characters_tokenizer(), encoding="utf-8")
    engine = TorchBackend().load(plan(folder, quantization="fp32", batch=3))
    for row in zip(*(engine.stream(request(n)) for n in range(3)), strict=False):
        assert len(row) == 3
    engine.close()
    assert not caplog.records


schedules = st.lists(
    st.tuples(
        st.integers(1, 14),  # characters of the prompt
        st.integers(1, 30),  # tokens of the answer
        st.integers(1, 40),  # tokens after which it is closed
        st.integers(0, 3),  # how often it is read in each round
    ),
    min_size=1,
    max_size=5,
)


@given(schedule=schedules, batch=st.integers(1, 2))
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_schedule_gives_what_each_request_gives_alone(
    tiny_engine: TorchEngine, caches: WeakSet[KVCache], schedule: list[tuple[int, int, int, int]], batch: int
) -> None:
    """Greedy answers across chunks, of any length, read at any pace and closed at any moment, with memory for one."""
    _plan_for(tiny_engine, batch)
    sampling = [SamplingParams(temperature=0, max_tokens=count, logprobs=0) for _, count, _, _ in schedule]
    requests = [
        Request(prompt="abcdefghijklmn"[: row[0]], sampling=s) for row, s in zip(schedule, sampling, strict=True)
    ]
    expected = [_tokens(tiny_engine.stream(request)) for request in requests]
    streams = {number: tiny_engine.stream(request) for number, request in enumerate(requests)}
    answers: dict[int, list[str]] = {number: [] for number in streams}
    while streams:
        for number, stream in tuple(streams.items()):
            _, _, limit, pace = schedule[number]
            answers[number] += _tokens(itertools.islice(stream, 1 + pace))
            if len(answers[number]) >= min(limit, len(expected[number])):
                stream.close()  # type: ignore[attr-defined]
                del streams[number]
    for number, answer in answers.items():
        assert answer == expected[number][: len(answer)]
    assert not caches


def _tokens(events: Iterator[Event]) -> list[str]:
    return [entry.token for event in events for entry in getattr(event, "logprobs", ())]


PROMPTS = ("What is the capital of France?", "Why is the sky blue?", "Name a mammal that can fly.")


def test_the_demo_answers_in_company_as_alone(demo_engine: TorchEngine) -> None:
    """Greedy tokens are the same, although matrices times three rows are summed in another order than times one."""
    requests = [ask(prompt, max_tokens=12) for prompt in PROMPTS]
    alone: list[Completion] = [whole(demo_engine, request) for request in requests]
    with ThreadPoolExecutor(len(requests)) as pool:
        assert list(pool.map(lambda request: whole(demo_engine, request), requests, timeout=SECONDS)) == alone
