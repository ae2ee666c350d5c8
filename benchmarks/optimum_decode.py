"""How fast an export of optimum's decodes and reads a prompt; run it where llama4sdk-optimum is installed.

python benchmarks/bench_model.py MODEL --layers 4
optimum-cli export onnx --model MODEL --task text-generation-with-past EXPORT
python benchmarks/optimum_decode.py EXPORT [--threads 2] [--tokens 64] [--prompt 128]

Exporting takes about two and a quarter times the memory that the weights take in fp32: 5 GB for these 4 layers.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import onnxruntime
import torch
from optimum.onnxruntime import ORTModelForCausalLM


def measure(export: Path, *, threads: int, tokens: int, prompt: int) -> tuple[float, float]:
    """Tokens a second, read and decoded, through ``ORTModelForCausalLM`` as its ``generate`` calls it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = ORTModelForCausalLM.from_pretrained(export, session_options=options)
    ids = torch.randint(0, 256, (1, prompt), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, prompt + tokens + 1, dtype=torch.long)
    for _ in range(2):  # the first run is to warm up
        start = time.perf_counter()
        done = model(ids, attention_mask=mask[:, :prompt])
        read = time.perf_counter()
        for number in range(tokens):
            token = done.logits[:, -1:].argmax(-1)
            seen = mask[:, : prompt + number + 1]
            done = model(token, attention_mask=seen, past_key_values=done.past_key_values)
        end = time.perf_counter()
    return prompt / (read - start), tokens / (end - read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How fast an export of optimum's decodes and reads a prompt.")
    parser.add_argument("export", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=128)
    chosen = vars(parser.parse_args())
    prefill, decode = measure(chosen.pop("export"), **chosen)
    print(f"reads {prefill:.0f} tokens/s, decodes {decode:.1f} tokens/s")
