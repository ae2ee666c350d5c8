"""Where keys and values are: how buffers grow, and caches that a portable graph gives back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from llama4sdk_onnx import interface
from llama4sdk_onnx.caches import SharedCaches
from llama4sdk_onnx.sessions import open_session
from llama4sdk_onnx.text_graph import ForwardPass, TextGraph
from onnx import TensorProto, helper, numpy_helper

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.config import TextConfig

#: Layer 0 sees everything, layer 1 its chunk of four.
CONFIG = TextConfig(
    vocab_size=64,
    hidden_size=2,
    num_layers=2,
    num_heads=1,
    num_kv_heads=1,
    head_dim=2,
    expert_size=1,
    dense_size=1,
    chunked_layers=frozenset({1}),
    chunk_size=4,
    rope_theta=1.0,
    norm_eps=1e-5,
    max_context=4096,
)


def counting_graph(file: Path) -> None:
    """A portable graph that sums the tokens that each layer sees: two states, which are its first two logits, too."""
    layers = range(CONFIG.num_layers)
    nodes = [
        helper.make_node("Cast", [interface.IDS], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["ids", "column"], ["one"]),
        helper.make_node("Concat", ["one", "one"], ["new"], axis=3),
    ]
    for layer in layers:
        for before, after in zip(interface.past(layer), interface.present(layer), strict=True):
            nodes.append(helper.make_node("Concat", [before, "new"], [after], axis=2))
        seen = interface.present(layer)[layer]  # the keys of one, the values of the other
        nodes.append(helper.make_node("ReduceSum", [seen, "axes"], [f"sum{layer}"], keepdims=1))  # [1, 1, 1, 2]
        nodes.append(helper.make_node("Slice", [f"sum{layer}", "zero", "first", "last"], [f"state{layer}"]))
    nodes += [
        helper.make_node("Concat", ["state0", "state1"], ["both"], axis=3),
        helper.make_node("Reshape", ["both", "states"], ["state"]),  # [1, 1, 2]
        helper.make_node("Unsqueeze", ["ids", "last"], ["tall"]),
        helper.make_node("Mul", ["tall", "nothing"], ["zeros"]),
        helper.make_node("Add", ["state", "zeros"], [interface.HIDDEN]),  # [1, tokens, 2]
        helper.make_node("Reshape", [interface.HIDDEN, "flat"], ["rows"]),
        helper.make_node("Gather", ["rows", interface.LOGITS_AT], ["chosen"]),
        helper.make_node("MatMul", ["chosen", "head"], [interface.LOGITS]),
    ]
    constants: dict[str, npt.NDArray[np.generic]] = {
        "column": np.array([1, 1, -1, 1]),
        "axes": np.array([0, 1, 2]),
        "zero": np.array([0]),
        "first": np.array([1]),
        "last": np.array([-1]),
        "states": np.array([1, 1, 2]),
        "flat": np.array([-1, 2]),
        "nothing": np.array([0], np.float32),
        "head": np.eye(2, CONFIG.vocab_size, dtype=np.float32),
    }
    info = helper.make_tensor_value_info
    ints = [(interface.IDS, [1, "t"]), (interface.POSITIONS, [1, "t"]), (interface.LOGITS_AT, ["n"])]
    pasts = [name for layer in layers for name in interface.past(layer)]
    presents = [name for layer in layers for name in interface.present(layer)]
    inputs = [info(name, TensorProto.INT64, shape) for name, shape in ints]
    inputs += [info(name, TensorProto.FLOAT, [1, 1, f"{name}.slots", 2]) for name in pasts]
    outputs = [info(interface.LOGITS, TensorProto.FLOAT, ["n", CONFIG.vocab_size])]
    outputs += [info(interface.HIDDEN, TensorProto.FLOAT, [1, "t", 2])]
    outputs += [info(name, TensorProto.FLOAT, [1, 1, f"{name}.slots", 2]) for name in presents]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "counting", inputs, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), file)


@pytest.fixture
def counting(tmp_path: Path) -> TextGraph:
    """The graph, ready to run."""
    counting_graph(tmp_path / "model.onnx")
    return TextGraph(open_session(tmp_path / "model.onnx", threads=1), CONFIG, context=100)


def given(row: int, length: int, ids: list[int]) -> ForwardPass:
    """Tokens of one row, with the logits of the last."""
    return ForwardPass(first=row, ids=np.array([ids]), lengths=np.array([length]), logits_at=np.array([len(ids) - 1]))


def test_a_portable_graph_gets_back_what_it_gave(counting: TextGraph) -> None:
    """Layers that see everything keep everything, those that see their chunk begin anew at its border."""
    assert not counting.batches
    seen = [counting.logits(given(0, 0, [1, 2]))[0, :2].tolist()]
    seen += [counting.logits(given(0, 2 + n, [10 * n]))[0, :2].tolist() for n in range(1, 4)]
    seen += [counting.hidden(given(0, 6, [5]))[0, 0].tolist()]
    # positions 0 to 1, then 3: the middle one was left out, which a portable graph cannot know
    assert seen == [[3, 3], [13, 13], [33, 20], [63, 50], [68, 55]]
    assert counting.cache_bytes == 2 * 8 * (6 + 3)


def test_rows_of_a_portable_graph_are_apart(counting: TextGraph) -> None:
    """Each sequence has its own caches, and a row that is taken anew begins with none."""
    counting.logits(given(0, 0, [1, 2, 3]))
    assert counting.logits(given(1, 0, [7]))[0, :2].tolist() == [7, 7]
    assert counting.logits(given(0, 3, [4]))[0, :2].tolist() == [10, 10]
    assert counting.logits(given(1, 0, [9]))[0, :2].tolist() == [9, 9]
    counting.forget(0)
    assert counting.cache_bytes == 2 * 2 * 8
    counting.release()
    assert counting.cache_bytes == 0


def test_shared_buffers_grow_by_steps() -> None:
    """By about a quarter or 64 tokens, and never beyond the context."""
    caches = SharedCaches(CONFIG, context=1500)
    rooms = []
    for tokens in (1, 256, 257, 600, 1025, 1281, 1500):
        if not caches.holds(1, tokens):
            caches.reserve([0], tokens, tokens - 1)
        rooms.append(caches.capacity)
    assert rooms == [64, 256, 320, 640, 1280, 1500, 1500]
    assert caches.bytes == caches.planned_bytes([1500]) == 2 * 8 * (1500 + 4)
    caches.release()
    assert caches.bytes == 0


def test_what_shared_buffers_hold_stays_when_they_grow() -> None:
    """More rows in another order, and more tokens: what was written is where its row and slot are then."""
    caches = SharedCaches(CONFIG, context=1000, dtype=np.float16)
    caches.reserve([0, 1], 200, 0)
    rng = np.random.default_rng(0)
    before = []
    for buffer in caches._buffers:
        value = rng.standard_normal(buffer.shape()).astype(np.float16)
        buffer.update_inplace(value)
        before.append(value)
    caches.reserve([1, 0, 2], 300, 200)
    for buffer, old in zip(caches._buffers, before, strict=True):
        new = buffer.numpy()
        filled = min(old.shape[2], 200)
        assert new.shape == (3, 1, 4 if old.shape[2] == 4 else 320, 2)
        assert np.array_equal(new[[1, 0], :, :filled], old[:, :, :filled])
        assert not new[2].any()
        assert not new[:, :, filled:].any()


def test_a_graph_of_something_else_is_refused(tmp_path: Path) -> None:
    """A graph without the caches of all layers is not the one that the manifest describes."""
    counting_graph(tmp_path / "model.onnx")
    deeper = CONFIG.model_copy(update={"num_layers": 3})
    with pytest.raises(CheckpointError, match=r"past_key_values\.2\.key"):
        TextGraph(open_session(tmp_path / "model.onnx", threads=1), deeper, context=100)
