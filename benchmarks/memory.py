"""Measured memory of the torch engine beside the plan's prediction. Prints one table.

python benchmarks/memory.py FOLDER [--precisions fp32 bf16 int8 int4] [--contexts 512 4096 16384] [--batch 1]

FOLDER holds a checkpoint, such as ``benchmarks/bench_model.py`` writes. Each line is a process of its own: it loads,
reads a prompt that leaves room for 16 tokens, answers with these and their log-probabilities, then scores the prompt.
With ``--batch`` so many threads do that at once. Measured is the most that its memory has grown (private pages, looked
at every millisecond) since before torch was imported. Only Linux tells.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

ANSWER = 16
CHILD = f"""
import json, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from llama4sdk import Client
from llama4sdk.local.memory_meter import own_memory

def watch():
    while True:
        peak[0] = max(peak[0], own_memory())
        time.sleep(0.001)

folder, precision, context, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
client = Client(folder, backend="torch", device="cpu", quantization=precision, context_length=context, batch=batch)
plan = client.plan()
before = own_memory()
peak = [before]
threading.Thread(target=watch, daemon=True).start()
client.load()
loaded = peak[0] - before
text = "x" * (context - {ANSWER})
with ThreadPoolExecutor(batch) as pool:
    ask = lambda _: client.generate(text, max_tokens={ANSWER}, temperature=0, logprobs=20)
    answer = list(pool.map(ask, range(batch)))[-1]
    answered = peak[0] - before
    list(pool.map(lambda _: client.score(text, top=1), range(batch)))
report = client.memory()
print(json.dumps({{
    "precision": precision, "context": context, "predicted": sum(plan.memory.values()), "measured": peak[0] - before,
    "loaded": loaded, "answered": answered, "reported": sum(report.measured.values()),
    "warned": report.excess is not None, "input": answer.usage.input_tokens, "breakdown": plan.breakdown["cpu"],
}}))
"""


class Line(TypedDict):
    """One process; sizes in bytes."""

    precision: str
    context: int
    predicted: int
    measured: int
    loaded: int
    answered: int
    reported: int
    warned: bool
    input: int
    breakdown: dict[str, int]


def lines(folder: Path, precisions: Sequence[str], contexts: Sequence[int], *, batch: int = 1) -> Iterator[Line]:
    """Each way, in a process of its own."""
    for precision in precisions:
        for context in contexts:
            command = [sys.executable, "-c", CHILD, str(folder), precision, str(context), str(batch)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            line: Line = json.loads(done.stdout)
            yield line


def main(folder: Path, precisions: Sequence[str], contexts: Sequence[int], batch: int) -> None:
    """Print them, in MB."""
    print("| weights | context | predicted, MB | answering, MB | all, MB | predicted / all |")
    print("|---|---|---|---|---|---|")
    for line in lines(folder, precisions, contexts, batch=batch):
        predicted, measured, answered = (line[what] / 1e6 for what in ("predicted", "measured", "answered"))
        row = f"| {line['precision']} | {line['context']} | {predicted:.0f} | {answered:.0f} | {measured:.0f} |"
        print(f"{row} {predicted / measured:.3f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Predicted and measured memory of the torch engine, on the CPU.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8", "int4"])
    parser.add_argument("--contexts", nargs="+", type=int, default=[512, 4096, 16_384])
    parser.add_argument("--batch", type=int, default=1)
    main(**vars(parser.parse_args()))
