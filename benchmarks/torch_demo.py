"""The torch engine beside transformers, on the demo model's weights in fp32, taken in turns. Prints one table.

llama4sdk pull demo && python benchmarks/torch_demo.py [rounds]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from llama4sdk_torch.loading import load_model
from transformers import DynamicCache, Llama4ForCausalLM

from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.store import locate

PROMPT, STEPS = 512, 32
OFFER = """
import time
from llama4sdk.backend import Need
from llama4sdk.testing.machines import LAPTOP
start = time.perf_counter()
from llama4sdk_torch.backend import TorchBackend
TorchBackend().offer(Need(model="demo"), LAPTOP)
first = time.perf_counter()
TorchBackend().offer(Need(model="demo"), LAPTOP)
print(first - start, time.perf_counter() - first)
"""


def main(rounds: int) -> None:
    """Measure, and print medians."""
    path = locate("demo")
    if path is None:
        sys.exit("The demo model is not here. Run 'llama4sdk pull demo'.")
    checkpoint = open_checkpoint(path)
    load = [seconds(lambda: load_model(open_checkpoint(path), device=CPU, dtype=torch.float32)) for _ in range(rounds)]
    ours, theirs = Ours(checkpoint), Theirs(checkpoint)
    runs = [(ours.prefill(), theirs.prefill(), ours.decode(), theirs.decode()) for _ in range(rounds)]
    prefill, prefill_twin, decode, decode_twin = map(statistics.median, zip(*runs, strict=True))
    offers = [[float(part) for part in fresh_python(OFFER).split()] for _ in range(rounds)]
    first, again = map(statistics.median, zip(*offers, strict=True))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {rounds} rounds")
    print(f"{'':28}{'llama4sdk-torch':>16}{'transformers':>14}{'ratio':>8}")
    row(f"prefill {PROMPT} tokens, tok/s", PROMPT / prefill, PROMPT / prefill_twin)
    row("decode, tok/s", STEPS / decode, STEPS / decode_twin)
    print(f"{'load from GGUF, s':28}{statistics.median(load):16.2f}")
    print(f"{'offer, first (imports), ms':28}{first * 1e3:16.1f}")
    print(f"{'offer, again, ms':28}{again * 1e3:16.1f}")


CPU = torch.device("cpu")
TOKENS = torch.randint(0, 49_000, (1, PROMPT), generator=torch.Generator().manual_seed(0))


class Ours:
    """The engine's network, without the engine's text handling."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.network = load_model(checkpoint, device=CPU, dtype=torch.float32)

    def prefill(self) -> float:
        """Seconds to the last token's logits."""
        self.cache = self.network.new_cache(PROMPT + STEPS)
        return seconds(lambda: self.network.logits(self.network.prefill(TOKENS[0], self.cache)))

    def decode(self) -> float:
        """Seconds for ``STEPS`` greedy tokens behind the prompt."""
        return seconds(self._steps)

    def _steps(self) -> None:
        token = TOKENS[0, -1:]
        for _ in range(STEPS):
            token = self.network.logits(self.network.prefill(token, self.cache)).argmax(-1, keepdim=True)


class Theirs:
    """The same weights in transformers' class, called without its generation loop."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "llama4sdk-torch" / "tests"))
        from reference import transformers_twin

        self.model: Llama4ForCausalLM = transformers_twin(checkpoint)

    @torch.inference_mode()
    def prefill(self) -> float:
        """Seconds to the last token's logits."""
        self.cache = DynamicCache(config=self.model.config)
        return seconds(lambda: self.model(TOKENS, past_key_values=self.cache, logits_to_keep=1))

    @torch.inference_mode()
    def decode(self) -> float:
        """Seconds for ``STEPS`` greedy tokens behind the prompt."""
        return seconds(self._steps)

    def _steps(self) -> None:
        token = TOKENS[0, -1:]
        for _ in range(STEPS):
            token = self.model(token, past_key_values=self.cache).logits[:, -1].argmax(-1, keepdim=True)


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fresh_python(code: str) -> str:
    """Standard output of ``code`` in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def row(name: str, ours: float, theirs: float) -> None:
    """One line of the table."""
    print(f"{name:28}{ours:16.1f}{theirs:14.1f}{ours / theirs:8.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
