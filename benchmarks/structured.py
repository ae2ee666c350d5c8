"""Cost of a constraint on Llama 4's vocabulary of 202,048 tokens: the first, the next, and each token.

    python benchmarks/structured.py path/to/tokenizer.model

Our own tokenizer is built before, and not counted. The tokens are those of an answer in a typical schema. What each
takes is in the thread's own time, so that whatever else runs on the machine does not show.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Literal

import numpy as np
import torch
from llama4sdk_torch.sampling import DeviceMask
from pydantic import BaseModel

from llama4sdk.constraints import JsonSchema
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.local.structured_output import Constraints
from llama4sdk.requests import Request

ROUNDS = 50


class Role(BaseModel):
    """A part in a film."""

    name: str
    kind: Literal["lead", "support", "cameo"]


class Film(BaseModel):
    """A typical schema: text, numbers, a list of texts, a list of objects."""

    title: str
    year: int
    rating: float
    tags: list[str]
    cast: list[Role]


ANSWER = {
    "title": "Aguirre, der Zorn Gottes (the wrath of God)",
    "year": 1972,
    "rating": 7.8,
    "tags": ["drama", "Perú", "1970s", "river"],
    "cast": [{"name": name, "kind": "support"} for name in ("Klaus Kinski", "Helena Rojo", "Del Negro")],
}


def main(path: str) -> None:
    """Measure, and print."""
    tokenizer = Tokenizer.from_tiktoken(path)
    constraints = Constraints(tokenizer, tokenizer.turn_ends, tokenizer.size)
    request, cpu = Request(prompt="A film:", constraint=JsonSchema.of(Film)), torch.device("cpu")
    start = time.perf_counter()
    constraints.token_mask(request)
    print(f"the first guide, vocabulary included {time.perf_counter() - start:8.2f} s")
    answer = tokenizer.encode(json.dumps(ANSWER, ensure_ascii=False))[1:]
    guides, masks, tensors, steps = [], [], [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        guide = constraints.token_mask(request)
        guides.append(time.perf_counter() - start)
        assert guide is not None
        mask, bits = DeviceMask(guide, cpu), np.empty(guide.words, np.uint32)
        for token in answer:
            start = time.thread_time()
            guide.fill(bits.ctypes.data)
            masks.append(time.thread_time() - start)
            start = time.thread_time()
            allowed = mask.allowed()  # what llguidance has just computed, it keeps
            tensors.append(time.thread_time() - start)
            assert allowed[token]
            start = time.thread_time()
            guide.take(token)
            steps.append(time.thread_time() - start)
        assert guide.ended
    print(f"the next of the same schema          {statistics.median(guides) * 1e3:8.2f} ms")
    for name, times in (
        ("the mask before one token", masks),
        ("the same as a tensor", tensors),
        ("taking one token", steps),
    ):
        ordered = [seconds * 1e6 for seconds in sorted(times)]
        middle, p99, most = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1]
        print(f"{name:36} {middle:8.0f} us in the middle, {p99:.0f} us at 99 %, {most:.0f} us at most")


if __name__ == "__main__":
    main(sys.argv[1])
