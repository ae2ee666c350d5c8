"""The vision network gives the numbers transformers' does, on random networks of many shapes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llama4sdk_torch.loading import load_vision
from llama4sdk_torch.vision import TILES_AT_ONCE, VisionModel
from safetensors.torch import load_file, save_file
from transformers import Llama4ForConditionalGeneration

from llama4sdk.catalog.models import SCOUT, VISION_PARAMETERS
from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.tensor_names import vision_parameters, vision_tensors

from .numeric import assert_near
from .reference import MAVERICK_LIKE, tiny_seeing_model, tiny_vision

CPU = torch.device("cpu")


def loaded(checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> VisionModel:
    """The vision network of a checkpoint that has one."""
    vision = load_vision(checkpoint, device=CPU, dtype=dtype)
    assert vision is not None
    return vision


def random_tiles(model: VisionModel, count: int, seed: int = 0) -> torch.Tensor:
    """[count, 3, side, side], uint8."""
    dice = torch.Generator().manual_seed(seed)
    side = model.config.tile_size
    return torch.randint(0, 256, (count, 3, side, side), generator=dice, dtype=torch.uint8)


@torch.no_grad()
def expected_features(theirs: Llama4ForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """Transformers' own projected features, one row per image token."""
    encoded = theirs.vision_model((pixels.float() / 255 - 0.5) / 0.5).last_hidden_state
    features = theirs.multi_modal_projector(encoded.flatten(0, 1))
    assert isinstance(features, torch.Tensor)
    return features


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    heads=st.integers(1, 4),
    quarter=st.integers(1, 5),
    layers=st.integers(1, 3),
    half=st.integers(1, 4),
    patch=st.integers(1, 5),
    adapter=st.integers(1, 30),
    tiles=st.integers(1, 2 * TILES_AT_ONCE + 1),
)
def test_random_networks_equal_transformers(
    heads: int, quarter: int, layers: int, half: int, patch: int, adapter: int, tiles: int
) -> None:
    """Whatever the sizes, features agree, however many tiles go through together."""
    shape = tiny_vision(heads=heads, head_dim=4 * quarter, layers=layers, grid=2 * half, patch=patch, adapter=adapter)
    theirs = tiny_seeing_model(shape, seed=heads + quarter, num_hidden_layers=1)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = loaded(open_checkpoint(folder))
    pixels = random_tiles(ours, tiles)
    features = ours.encode(pixels)
    assert features.shape == (tiles * ours.config.tokens_per_tile, 32)
    assert_near(features, expected_features(theirs, pixels), least_scale=1.0)


def test_a_tile_is_seen_alike_in_any_company(seeing: tuple[Path, Llama4ForConditionalGeneration]) -> None:
    """Tiles do not see each other: alone or among others, a tile has the same features."""
    ours = loaded(open_checkpoint(seeing[0]))
    pixels = random_tiles(ours, 6)
    together = ours.encode(pixels).view(6, ours.config.tokens_per_tile, -1)
    for number, tile in enumerate(pixels):
        assert_near(ours.encode(tile.unsqueeze(0)), together[number], least_scale=1.0)


def test_bf16_follows_float32(seeing: tuple[Path, Llama4ForConditionalGeneration]) -> None:
    """In bf16 features stay near those in float32."""
    exact, rounded = (loaded(open_checkpoint(seeing[0]), dtype) for dtype in (torch.float32, torch.bfloat16))
    pixels = random_tiles(exact, 3)
    likeness = torch.nn.functional.cosine_similarity(exact.encode(pixels), rounded.encode(pixels).float(), dim=-1)
    assert likeness.min() > 0.99


def test_the_published_network_has_its_published_size() -> None:
    """The configuration of Scout and Maverick makes exactly the parameters and shapes they are known to have."""
    published = {
        "hidden_size": 1408, "image_size": 336, "intermediate_size": 5632, "num_attention_heads": 16,
        "num_hidden_layers": 34, "patch_size": 14, "pixel_shuffle_ratio": 0.5, "projector_input_dim": 4096,
        "projector_output_dim": 4096, "rope_theta": 10000, "vision_output_dim": 4096,
    }  # fmt: skip
    config = VisionConfig.from_hf({"vision_config": dict(published)})
    assert config is not None
    assert SCOUT.config is not None
    assert (config.tokens_per_tile, config.tile_size) == (144, 336)
    assert vision_parameters(config, SCOUT.config.hidden_size) == VISION_PARAMETERS
    assert len(list(vision_tensors(config, 5120))) == 554


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "hidden_size' is missing"),
        ({"patch_size": 5}, "do not fill a tile"),
        ({"num_attention_heads": 3}, "do not fit"),
        ({"intermediate_size": 7}, "the adapter reads 7"),
        ({"vision_output_dim": 7}, "one width"),
        ({"image_size": [12, 9]}, "not a number"),
        ({"pixel_shuffle_ratio": 0}, "division by zero"),
    ],
)
def test_a_network_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    """Each contradiction in a configuration is named."""
    config = {**tiny_vision().to_dict(), **change}
    with pytest.raises(CheckpointError, match=message):
        VisionConfig.from_hf({"vision_config": config})


def test_missing_and_misshapen_tensors_are_named(
    seeing: tuple[Path, Llama4ForConditionalGeneration], tmp_path: Path
) -> None:
    """A checkpoint with half a vision network does not verify; one with none is a text model."""
    tensors = load_file(seeing[0] / "model.safetensors")
    (tmp_path / "config.json").write_bytes((seeing[0] / "config.json").read_bytes())
    name = "vision_model.class_embedding"

    def saved(changed: dict[str, torch.Tensor]) -> Checkpoint:
        save_file(changed, tmp_path / "model.safetensors")
        return open_checkpoint(tmp_path)

    with pytest.raises(CheckpointError, match=f"no tensor '{name}'"):
        saved({key: value for key, value in tensors.items() if key != name}).verify()
    with pytest.raises(CheckpointError, match=rf"'{name}' .* is \[3\]"):
        saved(tensors | {name: torch.zeros(3)}).verify()
    with pytest.raises(CheckpointError, match="no part of a Llama 4 network"):
        saved(tensors | {"vision_model.extra": torch.zeros(3)}).verify()
    text = saved({key: value for key, value in tensors.items() if key.startswith("language_model.")})
    text.verify()
    assert text.vision is None
    assert load_vision(text, device=CPU, dtype=torch.float32) is None


def test_prefixed_names_are_the_same_network(
    seeing: tuple[Path, Llama4ForConditionalGeneration], tmp_path: Path
) -> None:
    """Newer checkpoints write ``model.vision_model.``; it loads to the same numbers."""
    tensors = load_file(seeing[0] / "model.safetensors")
    (tmp_path / "config.json").write_bytes((seeing[0] / "config.json").read_bytes())
    parts = ("vision_model.", "multi_modal_projector.")
    renamed = {f"model.{key}" if key.startswith(parts) else key: value for key, value in tensors.items()}
    save_file(renamed, tmp_path / "model.safetensors")
    ours, other = (loaded(open_checkpoint(folder)) for folder in (seeing[0], tmp_path))
    pixels = random_tiles(ours, 1)
    torch.testing.assert_close(ours.encode(pixels), other.encode(pixels), atol=0, rtol=0)


def test_maverick_sees_as_well(tmp_path: Path) -> None:
    """The vision network is the same whichever text network follows."""
    theirs = tiny_seeing_model(tiny_vision(), **MAVERICK_LIKE)
    theirs.save_pretrained(tmp_path)
    ours = loaded(open_checkpoint(tmp_path))
    pixels = random_tiles(ours, 2)
    assert_near(ours.encode(pixels), expected_features(theirs, pixels), least_scale=1.0)
