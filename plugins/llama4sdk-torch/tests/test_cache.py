"""What the cache holds, and how much memory it takes."""

from __future__ import annotations

import pytest
import torch
from llama4sdk_torch.cache import KVCache
from llama4sdk_torch.model import TextModel
from llama4sdk_torch.slot_mapping import spans

from llama4sdk.capacity.torch_memory import PROMPT_BLOCK, memory_breakdown
from llama4sdk.catalog import models
from llama4sdk.errors import ContextLengthError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.sizes import kv_cache_bytes
from llama4sdk.plan import Quantization

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
    """A cache for a million tokens takes nothing at first, then what is needed and at most a quarter or 256 more."""
    cache = KVCache(scout, 1_048_576, device=META, dtype=torch.bfloat16, batch=2)
    assert cache.bytes == 0
    for tokens in (1, 256, 257, 20_000, 20_481, 1_048_575, 1_048_576):
        cache.reserve(tokens)
        assert tokens <= cache.room <= min(1_048_576, tokens * 5 // 4 + 256)
        assert cache.bytes == 2 * kv_cache_bytes(scout, cache.room, chunk_aware=True)
    room = cache.room
    cache.reserve(5)
    assert cache.room == room


def test_growing_keeps_what_is_there(tiny: tuple[TextModel, torch.nn.Module]) -> None:
    """An answer across many growths and chunks has the same logits as a cache taken at once."""
    network, _ = tiny
    tokens = torch.randint(0, 96, (1, 700), generator=torch.Generator().manual_seed(1))
    grown, whole = network.new_cache(700), network.new_cache(700)
    whole.reserve(700)
    rooms = set()
    for part in tokens.split([250, 5, 2, 63, 1, 300, 79], dim=1):
        torch.testing.assert_close(network.hidden(part, grown), network.hidden(part, whole), atol=0, rtol=0)
        rooms.add(grown.room)
    assert len(rooms) >= 3
    assert grown.bytes == whole.bytes == kv_cache_bytes(network.config, 700, value_bytes=4, chunk_aware=True)


def test_what_exceeds_the_capacity_is_refused(tiny: tuple[TextModel, torch.nn.Module]) -> None:
    """Both counts are told, and the cache stays as it was."""
    network, _ = tiny
    cache = network.new_cache(9, batch=2)
    network.hidden(torch.zeros(2, 6, dtype=torch.long), cache, [6, 2])
    with pytest.raises(ContextLengthError) as caught:
        network.hidden(torch.zeros(2, 4, dtype=torch.long), cache)
    assert (caught.value.limit, caught.value.requested) == (9, 10)
    assert cache.lengths == (6, 2)
    network.hidden(torch.zeros(2, 4, dtype=torch.long), cache, [3, 4])
    assert cache.lengths == (9, 6)


@pytest.mark.parametrize("counts", [[1], [1, 2, 3], [0, 0], [5, 1], [-1, 1]])
def test_counts_that_do_not_fit_are_refused(tiny: tuple[TextModel, torch.nn.Module], counts: list[int]) -> None:
    """One count for each row, none beyond the columns, at least one token in all."""
    network, _ = tiny
    with pytest.raises(ValueError, match="do not fit"):
        network.hidden(torch.zeros(2, 4, dtype=torch.long), network.new_cache(8, batch=2), counts)


def test_a_finished_row_leaves_the_others_alone(tiny: tuple[TextModel, torch.nn.Module]) -> None:
    """A row without tokens in a step neither grows nor changes, and can go on later, across a chunk's border."""
    network, _ = tiny
    tokens = torch.randint(0, 96, (2, 12), generator=torch.Generator().manual_seed(2))
    alone = [network.hidden(row.unsqueeze(0), network.new_cache(12))[0] for row in tokens]
    cache = network.new_cache(12, batch=2)
    network.prefill(tokens[:, :6], cache)
    network.prefill(tokens[:, 6:], cache, [6, 0])  # the first row passes the border at 8, the second waits
    assert cache.lengths == (12, 6)
    last = network.prefill(tokens[:, 6:], cache, [0, 6])
    torch.testing.assert_close(last[1], alone[1][-1], atol=1e-5, rtol=0)


def test_spans_end_at_every_rows_border() -> None:
    """No row crosses a chunk's border within a span, no span is longer than a block, and no token is left out."""
    lengths, counts = (0, 3, 7, 8), (1100, 9, 0, 600)
    columns, filled = 0, list(lengths)
    for span in spans(lengths, counts, 500):
        assert span.begin == columns < span.end <= columns + PROMPT_BLOCK
        for row, (start, count) in enumerate(zip(span.starts, span.counts, strict=True)):
            assert start == filled[row]
            assert count == 0 or start // 500 == (start + count - 1) // 500
            filled[row] += count
        columns = span.end
    assert filled == [length + count for length, count in zip(lengths, counts, strict=True)]


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
    """Where a mask would be too large it is made for a few tokens at a time, in even and in ragged batches."""
    network, _ = tiny
    tokens = torch.randint(0, network.config.vocab_size, (2, 24), generator=torch.Generator().manual_seed(3))

    def states(counts: list[int]) -> torch.Tensor:
        cache = network.new_cache(48, batch=2)
        network.prefill(tokens, cache, [5, counts[0]])
        return network.hidden(tokens, cache, counts)[:, : min(counts)]

    whole = [states(counts) for counts in ([5, 5], [20, 11])]
    monkeypatch.setattr("llama4sdk_torch.model.MAX_MASKED_PAIRS", 60)
    for before, counts in zip(whole, ([5, 5], [20, 11]), strict=True):
        torch.testing.assert_close(states(counts), before, atol=1e-5, rtol=1e-5)
