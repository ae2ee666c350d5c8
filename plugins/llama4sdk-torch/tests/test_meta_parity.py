"""The same numbers as Meta's own code, where that is installed (``pip install --no-deps llama-models``)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llama4sdk_torch.loading import load_model, load_vision

from llama4sdk.weights.opening import open_checkpoint

from .numeric import assert_near, logits_of_rows
from .reference import MAVERICK_LIKE, SCOUT_LIKE

pytest.importorskip("llama_models")

#: The inner widths that Meta derives from 32 hidden ones.
WIDTHS = {"num_hidden_layers": 8, "intermediate_size": 51, "intermediate_size_mlp": 102}

#: Meta's code knows no other original length.
SCALING = {"rope_parameters": SCOUT_LIKE["rope_parameters"] | {"original_max_position_embeddings": 8192}}


@pytest.mark.parametrize(
    "overrides",
    [SCOUT_LIKE | SCALING, MAVERICK_LIKE, MAVERICK_LIKE | {"num_experts_per_tok": 2, "attention_chunk_size": 64}],
    ids=["scout", "maverick", "two-experts-one-chunk"],
)
@pytest.mark.parametrize("sizes", [[30], [5, 1, 7, 10, 1, 6], [1] * 30], ids=["whole", "ragged", "single"])
def test_random_networks_equal_metas_code(
    save_tiny: Callable[..., tuple[Path, torch.nn.Module]], overrides: dict[str, object], sizes: list[int]
) -> None:
    """However we read them, logits agree with Meta's pass over all tokens, across chunks and temperatures.

    Meta's code is asked for one pass only: token by token it loses sight of chunks, and disagrees with itself.
    """
    from .meta import MetaNetwork

    folder, theirs = save_tiny(**(overrides | WIDTHS))
    ours = load_model(open_checkpoint(folder), device=torch.device("cpu"), dtype=torch.float32)
    tokens = torch.randint(0, 96, (2, 30), generator=torch.Generator().manual_seed(1))
    assert_near(logits_of_rows(ours, tokens, sizes), MetaNetwork(theirs)(tokens))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    heads=st.integers(1, 4),
    quarter=st.integers(1, 5),
    layers=st.integers(1, 3),
    half=st.integers(1, 4),
    patch=st.integers(1, 5),
    adapter=st.integers(1, 30),
    tiles=st.integers(1, 5),
)
def test_random_vision_networks_equal_metas_code(
    heads: int, quarter: int, layers: int, half: int, patch: int, adapter: int, tiles: int
) -> None:
    """A vision network that Meta's code made and saved sees the same as it does there."""
    from .meta import MetaVision

    side = 2 * half * patch
    theirs = MetaVision(
        {
            "image_size": {"height": side, "width": side},
            "patch_size": {"height": patch, "width": patch},
            "dim": heads * quarter * 4,
            "n_layers": layers,
            "n_heads": heads,
            "mlp_ratio": 4.0,
            "output_dim": adapter,
            "pixel_shuffle_ratio": 0.5,
        },
        width=16,
        seed=heads + quarter,
    )
    with tempfile.TemporaryDirectory() as folder:
        theirs.save(Path(folder))
        ours = load_vision(open_checkpoint(folder), device=torch.device("cpu"), dtype=torch.float32)
    assert ours is not None
    dice = torch.Generator().manual_seed(tiles)
    pixels = torch.randint(0, 256, (tiles, 3, side, side), generator=dice, dtype=torch.uint8)
    assert_near(ours.encode(pixels), theirs(pixels, tiles * half**2), least_scale=1.0)
