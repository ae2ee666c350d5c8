"""Configurations written in Hugging Face's format are read as the same, by us and by transformers."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from llama4sdk.catalog.models import MAVERICK, SCOUT
from llama4sdk.llama4.config import RopeScaling, TextConfig
from llama4sdk.llama4.hf_config import hf_config
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.weights.opening import open_checkpoint
from tests.weights.checkpoints import VISION, write_gguf


@st.composite
def configs(draw: st.DrawFn) -> TextConfig:
    """Networks of all kinds, including some whose layers follow no formula."""
    layers = draw(st.integers(1, 12))
    some = st.frozensets(st.integers(0, layers - 1))
    experts = draw(st.integers(0, 8))
    chunked = draw(some)
    kv_heads = draw(st.integers(1, 4))
    scaling = st.builds(
        RopeScaling,
        factor=st.floats(1, 64),
        low_freq_factor=st.floats(0.5, 4),
        high_freq_factor=st.floats(0.5, 8),
        original_context=st.integers(1, 1 << 20),
    )
    return TextConfig(
        vocab_size=draw(st.integers(1, 300_000)),
        hidden_size=draw(st.integers(1, 8192)),
        num_layers=layers,
        num_heads=kv_heads * draw(st.integers(1, 4)),
        num_kv_heads=kv_heads,
        head_dim=2 * draw(st.integers(1, 128)),
        expert_size=draw(st.integers(1, 8192)),
        dense_size=draw(st.integers(1, 8192)),
        num_experts=experts,
        experts_per_token=draw(st.integers(1, max(1, experts))),
        moe_layers=draw(some) if experts else frozenset(),
        nope_layers=draw(some),
        chunked_layers=chunked,
        chunk_size=draw(st.integers(1, 1 << 20) if chunked else st.none() | st.integers(1, 1 << 20)),
        rope_theta=draw(st.floats(1, 1e8)),
        rope_scaling=draw(st.none() | scaling),
        qk_norm=draw(st.booleans()),
        temperature_tuning=draw(st.booleans()),
        floor_scale=draw(st.floats(1, 1e5) | st.just(8192.0)),
        attn_scale=draw(st.floats(0, 1)),
        norm_eps=draw(st.floats(1e-9, 1e-2)),
        max_context=draw(st.integers(1, 20_000_000)),
        tied_embeddings=draw(st.booleans()),
    )


@given(configs())
def test_any_network_survives(config: TextConfig) -> None:
    """A configuration is the same after a round trip through JSON."""
    assert TextConfig.from_hf(json.loads(json.dumps(hf_config(config)))) == config


@given(configs(), st.sampled_from([2, 1]), st.floats(1, 1e6))
def test_so_does_one_that_sees(config: TextConfig, shuffle: int, theta: float) -> None:
    """A configuration with vision is the same after a round trip."""
    vision = VISION.model_copy(
        update={"shuffle": shuffle, "mlp_size": VISION.hidden_size * shuffle**2, "rope_theta": theta}
    )
    written = json.loads(json.dumps(hf_config(config, vision)))
    assert TextConfig.from_hf(written) == config
    assert VisionConfig.from_hf(written) == vision


def test_a_network_from_gguf_survives(tmp_path: Path) -> None:
    """A configuration read from GGUF is the same after a round trip."""
    config = open_checkpoint(write_gguf(tmp_path / "tiny.gguf")).config
    assert TextConfig.from_hf(hf_config(config)) == config


def test_transformers_reads_the_published_networks(tmp_path: Path) -> None:
    """Transformers' own class reads the published values."""
    for spec in (SCOUT, MAVERICK):
        assert spec.config is not None
        written = hf_config(spec.config, control={"<|patch|>": 7, "<|begin_of_text|>": 5}, stop_ids={3, 2})
        (tmp_path / "config.json").write_text(json.dumps(written), encoding="utf-8")
        theirs = AutoConfig.from_pretrained(tmp_path)
        assert theirs.model_type == "llama4_text"
        assert (theirs.hidden_size, theirs.num_local_experts) == (spec.config.hidden_size, spec.config.num_experts)
        assert frozenset(theirs.moe_layers) == spec.config.moe_layers
        assert theirs.layer_types.count("full_attention") == len(spec.config.nope_layers)
        assert (theirs.bos_token_id, theirs.eos_token_id) == (5, [2, 3])


def test_transformers_knows_the_image_token(tmp_path: Path) -> None:
    """The token of image features is written for networks with vision."""
    assert SCOUT.config is not None
    written = hf_config(SCOUT.config, VISION, control={"<|patch|>": 200_092})
    (tmp_path / "config.json").write_text(json.dumps(written), encoding="utf-8")
    theirs = AutoConfig.from_pretrained(tmp_path)
    assert theirs.model_type == "llama4"
    assert theirs.image_token_id == 200_092
    assert theirs.vision_config.image_size == VISION.tile_size
