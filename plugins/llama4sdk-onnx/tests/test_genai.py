"""Exports for ONNX Runtime GenAI compute what the native engine does; where GenAI is installed, it runs them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from llama4sdk_onnx.export.exporter import OnnxExporter
from llama4sdk_onnx.export.genai import GENAI_CONFIG, GENAI_GRAPH
from llama4sdk_torch.loading import load_model
from llama4sdk_torch.model import TextModel

from llama4sdk.exporter import ExportOptions
from llama4sdk.messages import Message
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.store import locate

from .exported import assert_near
from .networks import save_text
from .running import Exported

CPU = torch.device("cpu")
QUESTIONS = ("What is the capital of France?", "Name three colours.", "Why is the sky blue? Explain it to a child.")


def exported(checkpoint: Checkpoint, folder: Path, quantization: str) -> Path:
    """A whole export."""
    options = ExportOptions(model="test", quantization=quantization, verify=False)
    OnnxExporter().export(checkpoint.path, folder, options)
    return folder


def native(checkpoint: Checkpoint) -> TextModel:
    """The native engine's network, in float32."""
    return load_model(checkpoint, device=CPU, dtype=torch.float32)


def answer(
    scores: Callable[[list[int]], npt.ArrayLike], prompt: list[int], count: int, stops: frozenset[int]
) -> list[int]:
    """The most likely tokens after a prompt, up to one that ends the answer. ``scores``: the next token's logits."""
    tokens, fed = list[int](), prompt
    while len(tokens) < count:
        fed = [int(np.argmax(scores(fed)))]
        if fed[0] in stops:
            break
        tokens += fed
    return tokens


def native_answer(network: TextModel, prompt: list[int], count: int, stops: frozenset[int]) -> list[int]:
    """The native engine's."""
    cache = network.new_cache(len(prompt) + count)

    @torch.inference_mode()
    def scores(fed: list[int]) -> npt.ArrayLike:
        return network.logits(network.prefill(torch.tensor(fed), cache)).numpy()

    return answer(scores, prompt, count, stops)


def session_answer(session: Exported, prompt: list[int], count: int, stops: frozenset[int]) -> list[int]:
    """The text graph's, in a plain session of ONNX Runtime."""
    sequence = session.start(room=len(prompt) + count)
    return answer(lambda fed: sequence.feed([fed])[0][0, -1], prompt, count, stops)


@pytest.fixture(scope="module", params=["scout", "maverick"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A random network with mixtures, of either kind."""
    folder = tmp_path_factory.mktemp("tiny")
    save_text(folder, scout=request.param == "scout")
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def demo() -> Checkpoint:
    """The demo model's file. CI always has it."""
    path = locate("demo")
    if path is None:
        pytest.skip("the demo model is not here; run 'llama4sdk pull demo'")
    return open_checkpoint(path)


@torch.inference_mode()
def test_the_graph_counts_from_the_mask(tiny: Checkpoint, tmp_path: Path) -> None:
    """Texts of different lengths in one batch, filled up at their ends, then a token more: logits are the native's."""
    folder = exported(tiny, tmp_path / "out", "fp32")
    session = ort.InferenceSession(folder / GENAI_GRAPH, providers=["CPUExecutionProvider"])
    c, network, prompts = tiny.config, native(tiny), [[1, 2, 3, 4, 5], [60, 7, 9]]
    caches: dict[str, npt.NDArray[np.float32]] = {
        value.name: np.zeros((2, c.num_kv_heads, 8, c.head_dim), np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past")
    }
    feeds: dict[str, npt.NDArray[Any]] = {
        "input_ids": np.array([prompts[0], [*prompts[1], 0, 0]]),
        "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
        "positions": np.array([[0, 1, 2, 3, 4], [0, 1, 2, 1, 1]]),
    }
    steps = [feeds, {**feeds, "input_ids": np.array([[6], [8]]), "positions": np.array([[5], [3]])}]
    steps[1]["attention_mask"] = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 1]])
    for number, step in enumerate(steps):
        logits, *present = session.run(None, step | caches)
        caches = dict(zip(caches, present, strict=True))
        assert logits.shape == (2, 1, c.vocab_size)
        for row, prompt in enumerate(prompts):
            tokens = [*prompt, *([[6], [8]][row] if number else [])]
            expected = network.logits(network.prefill(torch.tensor(tokens), network.new_cache(16)))
            assert_near(logits[row, 0], expected.numpy())


def test_no_weights_are_written_twice(tiny: Checkpoint, tmp_path: Path) -> None:
    """GenAI's graph takes its weights from the text graph's files, and its context ends with the first chunk."""
    folder = exported(tiny, tmp_path / "out", "int4")
    graphs = [ir.load(folder / name) for name in ("model.onnx", GENAI_GRAPH)]
    places = [
        {
            (str(value.const_value.location), value.const_value.offset)
            for value in graph.graph.initializers.values()
            if isinstance(value.const_value, ir.ExternalTensor)
        }
        for graph in graphs
    ]
    assert places[0] == places[1]
    config = json.loads((folder / GENAI_CONFIG).read_text(encoding="utf-8"))
    assert config["model"]["context_length"] == tiny.config.chunk_size == 8
    assert config["model"]["eos_token_id"] == [95]


def test_a_portable_export_has_none_of_it(tiny: Checkpoint, tmp_path: Path) -> None:
    """GenAI runs graphs that share one buffer between past and present, and portable ones do not."""
    options = ExportOptions(model="test", quantization="fp32", portable=True, verify=False)
    OnnxExporter().export(tiny.path, tmp_path / "out", options)
    assert not {GENAI_CONFIG, GENAI_GRAPH} & {path.name for path in (tmp_path / "out").iterdir()}


@pytest.fixture(scope="module")
def runtime() -> ModuleType:
    """ONNX Runtime GenAI, where it is installed."""
    found: ModuleType = pytest.importorskip("onnxruntime_genai", reason="'tox run -e genai' has ONNX Runtime GenAI")
    return found


class Genai:
    """A model in ONNX Runtime GenAI."""

    def __init__(self, runtime: ModuleType, folder: Path) -> None:
        self._og = runtime
        self.model = self._og.Model(str(folder))
        self.tokenizer = self._og.Tokenizer(self.model)

    def tokens(self, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
        """Greedy continuations of prompts of one length."""
        params = self._og.GeneratorParams(self.model)
        length = len(prompts[0])
        params.set_search_options(max_length=length + count, batch_size=len(prompts), do_sample=False)
        generator = self._og.Generator(self.model, params)
        generator.append_tokens(np.array(prompts, np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        return [generator.get_sequence(row)[length:].tolist() for row in range(len(prompts))]


def test_genai_answers_as_the_native_engine(runtime: ModuleType, demo: Checkpoint, tmp_path: Path) -> None:
    """The demo model in float32: GenAI's own tokenizer and template, and every token of its greedy answers."""
    genai = Genai(runtime, exported(demo, tmp_path / "out", "fp32"))
    network, tokenizer, template = native(demo), demo.tokenizer(), demo.chat_template()
    assert template is not None
    for question in QUESTIONS:
        chat = json.dumps([{"role": "user", "content": question}])
        prompt = genai.tokenizer.encode(genai.tokenizer.apply_chat_template(chat, add_generation_prompt=True)).tolist()
        assert prompt == list(tokenizer.encode_chat(template, [Message(role="user", content=question)]))
        assert genai.tokens([prompt], 32)[0] == native_answer(network, prompt, 32, demo.stop_ids)


def test_genai_runs_int4_as_a_session_does(runtime: ModuleType, demo: Checkpoint, tmp_path: Path) -> None:
    """The demo model in int4: GenAI's tokens are those of the text graph in a plain session of ONNX Runtime."""
    folder = exported(demo, tmp_path / "out", "int4")
    genai, session = Genai(runtime, folder), Exported(folder, demo.config, "fast")
    for text in ("The capital of France is", "Once upon a time, a llama", "def fibonacci(n):"):
        prompt = list(demo.tokenizer().encode(text))
        expected = session_answer(session, prompt, 24, demo.stop_ids)
        assert len(expected) > 8
        assert genai.tokens([prompt], 24)[0] == expected


@pytest.mark.parametrize("quantization", ["fp32", "int4"])
def test_genai_runs_mixtures_up_to_the_chunk_border(
    runtime: ModuleType, tiny: Checkpoint, quantization: str, tmp_path: Path
) -> None:
    """Networks with routed experts answer as in a plain session, alone and in batches, up to the border only."""
    folder = exported(tiny, tmp_path / "out", quantization)
    genai, session = Genai(runtime, folder), Exported(folder, tiny.config, "fast")
    prompts = [[1, 2, 3], [60, 7, 9], [33, 33, 33]]
    expected = [session_answer(session, prompt, 5, tiny.stop_ids) for prompt in prompts]
    assert [genai.tokens([prompt], 5)[0] for prompt in prompts] == expected
    together = zip(genai.tokens(prompts, 5), expected, strict=True)
    assert [tokens[: len(alone)] for tokens, alone in together] == expected  # those that end first are filled up
    with pytest.raises(RuntimeError, match="context_length"):
        genai.tokens(prompts, 6)
