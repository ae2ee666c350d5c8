"""A plan for so many conversations lets so many hold memory, and nobody waits for ever."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from llama4sdk_torch.backend import TorchBackend
from llama4sdk_torch.cache import KVCache
from llama4sdk_torch.engine import TorchEngine
from llama4sdk_torch.model import TextModel

from llama4sdk.local.admission import Admission
from llama4sdk.requests import EmbedRequest, Request, SamplingParams, ScoreRequest

from .reference import MAVERICK_LIKE, characters_tokenizer
from .test_backend import plan
from .test_engine import whole

SOON = 30.0
"""Seconds that nothing here takes, unless it hangs."""


def request(seed: int = 0) -> Request:
    return Request(prompt=f"p{seed}", sampling=SamplingParams(seed=seed, max_tokens=20))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], tuple[int, int]]]:
    """How many caches there are now, and were at most."""
    counts = {"now": 0, "most": 0}
    lock = threading.Lock()
    make = TextModel.new_cache

    class Counted(KVCache):
        def __del__(self) -> None:
            with lock:
                counts["now"] -= 1

    def counted(self: TextModel, *args: int, **more: int) -> KVCache:
        cache = make(self, *args, **more)
        cache.__class__ = Counted
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts["most"], counts["now"])
        return cache

    monkeypatch.setattr(TextModel, "new_cache", counted)
    yield lambda: (counts["now"], counts["most"])
    gc.collect()


@pytest.fixture
def engine(tiny_engine: TorchEngine) -> TorchEngine:
    """With room for two."""
    tiny_engine._turns = Admission(2, patience=SOON)
    return tiny_engine


def test_no_more_hold_a_cache_than_were_planned_for(engine: TorchEngine, held: Callable[[], tuple[int, int]]) -> None:
    """Eight threads that generate, embed and score at once hold two caches, and each gets what it gets alone."""
    alone = [whole(engine, request(n)) for n in range(4)]
    works: list[Callable[[], object]] = [lambda n=n: whole(engine, request(n)) for n in range(4)]  # type: ignore[misc]
    works += [lambda: engine.embed(EmbedRequest(inputs=("a", "bc")))] * 2
    works += [lambda: engine.score(ScoreRequest(prompt="abcdefgh"))] * 2
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda work: work(), works, timeout=SOON))
    assert found[:4] == alone
    gc.collect()
    assert held() == (0, 2)


def test_a_stream_that_is_closed_frees_its_cache(engine: TorchEngine, held: Callable[[], tuple[int, int]]) -> None:
    """At once, while the stream itself is still there."""
    stream = engine.stream(request())
    next(stream)
    assert held() == (1, 1)
    stream.close()  # type: ignore[attr-defined]
    assert held() == (0, 1)


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
