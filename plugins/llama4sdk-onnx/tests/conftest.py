"""Small random networks of each flavour, and the native engine's answers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llama4sdk import Client
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.store import locate

from .exported import HEADS, export, reference, save_chat, save_plain

#: What sets them apart; all have four layers, chunks of 8 tokens, temperature steps of 4.
FLAVOURS: dict[str, dict[str, object]] = {
    "scout": {
        "interleave_moe_layer_step": 1,
        "use_qk_norm": True,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 16.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 1.0,
            "original_max_position_embeddings": 16,
        },
    },
    "maverick": {"interleave_moe_layer_step": 2, "use_qk_norm": False},
    "llama": {
        "moe_layers": [],
        "use_qk_norm": False,
        "attn_temperature_tuning": False,
        "no_rope_layers": [1, 1, 1, 1],
        "layer_types": ["full_attention"] * 4,
        "tie_word_embeddings": True,
    },
    "two experts": {"interleave_moe_layer_step": 1, "use_qk_norm": True, "num_experts_per_tok": 2},
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Checkpoint]:
    """A random network of a flavour, with other sizes if wanted."""
    known: dict[str, Checkpoint] = {}

    def make(flavour: str, **overrides: object) -> Checkpoint:
        key = repr((flavour, overrides))
        if key not in known:
            folder = tmp_path_factory.mktemp("tiny")
            reference().tiny_model(**(HEADS | FLAVOURS[flavour] | overrides)).save_pretrained(folder)
            known[key] = open_checkpoint(folder)
        return known[key]

    return make


@pytest.fixture(scope="session")
def demo_file() -> Path:
    """The demo model's checkpoint. CI always has it."""
    path = locate("demo")
    if path is None:
        pytest.skip("the demo model is not here; run 'llama4sdk pull demo'")
    return path


@pytest.fixture(scope="session")
def demo_int8(demo_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of it in int8."""
    return export(demo_file, tmp_path_factory.mktemp("exports") / "demo-int8", "int8")


@pytest.fixture(scope="session")
def demo_fp32(demo_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of it in fp32."""
    return export(demo_file, tmp_path_factory.mktemp("exports") / "demo-fp32", "fp32")


@pytest.fixture(scope="session")
def demo(demo_int8: Path) -> Iterator[Client]:
    """A client of the int8 export, with room for four at once."""
    with Client(demo_int8, backend="onnx", batch=4, context_length=1024) as client:
        yield client


@pytest.fixture(scope="session", params=["scout", "maverick"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random network of either kind as a checkpoint, and as an export in fp32."""
    folder = tmp_path_factory.mktemp(request.param)
    ours = reference()
    like = ours.SCOUT_LIKE if request.param == "scout" else ours.MAVERICK_LIKE
    checkpoint = save_plain(folder / "checkpoint", **like)
    return checkpoint, export(checkpoint, folder / "export")


@pytest.fixture(scope="session")
def pair_with_tools(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same of a network that has Llama 4's control tokens."""
    folder = tmp_path_factory.mktemp("tools")
    checkpoint = save_chat(folder / "checkpoint", **reference().MAVERICK_LIKE)
    return checkpoint, export(checkpoint, folder / "export")
