"""How much faster several requests of one engine are together than one after the other, in the same run.

    OMP_NUM_THREADS=1 python benchmarks/scheduler.py --quantization fp32 int8 int4

Rounds alternate between one chat and several at once, each with a prompt of its own, and give medians of tokens per
second: of processor time, which other programs on the machine do not disturb, and of the clock. Only the public API is
used, so that the same file measures an older checkout, too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from llama4sdk import Client

PROMPTS = (
    "What is the capital of France?",
    "Write a short story about a llama.",
    "Explain how a rainbow forms.",
    "Give me a recipe for pancakes.",
    "Who wrote Hamlet, and when?",
    "List five large rivers.",
    "Why is the sky blue?",
    "How do bees make honey?",
)


class Speed(NamedTuple):
    """Tokens per second of processor time and of the clock."""

    processor: float
    clock: float


def measure(client: Client, prompts: tuple[str, ...], max_tokens: int) -> tuple[Speed, list[str]]:
    """Chats of these prompts at once, and their answers."""

    def chat(prompt: str) -> tuple[str, int]:
        answer = client.chat(prompt, temperature=0, max_tokens=max_tokens)
        return answer.text, answer.usage.output_tokens or 0

    processor, clock = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(len(prompts)) as pool:
        answers = list(pool.map(chat, prompts))
    count = sum(tokens for _, tokens in answers)
    speed = Speed(count / (time.process_time() - processor), count / (time.perf_counter() - clock))
    return speed, [text for text, _ in answers]


def median(speeds: list[Speed]) -> Speed:
    """Medians of a list of speeds, of either kind."""
    return Speed(*(statistics.median(values) for values in zip(*speeds, strict=True)))


def main() -> None:
    """Print a line for each precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--quantization", nargs="+", default=["fp32"])
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    prompts = PROMPTS[: options.requests]
    for quantization in options.quantization:
        with Client(options.model, backend=options.backend, device="cpu", quantization=quantization) as client:
            measure(client, prompts[:1], 2)
            alone, together, answers = list[Speed](), list[Speed](), set[tuple[str, ...]]()
            for number in range(options.rounds):
                alone.append(measure(client, (prompts[number % len(prompts)],), options.tokens)[0])
                speed, texts = measure(client, prompts, options.tokens)
                together.append(speed)
                answers.add(tuple(texts))
            one, many = median(alone), median(together)
            print(
                f"{quantization}: 1 request {one.processor:.2f} tokens per second of processor time, "
                f"{len(prompts)} requests {many.processor:.2f} = {many.processor / one.processor:.2f}x "
                f"({many.clock / one.clock:.2f}x by the clock); {len(answers)} set of answers",
                flush=True,
            )


if __name__ == "__main__":
    main()
