"""The quality of exports beside the native engine in fp32: greedy answers, top choices and perplexity.

llama4sdk pull demo
llama4sdk export demo fp32 --to onnx -q fp32      # and int8, int4
python benchmarks/onnx_quality.py demo --exports fp32 int8 int4

The text is a chapter of Python's language reference, which comes with Python: another version's differs by a few words.
It is read in windows of 512 tokens, of which all but the first 256 are scored (of the first window all). Top choices
are compared with those of the native engine in fp32, and in the export's own quantization.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from llama4sdk_onnx.manifest import read_manifest
from llama4sdk_onnx.network import TextNetwork
from llama4sdk_onnx.sessions import open_session
from llama4sdk_torch.loading import load_model

from llama4sdk.local.windows import windows
from llama4sdk.quantization import Quantization, QuantizationConfig
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.store import locate

Floats = npt.NDArray[np.float32]
STEPS, WINDOW, STRIDE = 64, 512, 256
PROMPTS = (
    "The capital of France is", "Once upon a time, a llama", "def fibonacci(n):\n", "Water boils at", "2 + 2 =",
    "The primary colours are", "To bake bread, first", "In 1969, people", "A good night's sleep", "Dear Madam,",
    "The speed of light is", "SELECT name FROM", "The opposite of cold is", "Photosynthesis is", "My favourite book is",
    "# How to learn\n\n", "Why is the sky blue?", "import json\n", "The river flows through", "In conclusion,",
)  # fmt: skip


class Side(Protocol):
    """One network."""

    def logits(self, ids: Sequence[int]) -> Floats:
        """[tokens, vocabulary]: after each of the tokens."""

    def greedy(self, ids: Sequence[int]) -> list[int]:
        """The tokens that follow."""


class Native:
    """The torch engine's network."""

    def __init__(
        self, checkpoint: Checkpoint, quantization: Quantization | QuantizationConfig = Quantization.FP32
    ) -> None:
        self._network = load_model(checkpoint, device=torch.device("cpu"), quantization=quantization)

    def logits(self, ids: Sequence[int]) -> Floats:
        network = self._network
        logits: Floats = network.logits(network.hidden(torch.tensor(ids), network.new_cache(len(ids)))).numpy()
        return logits

    def greedy(self, ids: Sequence[int]) -> list[int]:
        network, cache, given, answer = self._network, self._network.new_cache(len(ids) + STEPS), list(ids), list[int]()
        for _ in range(STEPS):
            answer.append(int(network.logits(network.prefill(torch.tensor(given), cache)).argmax()))
            given = answer[-1:]
        return answer


class Exported:
    """An export's network, on the CPU."""

    def __init__(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        self.quantization = manifest.quantization
        self._network = TextNetwork(open_session(folder / "model.onnx"), manifest, context=WINDOW)

    def logits(self, ids: Sequence[int]) -> Floats:
        with self._network.open() as sequence:
            return np.concatenate(list(sequence.logits(ids, range(len(ids)))))

    def greedy(self, ids: Sequence[int]) -> list[int]:
        with self._network.open() as sequence:
            answer = [int(sequence.prefill(ids).argmax())]
            while len(answer) < STEPS:
                answer.append(int(sequence.step(answer[-1]).argmax()))
        return answer


class Quality(NamedTuple):
    """One network's answers, and how it predicts a text."""

    #: The most probable token at each scored position.
    choices: npt.NDArray[np.int64]
    perplexity: float
    answers: list[list[int]]


def quality(side: Side, text: Sequence[int], prompts: Sequence[Sequence[int]]) -> Quality:
    """Read the text, and answer the prompts."""
    choices, likelihoods = zip(*_scored(side, text), strict=True)
    perplexity = float(np.exp(-np.concatenate(likelihoods).mean()))
    return Quality(np.concatenate(choices), perplexity, [side.greedy(prompt) for prompt in prompts])


def _scored(side: Side, text: Sequence[int]) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Each window's most probable tokens, and the log-likelihoods of the tokens of the text."""
    for begin, first, end in windows(len(text), window=WINDOW, stride=STRIDE, context_length=WINDOW):
        logits = side.logits(text[begin : end - 1])[first - begin - 1 :].astype(np.float64)
        actual = logits[np.arange(end - first), text[first:end]]
        highest = logits.max(1)
        yield logits.argmax(1), actual - highest - np.log(np.exp(logits - highest[:, None]).sum(1))


def main(model: str, exports: Sequence[Path], tokens: int, threads: int | None) -> None:
    """Print a line for each export."""
    path = locate(model)
    if path is None:
        sys.exit(f"'{model}' is not here. Run 'llama4sdk pull {model}'.")
    if threads:
        torch.set_num_threads(threads)
    checkpoint = open_checkpoint(path)
    encode = checkpoint.tokenizer().encode
    text = encode(topics["compound"])[:tokens]
    prompts = [encode(prompt) for prompt in PROMPTS]
    reference = quality(Native(checkpoint), text, prompts)
    print(f"{len(reference.choices)} positions, {len(PROMPTS)} prompts, {STEPS} tokens each")
    print("\n| | equal answers | tokens until they differ | top choices | of the same weights | perplexity | ratio |")
    print("|---|---|---|---|---|---|---|")
    print(f"| native engine, fp32 | | | | | {reference.perplexity:.3f} | |")
    for folder in exports:
        exported = Exported(folder)
        result = quality(exported, text, prompts)
        same = quality(Native(checkpoint, exported.quantization), text, ())
        pairs = list(zip(result.answers, reference.answers, strict=True))
        until = np.mean([_until(own, its) for own, its in pairs])
        cells = (
            f"{sum(own == its for own, its in pairs)} of {len(pairs)}",
            f"{until:.1f} of {STEPS}",
            f"{np.mean(result.choices == reference.choices):.2%}",
            f"{np.mean(result.choices == same.choices):.2%}",
            f"{result.perplexity:.3f}",
            f"{result.perplexity / reference.perplexity:.4f}",
        )
        print(f"| {folder.name} | {' | '.join(cells)} |", flush=True)


def _until(own: Sequence[int], its: Sequence[int]) -> int:
    return next((number for number, (a, b) in enumerate(zip(own, its, strict=True)) if a != b), len(own))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The quality of exports to ONNX.")
    parser.add_argument("model", help="the exported model: a name or a path")
    parser.add_argument("--exports", nargs="+", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=2304, help="tokens of the text")
    parser.add_argument("--threads", type=int, help="threads of the native engine")
    main(**vars(parser.parse_args()))
