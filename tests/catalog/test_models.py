"""The catalogue's facts equal the published ones, computed rather than copied."""

from __future__ import annotations

import pytest

from llama4sdk.catalog import models
from llama4sdk.catalog.models import BEHEMOTH, DEMO, MAVERICK, REASONING, SCOUT
from llama4sdk.llama4.sizes import kv_cache_bytes, parameters
from llama4sdk.plan import Quantization


def test_parameter_counts_are_the_published_integers() -> None:
    """Totals as the hub records them; active parameters as the published 17B."""
    assert SCOUT.parameters == 108_641_793_536
    assert MAVERICK.parameters == 401_583_781_376
    assert SCOUT.active_parameters == 17_172_894_720
    assert MAVERICK.active_parameters == 17_184_691_200
    assert DEMO.parameters == DEMO.active_parameters == 134_515_008
    assert BEHEMOTH.parameters is None
    assert BEHEMOTH.weight_bytes(Quantization.INT4) is None


@pytest.mark.parametrize(
    ("spec", "quantization", "size"),
    [
        (SCOUT, Quantization.BF16, 217_283_587_072),
        (SCOUT, Quantization.FP8, 111_659_674_624),
        (SCOUT, Quantization.INT4, 60_390_403_072),
        (MAVERICK, Quantization.BF16, 803_167_562_752),
        (MAVERICK, Quantization.FP8, 404_813_212_672),
        (MAVERICK, Quantization.INT4, 211_456_125_952),
        (DEMO, Quantization.FP32, 134_515_008 * 4),
    ],
)
def test_weights_take_what_was_worked_out_by_hand(
    spec: models.ModelSpec, quantization: Quantization, size: int
) -> None:
    """To the byte, scales included."""
    assert spec.weight_bytes(quantization) == size


def test_the_cache_of_keys_and_values() -> None:
    """Per token and layer 4096 bytes in bf16; with chunks only every fourth layer grows past 8192 tokens."""
    assert SCOUT.config is not None
    assert kv_cache_bytes(SCOUT.config, 1) == 196_608
    assert kv_cache_bytes(SCOUT.config, 8192) == kv_cache_bytes(SCOUT.config, 8192, chunk_aware=True) == 1_610_612_736
    assert kv_cache_bytes(SCOUT.config, 131_072) == 25_769_803_776
    assert kv_cache_bytes(SCOUT.config, 131_072, chunk_aware=True) == 7_650_410_496
    assert kv_cache_bytes(SCOUT.config, 10_485_760, chunk_aware=True) == 516_604_035_072


def test_text_parameters_are_the_total_less_vision() -> None:
    """The text networks alone."""
    assert SCOUT.config is not None
    assert parameters(SCOUT.config) == 107_769_861_120


@pytest.mark.parametrize("name", ["scout", "SCOUT", "Llama-4-Scout", "meta-llama/Llama-4-Scout-17B-16E-Instruct"])
def test_models_are_found_by_any_of_their_names(name: str) -> None:
    """Name, alias or repository, in any case."""
    assert models.find(name) is SCOUT


def test_an_alias_typed_wrong_leads_to_the_model() -> None:
    """The guess is the short name."""
    assert "Did you mean 'maverick'?" in (models.unknown_model("llama4-mavrick").hint or "")
    assert "Did you mean" not in (models.unknown_model("zzz").hint or "")


@pytest.mark.parametrize("name", ["Llama 4 Reasoning", "llama4-reasoning", "LLAMA-4-REASONING"])
def test_what_was_never_released_is_known(name: str) -> None:
    """By its names, with what comes nearest."""
    assert models.find(name) is REASONING
    assert models.find("Llama 4 Behemoth") is BEHEMOTH
    for spec in (BEHEMOTH, REASONING):
        assert not spec.released
        assert "never released" in spec.notes
        assert "Maverick" in spec.notes


def test_languages_are_those_meta_supports() -> None:
    """Twelve of both models."""
    assert len(SCOUT.languages) == len(set(SCOUT.languages)) == 12
    assert SCOUT.languages == MAVERICK.languages
    assert {"Tagalog", "Vietnamese", "Thai"} < set(SCOUT.languages)
