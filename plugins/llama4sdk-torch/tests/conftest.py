"""The demo model, and small random networks, each loaded once."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from llama4sdk_torch.engine import TorchEngine
from llama4sdk_torch.loading import load_model
from llama4sdk_torch.model import TextModel
from transformers import Llama4ForConditionalGeneration

from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.store import locate

from .reference import (
    MAVERICK_LIKE,
    SCOUT_LIKE,
    characters_tokenizer,
    tiny_model,
    tiny_seeing_model,
    tiny_vision,
)

CONTEXT = 2048
#: Tokens that a random network scores and no tokenizer has.
PADDING = 64


@pytest.fixture(scope="session")
def demo() -> Checkpoint:
    """The demo model's file. CI always has it."""
    path = locate("demo")
    if path is None:
        pytest.skip("the demo model is not here; run 'llama4sdk pull demo'")
    return open_checkpoint(path)


@pytest.fixture(scope="session")
def demo_network(demo: Checkpoint) -> TextModel:
    """Its network in float32."""
    return load_model(demo, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="session")
def demo_engine(demo: Checkpoint, demo_network: TextModel) -> TorchEngine:
    """It, ready to answer, with a context of 512 tokens."""
    return TorchEngine(demo, demo_network, model="demo", context_length=512)


@pytest.fixture(scope="session")
def save_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, torch.nn.Module]]:
    """Makes a random network of transformers' class, and the directory it was saved to."""

    def save(**overrides: object) -> tuple[Path, torch.nn.Module]:
        model = tiny_model(**overrides)
        folder = tmp_path_factory.mktemp("tiny")
        model.save_pretrained(folder)
        return folder, model

    return save


@pytest.fixture(scope="session", params=["scout", "maverick"])
def tiny(
    request: pytest.FixtureRequest, save_tiny: Callable[..., tuple[Path, torch.nn.Module]]
) -> tuple[TextModel, torch.nn.Module]:
    """A network of either kind in ours and in transformers' class."""
    folder, theirs = save_tiny(**(SCOUT_LIKE if request.param == "scout" else MAVERICK_LIKE))
    return load_model(open_checkpoint(folder), device=torch.device("cpu"), dtype=torch.float32), theirs


@pytest.fixture
def tiny_engine(save_tiny: Callable[..., tuple[Path, torch.nn.Module]]) -> Iterator[TorchEngine]:
    """A random network of 96 printable characters as tokens, without a chat template, and a context of 64."""
    folder, _ = save_tiny(**MAVERICK_LIKE)
    (folder / "tokenizer.json").write_text(characters_tokenizer(), encoding="utf-8")
    checkpoint = open_checkpoint(folder)
    network = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    engine = TorchEngine(checkpoint, network, model="tiny", context_length=64)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Llama4ForConditionalGeneration]:
    """A random network that sees, in tiles of 12 pixels and 4 tokens: its directory, and transformers' class."""
    folder = tmp_path_factory.mktemp("seeing")
    model = tiny_seeing_model(tiny_vision(), **SCOUT_LIKE)
    model.save_pretrained(folder)
    return folder, model


def random_engine(
    save_tiny: Callable[..., tuple[Path, torch.nn.Module]], checkpoint: Checkpoint | Path, like: dict[str, object]
) -> TorchEngine:
    """Random weights, and the vocabulary of a checkpoint or of a ``tokenizer.model``."""
    size = 202_048 if isinstance(checkpoint, Path) else checkpoint.tokenizer().size
    folder, _ = save_tiny(**like, vocab_size=size + PADDING, eos_token_id=None, max_position_embeddings=CONTEXT)
    if isinstance(checkpoint, Path):
        shutil.copy(checkpoint, folder / "tokenizer.model")
        checkpoint = open_checkpoint(folder)
    network = load_model(open_checkpoint(folder), device=torch.device("cpu"), dtype=torch.float32)
    return TorchEngine(checkpoint, network, model="random", context_length=CONTEXT)


@pytest.fixture(scope="session")
def llama4(save_tiny: Callable[..., tuple[Path, torch.nn.Module]]) -> TorchEngine:
    """Random weights, Llama 4's vocabulary and prompts."""
    spec = importlib.util.find_spec("llama_models")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("Meta's llama-models is not installed")
    return random_engine(save_tiny, Path(spec.submodule_search_locations[0]) / "llama4" / "tokenizer.model", SCOUT_LIKE)


@pytest.fixture(scope="session")
def smollm(save_tiny: Callable[..., tuple[Path, torch.nn.Module]], demo: Checkpoint) -> TorchEngine:
    """Random weights, the demo model's vocabulary and prompts."""
    return random_engine(save_tiny, demo, MAVERICK_LIKE)
