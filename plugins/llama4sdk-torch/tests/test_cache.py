"""Contents of the cache, and its memory."""

from __future__ import annotations

import pytest
import torch
from llama4sdk_torch.cache import KVCache
from llama4sdk_torch.model import TextModel

from llama4sdk.capacity.torch_memory import PROMPT_BLOCK, memory_breakdown
from llama4sdk.catalog import models
from llama4sdk.errors import ContextLengthError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.sizes import kv_cache_bytes
from llama4sdk.plan import Quantization

from .numeric import assert_near, new_caches, read_rows

META = torch.device("meta")


@pytest.fixture(scope="module")
def scout() -> TextConfig:
    """The real shape; on torch's "meta" device its cache takes no memory."""
    spec = models.find("scout")
    assert spec is not None
    assert spec.config is not None
    return spec.config


@pytest.mark.parametrize("tokens", [1, 8191, 8192, 8193, 131_072, 10_485_760])
def test_a_full_cache_takes_what_the_formula_says(scout: TextConfig, tokens: int) -> None:
    """Scout's cache in bf16, filled to its capacity, is as large as the planner says, up to 10M tokens."""
    cache = KVCache(scout, tokens, device=META, dtype=torch.bfloat16)
    cache.reserve(tokens)
    assert cache.bytes == kv_cache_bytes(scout, tokens, chunk_aware=True)


def test_memory_is_taken_as_tokens_come(scout: TextConfig) -> None:
    """A cache for a million tokens takes nothing at first, then what is needed and at most a quarter or 64 more."""
    cache = KVCache(scout, 1_048_576, device=META, dtype=torch.bfloat16)
    assert cache.bytes == 0
    for tokens in (1, 256, 257, 20_000, 20_481, 1_048_575, 1_048_576):
        cache.reserve(tokens)
        assert tokens <= cache.room <= min(1_048_576, tokens * 5 // 4 + 64)
        assert cache.bytes == kv_cache_bytes(scout, cache.room, chunk_aware=True)
    room = cache.room
    cache.reserve(5)
    assert cache.room == room


def test_growing_keeps_what_is_there(tiny: tuple[TextModel, torch.nn.Module]) -> None:
    """An answer across many growths and chunks has the same logits as a cache taken at once."""
    network, _ = tiny
    tokens = torch.randint(0, 96, (700,), generator=torch.Generator().manual_seed(1))
    grown, whole = network.new_cache(700), network.new_cache(700)
    whole.reserve(700)
    rooms = set()
    for part in tokens.split([250, 5, 2, 63, 1, 300, 79]):
        torch.testing.assert_close(network.hidden(part, grown), network.hidden(part, whole), atol=0, rtol=0)
        rooms.add(grown.room)
    assert len(rooms) >= 3
    assert grown.bytes == whole.bytes == kv_cache_bytes(network.config, 700, value_bytes=4, chunk_aware=True)


def test_what_exceeds_the_capacity_is_refused(tiny: tuple[TextModel, torch.nn.Module]) -> None:
    """Both counts are told, and no cache of the pass changes."""
    network, _ = tiny
    caches = new_caches(network, 2, 9)
    network.hidden_of([torch.zeros(6, dtype=torch.long), torch.zeros(2, dtype=torch.long)], caches)
    with pytest.raises(ContextLengthError) as caught:
        network.hidden_of([torch.zeros(4, dtype=torch.long)] * 2, caches)
    assert (caught.value.limit, caught.value.requested) == (9, 10)
    assert [cache.length for cache in caches] == [6, 2]
    network.hidden_of([torch.zeros(3, dtype=torch.long), torch.zeros(4, dtype=torch.long)], caches)
    assert [cache.length for cache in caches] == [9, 6]


def test_a_sequence_that_waits_is_left_alone(tiny: tuple[TextModel, torch.nn.Module]) -> None:
    """One without tokens in a pass neither grows nor changes, and can go on later, across a chunk's border."""
    network, _ = tiny
    tokens = torch.randint(0, 96, (2, 12), generator=torch.Generator().manual_seed(2))
    alone = [network.hidden(row, network.new_cache(12)) for row in tokens]
    caches = new_caches(network, 2, 12)
    read_rows(network, tokens[:, :6], caches)
    empty = tokens[0, :0]
    network.hidden_of([tokens[0, 6:], empty], caches)  # the first passes the border at 8, the second waits
    assert [cache.length for cache in caches] == [12, 6]
    assert_near(network.prefill(tokens[1, 6:], caches[1]), alone[1][-1])


def test_blocks_end_at_borders(scout: TextConfig) -> None:
    """No block crosses a chunk's border or is longer than the limit, and no token is left out."""
    config = scout.model_copy(update={"chunk_size": 500})
    cache = KVCache(config, 2000, device=META, dtype=torch.bfloat16)
    while cache.length < 1700:
        count = cache.next_block(1700 - cache.length)
        assert 0 < count <= PROMPT_BLOCK
        assert cache.length // 500 == (cache.length + count - 1) // 500
        slots = cache.slots(count, chunked=True)
        assert (slots.first, slots.end) == (cache.length % 500, cache.length % 500 + count)
        cache.advance(count)
    assert cache.length == 1700


def test_plans_count_local_layers_by_the_chunk(scout: TextConfig) -> None:
    """Of a longer context Scout's plan counts the 12 global layers only, and a 13th while the cache grows."""
    short, long = (sum(memory_breakdown(scout, Quantization.BF16, context).values()) for context in (131_072, 262_144))
    layer = 4096 * 131_072
    assert long - short == 13 * layer


def test_an_origin_inside_a_chunk_is_refused(tiny: tuple[TextModel, torch.nn.Module]) -> None:
    """The beginning of that chunk would be missing."""
    with pytest.raises(ValueError, match="multiple of the chunk size"):
        tiny[0].new_cache(8, origin=4)


def test_masks_in_pieces_change_nothing(
    tiny: tuple[TextModel, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a mask would be too large it is made for a few tokens at a time."""
    network, _ = tiny
    tokens = torch.randint(0, network.config.vocab_size, (2, 25), generator=torch.Generator().manual_seed(3))

    def states() -> list[torch.Tensor]:
        caches = new_caches(network, 2, 48)
        network.hidden_of([tokens[0, :5], tokens[1, :20]], caches)
        return network.hidden_of([tokens[0, 5:], tokens[1, 14:]], caches)

    whole = states()
    monkeypatch.setattr("llama4sdk_torch.model.MAX_MASKED_PAIRS", 60)
    for before, after in zip(whole, states(), strict=True):
        assert_near(after, before)
