"""Sizes of GGUF mixes equal what llama.cpp's own quantizer says of Llama 4, to the hundredth of a MiB."""

from __future__ import annotations

import pytest

from llama4sdk.capacity.gguf_sizes import GGUF_MIXES, gguf_bytes
from llama4sdk.catalog.models import DEMO, MAVERICK, SCOUT

MIB = 2**20


@pytest.mark.parametrize(
    ("mix", "scout", "maverick"),
    [
        ("Q8_0", 109213.34, 406078.34),
        ("Q6_K", None, 313530.47),
        ("Q5_K_M", 72987.88, 271276.63),
        ("Q5_K_S", 70804.45, None),
        ("Q4_K_M", 62319.56, None),
        ("Q4_K_S", 58593.63, 217233.63),
        ("IQ4_XS", 55575.3, None),
        ("MXFP4_MOE", 60253.34, 210238.34),
        ("Q3_K_L", 53348.85, 197438.85),
        ("Q3_K_M", 49345.1, None),
        ("Q3_K_S", 44562.6, None),
        ("IQ3_M", 45295.72, None),
    ],
)
def test_mixes_weigh_what_llama_cpp_says(mix: str, scout: float | None, maverick: float | None) -> None:
    """``llama-quantize --dry-run`` of build 11434 on headers of the published networks."""
    for spec, expected in ((SCOUT, scout), (MAVERICK, maverick)):
        assert spec.config is not None
        if expected is not None:
            assert gguf_bytes(spec.config, mix) / MIB == pytest.approx(expected, abs=0.0051)


def test_the_demo_model_s_full_formats_are_its_parameters() -> None:
    """Tied embeddings count once; norms stay float32."""
    assert DEMO.config is not None
    norms = (2 * DEMO.config.num_layers + 1) * DEMO.config.hidden_size
    assert gguf_bytes(DEMO.config, "F32") == 4 * (DEMO.parameters or 0)
    assert gguf_bytes(DEMO.config, "F16") == 2 * (DEMO.parameters or 0) + 2 * norms


def test_mixes_are_listed_from_largest_to_smallest() -> None:
    """So that a planner can walk down the list."""
    assert SCOUT.config is not None
    sizes = [gguf_bytes(SCOUT.config, mix) for mix in GGUF_MIXES]
    assert sizes == sorted(sizes, reverse=True)
