"""The exported vision network gives the native engine's numbers, on random networks of many shapes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llama4sdk_onnx.export.graphs.text import OPSETS
from llama4sdk_onnx.export.graphs.vision import vision_graph
from llama4sdk_onnx.export.weights.vision_weights import vision_weight_files
from llama4sdk_onnx.manifest import Kind
from llama4sdk_onnx.vision import MAX_TILES, VisionNetwork
from llama4sdk_torch.loading import load_vision
from safetensors.torch import load_file, save_file

from llama4sdk.catalog.models import VISION_PARAMETERS
from llama4sdk.errors import BackendError, CheckpointError
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.weights.checkpoint import Checkpoint, TensorInfo
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.tensor_names import vision_tensors

from .exported import assert_near
from .networks import save_seeing
from .running import write_weights

FP32, FP16 = np.dtype(np.float32), np.dtype(np.float16)
KINDS: tuple[Kind, ...] = ("fast", "portable")


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A random network that sees, in tiles of 12 pixels and 4 tokens."""
    folder = tmp_path_factory.mktemp("seeing")
    save_seeing(folder)
    return open_checkpoint(folder)


def exported(
    checkpoint: Checkpoint, folder: Path, kind: Kind, *, dtype: np.dtype[np.floating] = FP32, opset: int = 21
) -> VisionNetwork:
    """The vision network of a checkpoint, written to a folder and loaded from there."""
    assert checkpoint.vision is not None
    files = vision_weight_files(checkpoint, dtype)
    write_weights(files, folder)
    graph = vision_graph(checkpoint.vision, checkpoint.config.hidden_size, files, dtype=dtype, opset=opset, kind=kind)
    file = folder / "vision.onnx"
    ir.save(graph, file)
    onnx.checker.check_model(file, full_check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return VisionNetwork(session, checkpoint.vision)


def random_tiles(network: VisionNetwork, count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """[count, channels, side, side]."""
    side = network.config.tile_size
    return np.random.default_rng(seed).integers(0, 256, (count, network.config.channels, side, side), np.uint8)


def expected_features(checkpoint: Checkpoint, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The native engine's, in float32."""
    native = load_vision(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    assert native is not None
    features: npt.NDArray[np.float32] = native.encode(torch.from_numpy(pixels)).numpy()
    return features


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    heads=st.integers(1, 4),
    quarter=st.integers(1, 5),
    layers=st.integers(1, 3),
    half=st.integers(1, 4),
    patch=st.integers(1, 5),
    adapter=st.integers(1, 30),
    tiles=st.integers(1, 2 * MAX_TILES + 1),
)
def test_random_networks_equal_the_native_engine(
    kind: Kind, heads: int, quarter: int, layers: int, half: int, patch: int, adapter: int, tiles: int
) -> None:
    """Whatever the sizes, features agree to 1e-5, however many tiles go through together."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_seeing(
            folder, heads=heads, head_dim=4 * quarter, layers=layers, grid=2 * half, patch=patch, adapter=adapter
        )
        checkpoint = open_checkpoint(folder)
        ours = exported(checkpoint, folder, kind)
        pixels = random_tiles(ours, tiles)
        features = ours.encode(pixels)
        assert features.shape == (tiles * ours.config.tokens_per_tile, 32)
        # some sizes make features far smaller than the states they are made of, by whose scale they are rounded
        assert_near(features, expected_features(checkpoint, pixels), least_scale=1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_bits_follow_thirty_two(kind: Kind, seeing: Checkpoint, tmp_path: Path) -> None:
    """In float16 the features of every token keep their direction, and their size to half a percent."""
    ours = exported(seeing, tmp_path, kind, dtype=FP16)
    pixels = random_tiles(ours, 3)
    features, expected = ours.encode(pixels), expected_features(seeing, pixels)
    assert features.dtype == np.float16
    distances = np.linalg.norm(features - expected, axis=1)
    assert (distances < 0.005 * np.linalg.norm(expected, axis=1)).all()


@pytest.mark.parametrize("opset", [OPSETS[0], OPSETS[-1]])
def test_older_and_newer_operator_sets_compute_the_same(opset: int, seeing: Checkpoint, tmp_path: Path) -> None:
    """A graph is valid in the oldest operator set that it can be in, and in a new one."""
    ours = exported(seeing, tmp_path, "portable", opset=opset)
    pixels = random_tiles(ours, 1)
    assert_near(ours.encode(pixels), expected_features(seeing, pixels), least_scale=1.0)


def test_a_portable_graph_has_operators_of_onnx_alone(seeing: Checkpoint, tmp_path: Path) -> None:
    """Nothing in it is ONNX Runtime's own, and nothing is declared to be."""
    exported(seeing, tmp_path, "portable")
    model = ir.load(tmp_path / "vision.onnx")
    assert {node.domain for node in model.graph} | set(model.opset_imports) == {""}


def test_tiles_do_not_see_each_other(seeing: Checkpoint, tmp_path: Path) -> None:
    """Alone or among others, a tile has the same features."""
    ours = exported(seeing, tmp_path, "fast")
    pixels = random_tiles(ours, 6)
    alone = np.concatenate([ours.encode(tile[None]) for tile in pixels])
    assert_near(ours.encode(pixels), alone, least_scale=1.0)


def test_what_fails_is_said_in_the_sdks_words(seeing: Checkpoint, tmp_path: Path) -> None:
    """Tiles of another size than the graph's end in a BackendError."""
    ours = exported(seeing, tmp_path, "fast")
    with pytest.raises(BackendError, match="pixels"):
        ours.encode(np.zeros((1, 3, 5, 5), np.uint8))


@pytest.mark.parametrize(
    ("name", "value", "dtype", "message"),
    [
        ("vision_model.model.layers.1.self_attn.k_proj.bias", np.nan, FP32, "no finite number"),
        ("vision_model.class_embedding", -np.inf, FP32, "no finite number"),
        ("multi_modal_projector.linear_1.weight", -1e5, FP16, "beyond fp16's largest"),
    ],
)
def test_weights_that_are_no_numbers_are_named(
    name: str, value: float, dtype: np.dtype[np.floating], message: str, seeing: Checkpoint, tmp_path: Path
) -> None:
    """A value that is not finite, or would not be in the graph's type, ends the export, by the tensor's name."""
    tensors = load_file(seeing.path / "model.safetensors")
    tensors[name].view(-1)[-1] = value
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((seeing.path / "config.json").read_bytes())
    files = vision_weight_files(open_checkpoint(tmp_path), dtype)
    with pytest.raises(CheckpointError, match=f"'{name}' .*{message}"):
        write_weights(files, tmp_path / "out")


def test_the_published_network_is_laid_out_without_reading_it() -> None:
    """Scout's vision network: every parameter once, a file for each layer, at most 100 MB of one at a time."""
    published = VisionConfig(
        hidden_size=1408, num_layers=34, num_heads=16, mlp_size=5632, tile_size=336, patch_size=14, adapter_size=4096
    )
    headers = {name: TensorInfo(shape, "BF16", 0) for name, shape in vision_tensors(published, 5120)}
    text = SimpleNamespace(hidden_size=5120)
    checkpoint = cast("Checkpoint", SimpleNamespace(vision=published, config=text, tensors=headers))
    files = vision_weight_files(checkpoint, FP32)
    values = sum(tensor.nbytes for file in files for tensor in file.tensors) // 4
    assert values == VISION_PARAMETERS - published.hidden_size  # the class token is part of its position
    assert [file.path for file in files[:2]] == ["weights/vision.bin", "weights/vision-000.bin"]
    assert len(files) == 35
    assert max(tensor.nbytes for file in files for tensor in file.tensors) < 100_000_000
    model = vision_graph(published, 5120, files, dtype=FP32, opset=21, kind="fast")
    used = {
        name for name, value in model.graph.initializers.items() if isinstance(value.const_value, ir.ExternalTensor)
    }
    assert used == {tensor.name for file in files for tensor in file.tensors}
    assert model.graph.outputs[0].shape == ("features", 5120)
