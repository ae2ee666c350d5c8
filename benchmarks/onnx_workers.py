"""The sides of ``onnx_speed.py``, each a process: it loads, then measures for each line on stdin, and answers in JSON.

Modules that only one side needs are imported there: optimum's environment has no llama4sdk.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

#: Bytes that are read to measure the memory's bandwidth.
MEMORY_BYTES = 2**30
#: Operators that read one part of a weight along its first axis: of an expert, a token or a position.
PARTIAL_READERS = {"QMoE", "MoE", "Gather", "GatherBlockQuantized", "GroupQueryAttention"}


class Ready(NamedTuple):
    """A side that is loaded."""

    #: Bytes of weights that a token reads, as they are stored; ``None`` where that is unknown.
    read: float | None
    measure: Callable[[], dict[str, float]]


def memory(job: dict[str, Any]) -> Ready:
    """Reading a gigabyte with as many threads as there are, from one end of each part to the other."""
    parts = np.array_split(np.arange(MEMORY_BYTES // 8, dtype=np.uint64), job["threads"])
    pool = ThreadPoolExecutor(job["threads"])

    def once() -> float:
        return MEMORY_BYTES / seconds(lambda: list(pool.map(np.bitwise_or.reduce, parts)))

    return Ready(None, lambda: {"read": statistics.median(once() for _ in range(5))})


def export(job: dict[str, Any]) -> Ready:
    """The plugin's network, as its engine drives it, with the choice of the most probable token.

    With ``small_pages`` in the job, packed weights stay in pages of 4 kB.
    """
    from contextlib import nullcontext

    from llama4sdk_onnx import sessions
    from llama4sdk_onnx.manifest import read_manifest
    from llama4sdk_onnx.network import TextNetwork

    if job["small_pages"]:
        sessions.huge_pages = nullcontext
    folder = Path(job["folder"])
    manifest = read_manifest(folder)
    session = sessions.open_session(folder / "model.onnx", threads=job["threads"])
    network = TextNetwork(session, manifest, context=job["prompt"] + job["steps"])

    def prefill(ids: list[int]) -> None:
        with network.open() as sequence:
            sequence.prefill(ids).argmax()

    def decode(ids: list[int]) -> None:
        with network.open() as sequence:
            for token in ids:
                sequence.step(token).argmax()

    return Ready(graph_bytes(folder / "model.onnx"), timed(job, manifest.config.vocab_size, prefill, decode))


def native(job: dict[str, Any]) -> Ready:
    """The torch engine's network."""
    import torch
    from llama4sdk_torch.loading import load_model

    from llama4sdk.quantization import QuantizationConfig
    from llama4sdk.weights.opening import open_checkpoint

    torch.set_num_threads(job["threads"])
    quantization = QuantizationConfig.of(job["quantization"])
    network = load_model(open_checkpoint(Path(job["folder"])), device=torch.device("cpu"), quantization=quantization)

    def prefill(ids: list[int]) -> None:
        network.logits(network.prefill(torch.tensor(ids), network.new_cache(len(ids)))).argmax()

    def decode(ids: list[int]) -> None:
        cache = network.new_cache(len(ids))
        for token in ids:
            network.logits(network.prefill(torch.tensor([token]), cache)).argmax()

    return Ready(None, timed(job, network.config.vocab_size, prefill, decode))


def optimum(job: dict[str, Any]) -> Ready:
    """``ORTModelForCausalLM``, without its generation loop."""
    import torch
    from onnxruntime import SessionOptions
    from optimum.onnxruntime import ORTModelForCausalLM

    options = SessionOptions()
    options.intra_op_num_threads = job["threads"]
    model = ORTModelForCausalLM.from_pretrained(job["folder"], session_options=options)

    def run(ids: list[int], past: Any, length: int) -> Any:
        mask = torch.ones(1, length + len(ids), dtype=torch.int64)
        outputs = model(torch.tensor([ids]), attention_mask=mask, past_key_values=past)
        outputs.logits[:, -1].argmax()
        return outputs.past_key_values

    def prefill(ids: list[int]) -> None:
        run(ids, None, 0)

    def decode(ids: list[int]) -> None:
        past = None
        for length, token in enumerate(ids):
            past = run([token], past, length)

    return Ready(None, timed(job, model.config.vocab_size, prefill, decode))


def timed(
    job: dict[str, Any], vocabulary: int, prefill: Callable[[list[int]], None], decode: Callable[[list[int]], None]
) -> Callable[[], dict[str, float]]:
    """Tokens per second of both, each time with other tokens; the first time is for warming up."""
    rng = np.random.default_rng(0)

    def measure() -> dict[str, float]:
        prompt, steps = (rng.integers(vocabulary, size=job[part]).tolist() for part in ("prompt", "steps"))
        return {
            "prefill": len(prompt) / seconds(lambda: prefill(prompt)),
            "decode": len(steps) / seconds(lambda: decode(steps)),
        }

    measure()
    return measure


def graph_bytes(path: Path) -> float:
    """Bytes of a graph's weights that a token reads, as they are stored; of experts one, of a table a row."""
    import onnx_ir

    graph = onnx_ir.load(path).graph
    weights = {value.name: value.const_value for value in graph.initializers.values() if value.const_value is not None}
    total = 0.0
    for node in graph:
        for value in node.inputs:
            weight = weights.get(value.name) if value is not None else None
            if weight is not None:
                total += weight.nbytes / (weight.shape.numpy()[0] if node.op_type in PARTIAL_READERS else 1)
    return total


def seconds(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    job: dict[str, Any] = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # messages of libraries do not get among the answers
    ready = {"memory": memory, "export": export, "native": native, "optimum": optimum}[job["kind"]](job)
    print(json.dumps({"read": ready.read}), file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(ready.measure()), file=answers, flush=True)
