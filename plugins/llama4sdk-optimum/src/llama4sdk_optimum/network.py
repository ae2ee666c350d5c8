"""Llama 4's text network in a form that torch can trace: with transformers' weights, and equal to its results.

Rotations are real instead of complex, masks are computed from positions, and each token is computed by its own experts
only. Every layer keeps the whole past: chunked layers see their own chunk by the mask. Positions count the tokens that
the mask keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from transformers.models.llama4.modeling_llama4 import (
        Llama4TextAttention,
        Llama4TextDecoderLayer,
        Llama4TextModel,
        Llama4TextMoe,
    )

#: The keys and values of a layer, each [batch, kv_heads, slots, dim].
KeysValues = tuple[Tensor, Tensor]


class _SharedInputs(NamedTuple):
    """The inputs that all layers share."""

    positions: Tensor  # [batch, tokens], of the new tokens
    cosines: Tensor  # [batch, tokens, 1, dim / 2]
    sines: Tensor
    biases: dict[str, Tensor]  # by kind of attention: [batch, 1, 1, tokens, slots], 0 where a token sees a slot


def hidden_states(
    model: Llama4TextModel, input_ids: Tensor, attention_mask: Tensor, past: Sequence[KeysValues] | None
) -> tuple[Tensor, list[KeysValues]]:
    """The states after the last norm [batch, tokens, hidden], and every layer's past with the new tokens behind it.

    ``attention_mask`` [batch, slots] covers the past and the new tokens, and is 0 where there is padding.
    """
    states = model.embed_tokens(input_ids)  # [batch, tokens, hidden]
    shared = _shared_inputs(model, attention_mask, input_ids.shape[1], states.dtype)
    present = []
    for number, layer in enumerate(cast("Iterable[Llama4TextDecoderLayer]", model.layers)):
        states, keys_values = _layer(layer, states, shared, None if past is None else past[number])
        present.append(keys_values)
    return model.norm(states), present


def _shared_inputs(model: Llama4TextModel, attention_mask: Tensor, tokens: int, dtype: torch.dtype) -> _SharedInputs:
    all_positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)  # [batch, slots]
    positions = all_positions[:, -tokens:]
    angles = positions[:, :, None, None].float() * model.rotary_emb.inv_freq.float()
    scaling = model.rotary_emb.attention_scaling
    slots = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    full = (slots[None, :] <= slots[-tokens:, None])[None] & (attention_mask[:, None, :] > 0)
    masks = {"full_attention": full}
    if model.config.attention_chunk_size is not None:
        chunks = torch.div(all_positions, model.config.attention_chunk_size, rounding_mode="floor")
        masks["chunked_attention"] = full & (chunks[:, None, :] == chunks[:, -tokens:, None])
    zero, least = torch.zeros((), dtype=dtype), torch.full((), torch.finfo(dtype).min, dtype=dtype)
    biases = {
        kind: torch.where(mask, zero.to(mask.device), least.to(mask.device))[:, None, None]
        for kind, mask in masks.items()
    }
    return _SharedInputs(positions, angles.cos() * scaling, angles.sin() * scaling, biases)


def _layer(
    layer: Llama4TextDecoderLayer, states: Tensor, shared: _SharedInputs, past: KeysValues | None
) -> tuple[Tensor, KeysValues]:
    bias = shared.biases[cast("str", layer.attention_type)]
    attended, present = _attention(layer.self_attn, layer.input_layernorm(states), shared, bias, past)
    states = states + attended
    normed = layer.post_attention_layernorm(states)
    network = layer.feed_forward
    return states + (_mixture(network, normed) if layer.is_moe_layer else network(normed)), present


def _attention(
    attention: Llama4TextAttention, states: Tensor, shared: _SharedInputs, bias: Tensor, past: KeysValues | None
) -> tuple[Tensor, KeysValues]:
    batch, tokens = states.shape[:2]
    dim, groups = attention.head_dim, attention.num_key_value_groups
    kv_heads = attention.num_key_value_heads
    queries = attention.q_proj(states).reshape(batch, tokens, -1, dim)
    keys = attention.k_proj(states).reshape(batch, tokens, -1, dim)
    values = attention.v_proj(states).reshape(batch, tokens, -1, dim).transpose(1, 2)
    if attention.use_rope:
        queries, keys = _rotated(queries, shared), _rotated(keys, shared)
        if attention.config.use_qk_norm:
            queries, keys = attention.qk_norm(queries), attention.qk_norm(keys)
    elif attention.attn_temperature_tuning:
        steps = torch.floor((shared.positions.float() + 1.0) / attention.floor_scale)
        scales = torch.log1p(steps) * attention.attn_scale + 1.0
        queries = (queries * scales[:, :, None, None]).type_as(queries)
    keys = keys.transpose(1, 2)  # [batch, kv_heads, tokens, dim]
    if past is not None:
        # An empty past may come in any shape: optimum guesses at it where it does not know the architecture.
        earlier = tuple(part.reshape(batch, kv_heads, -1, dim) for part in past)
        keys, values = torch.cat((earlier[0], keys), 2), torch.cat((earlier[1], values), 2)
    # The queries of a group are joined, so that keys and values need no copies.
    grouped = queries.transpose(1, 2).reshape(batch, kv_heads, -1, dim)  # [batch, kv_heads, groups * tokens, dim]
    scores = (grouped @ keys.transpose(2, 3)) * attention.scaling
    biased = scores.reshape(batch, kv_heads, groups, tokens, -1) + bias
    weights = biased.softmax(-1).reshape(batch, kv_heads, groups * tokens, -1)
    mixed = (weights @ values).reshape(batch, kv_heads * groups, tokens, dim)
    return attention.o_proj(mixed.transpose(1, 2).reshape(batch, tokens, -1)), (keys, values)


def _rotated(heads: Tensor, shared: _SharedInputs) -> Tensor:
    """Rotate neighbouring pairs by their positions; ``heads`` are [batch, tokens, heads, dim]."""
    pairs = heads.float().reshape(*heads.shape[:-1], -1, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    rotated = (even * shared.cosines - odd * shared.sines, even * shared.sines + odd * shared.cosines)
    return torch.stack(rotated, -1).flatten(-2).type_as(heads)


def _mixture(mixture: Llama4TextMoe, states: Tensor) -> Tensor:
    """The shared expert for all tokens plus, for each, the experts it is routed to; no others are computed."""
    flat = states.reshape(-1, states.shape[-1])  # [tokens, hidden]
    logits = functional.linear(flat, mixture.router.weight)
    best, experts = torch.topk(logits, mixture.top_k, dim=1)
    scores = torch.sigmoid(best.float()).type_as(flat)
    inputs = (flat[:, None, :] * scores[:, :, None]).flatten(0, 1)  # [tokens * top_k, hidden]
    rows, outputs = [], []
    weights = (cast("Iterable[Tensor]", part) for part in (mixture.experts.gate_up, mixture.experts.down))
    for number, (gate_up, down) in enumerate(zip(*weights, strict=True)):
        own_rows = torch.nonzero(experts.flatten() == number)[:, 0]
        gate, up = (inputs[own_rows] @ gate_up).chunk(2, dim=-1)
        rows.append(own_rows)
        outputs.append((up * mixture.experts.act_fn(gate)) @ down)
    routed = torch.index_put(torch.zeros_like(inputs), (torch.cat(rows),), torch.cat(outputs))
    summed = routed.reshape(-1, mixture.top_k, flat.shape[-1]).sum(1)
    result: Tensor = mixture.shared_expert(flat) + summed
    return result.reshape(states.shape)
