"""Exports on ONNX Runtime beside llama.cpp, the native engine and an optimum export, in turns. Prints one table.

python benchmarks/bench_model.py MODEL && python benchmarks/bench_gguf.py MODEL model.gguf
llama4sdk export MODEL int4 --to onnx -q int4 && llama4sdk export MODEL int4-g32 --to onnx -q int4-g32
python benchmarks/onnx_speed.py MODEL --export int4 int4-g32 --gguf model.gguf --llama-bench path/to/llama-bench

Each side is a process of its own that is loaded beforehand and sleeps while others measure (llama-bench loads anew).
A round measures, one after another: the memory's read bandwidth, then of each side a prompt of 512 tokens, and 64
single tokens behind nothing, as llama-bench does, all of them random: a greedy answer of random weights goes in
circles, and would find its experts in the processor's cache. Rates are medians; ratios are medians of each round's own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

WORKERS = Path(__file__).with_name("onnx_workers.py")


@dataclass(frozen=True, kw_only=True)
class Size:
    """Tokens of a round; ``slow`` are the single ones of sides that make ten or so a second."""

    prompt: int
    steps: int
    slow: int


FULL = Size(prompt=512, steps=64, slow=16)
QUICK = Size(prompt=128, steps=16, slow=4)


class Side(Protocol):
    """One of the sides that are compared."""

    name: str
    #: Bytes of weights that a token reads, as they are stored; ``None`` where that is unknown.
    read: float | None

    def measure(self) -> dict[str, float]:
        """Tokens per second: ``prefill`` and ``decode``, or one of them; of the memory, bytes per second: ``read``."""


class Worker:
    """A process that loads, reports that it is ready, and then measures on request."""

    def __init__(self, name: str, job: dict[str, Any], *, threads: int, python: str = sys.executable) -> None:
        self.name = name
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        command = [python, str(WORKERS), json.dumps(job | {"threads": threads})]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.read: float | None = self._answer()["read"]

    def measure(self) -> dict[str, float]:
        _pipe(self._process.stdin).write("\n")
        _pipe(self._process.stdin).flush()
        rates: dict[str, float] = self._answer()
        return rates

    def close(self) -> None:
        """End the process."""
        _pipe(self._process.stdin).close()
        self._process.wait()

    def _answer(self) -> Any:
        line = _pipe(self._process.stdout).readline()
        return json.loads(line) if line else sys.exit(f"{self.name} has ended: see above.")


class LlamaBench:
    """A build of llama.cpp, which loads the file anew for each measurement, and warms up."""

    def __init__(self, name: str, program: str, gguf: Path, size: Size, *, threads: int, prompts: bool) -> None:
        self.name = name
        self.read: float | None = gguf_bytes(gguf)
        sizes = ["-p", str(size.prompt if prompts else 0), "-n", str(size.steps)]
        self._command = [program, "-m", str(gguf), "-t", str(threads), *sizes, "-r", "1", "-o", "json"]

    def measure(self) -> dict[str, float]:
        done = subprocess.run(self._command, check=True, capture_output=True, text=True)
        return {"decode" if row["n_gen"] else "prefill": row["avg_ts"] for row in json.loads(done.stdout)}


@dataclass
class Results:
    """The rates of one side in all rounds."""

    side: Side
    rates: list[dict[str, float]] = field(default_factory=list)

    def median(self, kind: str) -> float | None:
        """The median of ``prefill`` or ``decode`` over the rounds; ``None`` where the side does not do that."""
        values = [rate[kind] for rate in self.rates if kind in rate]
        return statistics.median(values) if values else None

    def ratio(self, other: Results, kind: str) -> float | None:
        """The median of each round's ratio to ``other``."""
        pairs = zip(self.rates, other.rates, strict=True)
        ratios = [own[kind] / its[kind] for own, its in pairs if kind in own and kind in its]
        return statistics.median(ratios) if ratios else None

    def bandwidth_share(self, memory: Results) -> float | None:
        """The share that decoding used of the read bandwidth that was measured in the same round."""
        if self.side.read is None:
            return None
        pairs = zip(self.rates, memory.rates, strict=True)
        return statistics.median(own["decode"] * self.side.read / its["read"] for own, its in pairs)


def main(arguments: argparse.Namespace) -> None:
    """Start all sides, measure in turns, print the table."""
    size = QUICK if arguments.quick else FULL
    rounds = 2 if arguments.quick else arguments.rounds
    workers = _workers(arguments, size)
    builds: list[Side] = [
        LlamaBench(f"llama.cpp, {name}", program, arguments.gguf, size, threads=arguments.threads, prompts=prompts)
        for prompts, programs in ((True, arguments.llama_bench), (False, arguments.llama_bench_decode))
        for name, program in map(_named_program, programs)
    ]
    results = [Results(side) for side in (*workers, *builds)]
    for number in range(rounds):
        first = number % len(results)
        for side in results[first:] + results[:first]:  # no side always follows the same one
            side.rates.append(side.side.measure())
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    for worker in workers:
        worker.close()
    memory, *others = results
    print(
        f"{arguments.threads} threads, {rounds} rounds; memory is read at {(memory.median('read') or 0) / 1e9:.1f} GB/s"
    )
    print_table(others, memory, [side for side in others if side.side in builds])


def _workers(arguments: argparse.Namespace, size: Size) -> list[Worker]:
    common: dict[str, Any] = {"prompt": size.prompt, "steps": size.steps}
    jobs: list[tuple[str, dict[str, Any], str]] = [("memory", {"kind": "memory"}, sys.executable)]
    jobs += [
        (
            f"ONNX Runtime, {folder.name}{', small pages' if small else ''}",
            common | {"kind": "export", "folder": str(folder), "small_pages": small},
            sys.executable,
        )
        for folder in arguments.export
        for small in ((False, True) if arguments.small_pages else (False,))
    ]
    slow = common | {"kind": "native", "folder": str(arguments.model), "steps": size.slow}
    jobs += [(f"native engine, {name}", slow | {"quantization": name}, sys.executable) for name in arguments.native]
    if arguments.optimum:
        optimum = common | {"kind": "optimum", "folder": str(arguments.optimum), "steps": size.slow}
        jobs.append(("optimum", optimum, arguments.optimum_python))
    return [Worker(name, job, threads=arguments.threads, python=python) for name, job, python in jobs]


def print_table(results: Sequence[Results], memory: Results, builds: Sequence[Results]) -> None:
    """Ratios are to the build of llama.cpp that is the fastest at it."""
    best = {
        kind: max((side for side in builds if side.median(kind)), key=lambda side: side.median(kind) or 0, default=None)
        for kind in ("decode", "prefill")
    }
    print("\n| | decode, tokens/s | beside llama.cpp | MB a token | share of bandwidth | prefill | beside llama.cpp |")
    print("|---|---|---|---|---|---|---|")
    for side in results:
        ratios = {kind: None if other is None else side.ratio(other, kind) for kind, other in best.items()}
        cells = [
            _cell(side.median("decode"), ".1f"),
            _cell(ratios["decode"], ".2f"),
            _cell(side.side.read and side.side.read / 1e6, ".0f"),
            _cell(side.bandwidth_share(memory), ".0%"),
            _cell(side.median("prefill"), ".0f"),
            _cell(ratios["prefill"], ".2f"),
        ]
        print(f"| {side.side.name} | {' | '.join(cells)} |")


def gguf_bytes(path: Path) -> float:
    """Bytes that a token reads of a file whose layers choose one expert; of the embedding, a row."""
    from gguf import GGUFReader

    total = 0.0
    for tensor in GGUFReader(path).tensors:
        outermost = int(tensor.shape[-1])  # ggml names the innermost first
        is_partial = "_exps" in tensor.name or tensor.name == "token_embd.weight"
        total += tensor.n_bytes / (outermost if is_partial else 1)
    return total


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _named_program(text: str) -> tuple[str, str]:
    name, _, path = text.rpartition("=")
    return name or Path(path).name, path


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Exports on ONNX Runtime beside other engines, in turns.")
    parser.add_argument("model", type=Path, help="what bench_model.py has written")
    parser.add_argument("--export", nargs="+", type=Path, required=True, help="export directories of it")
    parser.add_argument("--gguf", type=Path, help="what bench_gguf.py has written of it")
    parser.add_argument("--llama-bench", nargs="+", default=[], metavar="[NAME=]PATH", help="builds of llama.cpp")
    parser.add_argument(
        "--llama-bench-decode", nargs="+", default=[], metavar="[NAME=]PATH", help="no prompts on these"
    )
    parser.add_argument("--native", nargs="*", default=["bf16", "int4"], help="the native engine, in these")
    parser.add_argument("--optimum", type=Path, help="a directory that optimum-cli has exported")
    parser.add_argument("--optimum-python", default=sys.executable, help="the Python that has optimum-onnx")
    parser.add_argument("--small-pages", action="store_true", help="exports once more without huge pages")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that all sides work")
    main(parser.parse_args())
