"""Memory of engines' caches, against what those engines print for Llama 4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama4sdk.capacity.kv_policies import KV_POLICIES, KVPolicy, find_policy
from llama4sdk.catalog.models import MAVERICK, SCOUT
from llama4sdk.errors import ConfigurationError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.sizes import kv_cache_bytes

MIB, GIB = 2**20, 2**30


def config() -> TextConfig:
    assert SCOUT.config is not None
    return SCOUT.config


@pytest.mark.parametrize(
    ("policy", "context", "mib"),
    [
        ("llama.cpp", 4_096, 768),
        ("llama.cpp", 8_192, 1_536),
        ("llama.cpp", 131_072, 7_368),
        ("llama.cpp", 1_048_576, 50_376),
        ("llama.cpp", 10_485_760, 492_744),
        ("llama.cpp --swa-full", 131_072, 24_576),
        ("llama.cpp --swa-full", 256_000, 48_000),
        ("vllm-0.14", 10_240_000, 1_920_000),
    ],
)
def test_bytes_are_those_the_engines_print(policy: str, context: int, mib: int) -> None:
    """llama.cpp's cache sizes to the MiB; 1.97 TB for ten million tokens is true only of engines that keep all."""
    assert find_policy(policy).bytes(config(), context) == mib * MIB
    assert MAVERICK.config is not None
    if context <= MAVERICK.config.max_context:
        assert find_policy(policy).bytes(MAVERICK.config, context) == mib * MIB


@pytest.mark.parametrize(
    ("pool_gib", "devices", "value_bytes", "tokens"),
    [(89.71, 8, 2, 3_919_664), (89.71, 8, 1, 7_838_976), (20.188, 1, 2, 110_256)],
)
def test_vllm_s_capacity_is_what_its_log_says(pool_gib: float, devices: int, value_bytes: int, tokens: int) -> None:
    """On eight H200 (0.12.0), with caches in bf16 and fp8, and on one RTX PRO 6000 (0.14.0rc1)."""
    pool = int(pool_gib * GIB * devices)
    longest = find_policy("vllm-0.14").longest_context(config(), pool, value_bytes=value_bytes)
    assert longest == pytest.approx(tokens, rel=1e-4)  # the log rounds the pool to hundredths


@pytest.mark.parametrize(
    ("context", "value_bytes", "concurrency"), [(5_242_880, 2, 2.96), (8_388_608, 2, 1.86), (10_000_000, 1, 3.12)]
)
def test_vllm_s_hybrid_cache_holds_what_its_log_says(context: int, value_bytes: int, concurrency: float) -> None:
    """How many requests of such length the same pool holds once local layers keep a chunk."""
    size = find_policy("vllm").bytes(config(), context, value_bytes=value_bytes)
    assert int(89.71 * GIB * 8) / size == pytest.approx(concurrency, abs=0.01)


@given(context=st.integers(1, 10_485_760), value_bytes=st.sampled_from([1, 2, 4]))
def test_ours_is_the_estimate_of_the_plan(context: int, value_bytes: int) -> None:
    """One rule, in two places that must agree."""
    ours = find_policy("llama4sdk").bytes(config(), context, value_bytes=value_bytes)
    assert ours == kv_cache_bytes(config(), context, value_bytes=value_bytes, chunk_aware=True)


@given(memory=st.integers(0, 3 * 10**12), policy=st.sampled_from(KV_POLICIES))
def test_the_longest_context_fits_and_one_more_token_does_not(memory: int, policy: KVPolicy) -> None:
    """For every engine, up to the model's own limit."""
    longest = policy.longest_context(config(), memory)
    assert policy.bytes(config(), longest) <= memory
    if longest < config().max_context:
        assert policy.bytes(config(), longest + 1) > memory


def test_more_sequences_take_more() -> None:
    """Each has its own chunk; what is being read is shared."""
    policy = find_policy("llama.cpp")
    one, two = (policy.bytes(config(), 131_072, sequences=count) for count in (1, 2))
    assert one < two <= 2 * one


def test_an_unknown_engine_is_refused() -> None:
    """With the nearest name."""
    with pytest.raises(ConfigurationError, match="Did you mean 'vllm'"):
        find_policy("vlm")
