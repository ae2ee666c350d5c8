"""Networks of random shape, written in every spelling of config.json, against transformers' Llama 4 class.

The suite tries 200 of them, always the same; ``PARITY_EXAMPLES=1000 pytest -k random_parity`` tries more.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama4sdk_torch.loading import load_model
from llama4sdk_torch.model import Segment, TextModel
from safetensors.torch import save_file
from transformers import Llama4ForCausalLM

from llama4sdk.llama4.sizes import kv_cache_bytes
from llama4sdk.weights.opening import open_checkpoint

from .numeric import assert_near, logits_of_rows, new_caches
from .reference import random_model

EXAMPLES = int(os.environ.get("PARITY_EXAMPLES", "200"))
ROWS = 3
#: Of the weights: wide enough that every rule shows in the logits, and that none makes float32's rounding grow.
SPREAD = 0.12


@dataclass(frozen=True)
class Network:
    """One network twice: as our ``config.json`` spells it, and as transformers is told of it, layer by layer."""

    spelt: dict[str, object]
    plain: dict[str, object]


@st.composite
def networks(draw: Callable[..., object]) -> Network:
    """Both flavours and everything between them."""
    layers, kv_heads = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 3]))
    sizes = {
        "vocab_size": 64,
        "hidden_size": draw(st.sampled_from([16, 24, 32])),
        "num_hidden_layers": layers,
        "num_attention_heads": kv_heads * draw(st.sampled_from([1, 2, 3])),
        "num_key_value_heads": kv_heads,
        "head_dim": draw(st.sampled_from([4, 8, 16])),
        "intermediate_size": draw(st.sampled_from([8, 20])),
        "intermediate_size_mlp": draw(st.sampled_from([12, 28])),
        "use_qk_norm": draw(st.booleans()),
        "attn_temperature_tuning": draw(st.booleans()),
        "floor_scale": draw(st.integers(1, 9)),
        "attn_scale": draw(st.sampled_from([0.1, 0.3])),
        "rms_norm_eps": draw(st.sampled_from([1e-5, 1e-3])),
        "tie_word_embeddings": draw(st.booleans()),
        "max_position_embeddings": 128,
        "bos_token_id": None,
        "eos_token_id": 63,
    }
    parts = [draw(part(layers)) for part in (_mixtures, _attention, _rotation)]
    spelt, plain = dict(sizes), dict(sizes)
    for one, other in parts:
        spelt |= one
        plain |= other
    return Network({"model_type": "llama4_text"} | spelt, plain)


Spelling = tuple[dict[str, object], dict[str, object]]


@st.composite
def _mixtures(draw: Callable[..., object], layers: int) -> Spelling:
    experts, step = draw(st.integers(0, 5)), draw(st.integers(1, 3))
    top_k = draw(st.integers(1, max(1, experts)))
    counts = {"num_local_experts": max(1, experts), "num_experts_per_tok": top_k}
    if not experts:
        none = {"num_experts_per_tok": 0, "interleave_moe_layer_step": 0, "moe_layers": []}
        spelt = {name: none[name] for name in draw(st.sets(st.sampled_from(sorted(none))))}
        return {"num_local_experts": 0} | spelt, counts | {"moe_layers": []}
    if draw(st.booleans()):
        return counts | {"interleave_moe_layer_step": step}, counts | {"interleave_moe_layer_step": step}
    chosen = {"moe_layers": sorted(draw(st.sets(st.integers(0, layers - 1))))}
    return counts | chosen | {"interleave_moe_layer_step": step}, counts | chosen


@st.composite
def _attention(draw: Callable[..., object], layers: int) -> Spelling:
    chunk = draw(st.none() | st.integers(1, 14))
    flags = draw(st.lists(st.integers(0, 1), min_size=layers, max_size=layers))
    kinds = ["chunked_attention" if flag else "full_attention" for flag in flags]
    spelling = draw(st.sampled_from(["flags", "kinds", "interval", "apart"]))
    if spelling == "interval":
        interval = draw(st.integers(1, 4))
        flags = [int((number + 1) % interval != 0) for number in range(layers)]
        kinds = ["chunked_attention" if flag else "full_attention" for flag in flags]
        spelt = {"no_rope_layer_interval": interval, **draw(st.sampled_from([{}, {"no_rope_layers": []}]))}
    elif spelling == "apart":  # which layers rotate, and which are chunked, are two questions
        kinds = draw(st.permutations(kinds))
        spelt = {"no_rope_layers": flags, "layer_types": kinds}
    else:
        spelt = {"no_rope_layers": flags} if spelling == "flags" else {"layer_types": kinds}
    # transformers wants a size even where nothing is chunked
    shown = kinds if chunk else ["full_attention"] * layers
    plain = {"no_rope_layers": flags, "layer_types": shown, "attention_chunk_size": chunk or 64}
    return spelt | {"attention_chunk_size": chunk}, plain


@st.composite
def _rotation(draw: Callable[..., object], _: int) -> Spelling:
    theta = draw(st.sampled_from([100.0, 500000.0]))
    scaling = draw(st.none() | st.sampled_from([(16.0, 1.0, 1.0), (8.0, 1.0, 4.0)]))
    if scaling is None:
        rope: dict[str, object] = {"rope_type": "default"}
    else:
        names = ("factor", "low_freq_factor", "high_freq_factor")
        rope = {"rope_type": "llama3", "original_max_position_embeddings": 16, **dict(zip(names, scaling, strict=True))}
    new = {"rope_parameters": rope | {"rope_theta": theta}}
    old = {"rope_theta": theta, "rope_scaling": rope if scaling else None}
    renamed = {"type" if name == "rope_type" else name: value for name, value in rope.items()}
    oldest = {"rope_theta": theta, "rope_scaling": renamed}
    return draw(st.sampled_from([new, old, oldest])), new


@given(network=networks(), data=st.data(), seed=st.integers(0, 2**31))
@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
@torch.inference_mode()
def test_any_network_equals_transformers(network: Network, data: st.DataObject, seed: int) -> None:
    """Logits agree: read whole, in ragged blocks, token by token, and in batches of unequal length."""
    theirs = random_model(seed % 1000, SPREAD, **network.plain)
    ours = _loaded(network.spelt, theirs)
    length = data.draw(st.integers(2, 40))
    tokens = torch.randint(0, 64, (ROWS, length), generator=torch.Generator().manual_seed(seed))
    expected = theirs(tokens).logits
    sizes = data.draw(st.lists(st.integers(1, 12), min_size=1))
    for blocks in ([length], _ragged(sizes, length), [1] * length):
        assert_near(logits_of_rows(ours, tokens, blocks), expected)
    cache = ours.new_cache(length)
    ours.prefill(tokens[0], cache)
    assert cache.bytes == kv_cache_bytes(ours.config, length, value_bytes=4, chunk_aware=True)
    lengths = data.draw(st.lists(st.integers(1, length), min_size=ROWS, max_size=ROWS))
    prompts = [data.draw(st.integers(1, whole)) for whole in lengths]
    _check_unequal(ours, tokens, lengths, prompts, expected)
    if not network.plain["attn_temperature_tuning"]:  # else see test_transformers_tunes_by_padded_positions
        _check_left_padded(theirs, tokens, lengths, expected)


def _check_unequal(
    ours: TextModel, tokens: torch.Tensor, lengths: Sequence[int], prompts: Sequence[int], expected: torch.Tensor
) -> None:
    """Sequences of ``lengths``, their ``prompts`` read together, then one token at a time until each has ended."""
    caches = new_caches(ours, ROWS, max(lengths))
    for row, states in enumerate(ours.hidden_of([tokens[n, :prompt] for n, prompt in enumerate(prompts)], caches)):
        assert_near(ours.logits(states), expected[row, : prompts[row]])
    while left := [row for row, length in enumerate(lengths) if caches[row].length < length]:
        last = torch.stack([tokens[row, caches[row].length] for row in left])
        logits = ours.logits(ours.forward(last, [Segment(caches[row], 1) for row in left]))
        for row, scores in zip(left, logits, strict=True):
            assert_near(scores, expected[row, caches[row].length - 1])


def _check_left_padded(
    theirs: Llama4ForCausalLM, tokens: torch.Tensor, lengths: Sequence[int], expected: torch.Tensor
) -> None:
    """Transformers gives the same logits for a left-padded batch."""
    longest = max(lengths)
    padded, mask = torch.zeros(ROWS, longest, dtype=torch.long), torch.zeros(ROWS, longest, dtype=torch.long)
    for row, length in enumerate(lengths):
        padded[row, longest - length :] = tokens[row, :length]
        mask[row, longest - length :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = theirs(padded, attention_mask=mask, position_ids=positions).logits
    for row, length in enumerate(lengths):
        assert_near(logits[row, longest - length :], expected[row, :length])


def _ragged(sizes: Sequence[int], length: int) -> list[int]:
    blocks: list[int] = []
    while sum(blocks) < length:
        blocks.append(min(sizes[len(blocks) % len(sizes)], length - sum(blocks)))
    return blocks


def _loaded(spelt: dict[str, object], theirs: Llama4ForCausalLM) -> TextModel:
    with tempfile.TemporaryDirectory() as folder:
        save_file(
            {name: values.contiguous() for name, values in theirs.state_dict().items() if name != "lm_head.weight"}
            | ({} if spelt["tie_word_embeddings"] else {"lm_head.weight": theirs.lm_head.weight}),
            Path(folder, "model.safetensors"),
        )
        Path(folder, "config.json").write_text(json.dumps(spelt), encoding="utf-8")
        return load_model(open_checkpoint(Path(folder)), device=torch.device("cpu"), dtype=torch.float32)
