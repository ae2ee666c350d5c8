"""Llama 4's text network as torch can trace it: transformers' weights and its numbers, without what stops a tracer.

Rotations are real instead of complex, masks are made of positions, a token meets its own experts only, and the past
is all of it in every layer: a chunked layer looks at its own chunk by the mask. Positions count what the mask leaves.
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

__all__ = ["KeysValues", "hidden_states"]

#: The keys and values of a layer, each [batch, kv_heads, slots, dim].
KeysValues = tuple[Tensor, Tensor]


class _Step(NamedTuple):
    """What all layers share."""

    positions: Tensor  # [batch, tokens], of the new tokens
    cosines: Tensor  # [batch, tokens, 1, dim / 2]
    sines: Tensor
    biases: dict[str, Tensor]  # by kind of attention: [batch, 1, 1, tokens, slots], 0 for what a token sees


def hidden_states(
    model: Llama4TextModel, input_ids: Tensor, attention_mask: Tensor, past: Sequence[KeysValues] | None
) -> tuple[Tensor, list[KeysValues]]:
    """The states after the last norm [batch, tokens, hidden], and every layer's past with the new tokens behind it.

    ``attention_mask`` [batch, slots] covers the past and the new tokens, and is 0 where there is padding.
    """
    states = model.embed_tokens(input_ids)  # [batch, tokens, hidden]
    step = _step(model, attention_mask, input_ids.shape[1], states.dtype)
    present = []
    for number, layer in enumerate(cast("Iterable[Llama4TextDecoderLayer]", model.layers)):
        states, keys_values = _layer(layer, states, step, None if past is None else past[number])
        present.append(keys_values)
    return model.norm(states), present


def _step(model: Llama4TextModel, attention_mask: Tensor, tokens: int, dtype: torch.dtype) -> _Step:
    everywhere = (attention_mask.cumsum(-1) - 1).clamp(min=0)  # [batch, slots]
    positions = everywhere[:, -tokens:]
    angles = positions[:, :, None, None].float() * model.rotary_emb.inv_freq.float()
    scaling = model.rotary_emb.attention_scaling
    slots = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    full = (slots[None, :] <= slots[-tokens:, None])[None] & (attention_mask[:, None, :] > 0)
    seen = {"full_attention": full}
    if model.config.attention_chunk_size is not None:
        chunks = torch.div(everywhere, model.config.attention_chunk_size, rounding_mode="floor")
        seen["chunked_attention"] = full & (chunks[:, None, :] == chunks[:, -tokens:, None])
    zero, least = torch.zeros((), dtype=dtype), torch.full((), torch.finfo(dtype).min, dtype=dtype)
    biases = {
        kind: torch.where(mask, zero.to(mask.device), least.to(mask.device))[:, None, None]
        for kind, mask in seen.items()
    }
    return _Step(positions, angles.cos() * scaling, angles.sin() * scaling, biases)


def _layer(
    layer: Llama4TextDecoderLayer, states: Tensor, step: _Step, past: KeysValues | None
) -> tuple[Tensor, KeysValues]:
    bias = step.biases[cast("str", layer.attention_type)]
    attended, present = _attention(layer.self_attn, layer.input_layernorm(states), step, bias, past)
    states = states + attended
    normed = layer.post_attention_layernorm(states)
    return states + (_mixture if layer.is_moe_layer else _dense)(layer.feed_forward, normed), present


def _attention(
    attention: Llama4TextAttention, states: Tensor, step: _Step, bias: Tensor, past: KeysValues | None
) -> tuple[Tensor, KeysValues]:
    batch, tokens = states.shape[:2]
    dim, groups = attention.head_dim, attention.num_key_value_groups
    kv_heads = attention.num_key_value_heads
    queries = attention.q_proj(states).reshape(batch, tokens, -1, dim)
    keys = attention.k_proj(states).reshape(batch, tokens, -1, dim)
    values = attention.v_proj(states).reshape(batch, tokens, -1, dim).transpose(1, 2)
    if attention.use_rope:
        queries, keys = _rotated(queries, step), _rotated(keys, step)
        if attention.config.use_qk_norm:
            queries, keys = attention.qk_norm(queries), attention.qk_norm(keys)
    elif attention.attn_temperature_tuning:
        steps = torch.floor((step.positions.float() + 1.0) / attention.floor_scale)
        scales = torch.log1p(steps) * attention.attn_scale + 1.0
        queries = (queries * scales[:, :, None, None]).type_as(queries)
    keys = keys.transpose(1, 2)  # [batch, kv_heads, tokens, dim]
    if past is not None:
        # An empty past may come in any shape: optimum guesses at it where it does not know the architecture.
        before = tuple(part.reshape(batch, kv_heads, -1, dim) for part in past)
        keys, values = torch.cat((before[0], keys), 2), torch.cat((before[1], values), 2)
    # The queries of one group lie behind each other, so that keys and values need no copies.
    grouped = queries.transpose(1, 2).reshape(batch, kv_heads, -1, dim)  # [batch, kv_heads, groups * tokens, dim]
    scores = (grouped @ keys.transpose(2, 3)) * attention.scaling
    biased = scores.reshape(batch, kv_heads, groups, tokens, -1) + bias
    weights = biased.softmax(-1).reshape(batch, kv_heads, groups * tokens, -1)
    mixed = (weights @ values).reshape(batch, kv_heads * groups, tokens, dim)
    return attention.o_proj(mixed.transpose(1, 2).reshape(batch, tokens, -1)), (keys, values)


def _rotated(heads: Tensor, step: _Step) -> Tensor:
    """Rotary positions over neighbouring pairs; ``heads`` are [batch, tokens, heads, dim]."""
    pairs = heads.float().reshape(*heads.shape[:-1], -1, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    turned = (even * step.cosines - odd * step.sines, even * step.sines + odd * step.cosines)
    return torch.stack(turned, -1).flatten(-2).type_as(heads)


def _dense(network: torch.nn.Module, states: Tensor) -> Tensor:
    result: Tensor = network(states)
    return result


def _mixture(mixture: Llama4TextMoe, states: Tensor) -> Tensor:
    """The shared expert of all tokens, and of each the experts it is sent to: no others are computed."""
    flat = states.reshape(-1, states.shape[-1])  # [tokens, hidden]
    logits = functional.linear(flat, mixture.router.weight)
    best, chosen = torch.topk(logits, mixture.top_k, dim=1)
    scores = torch.sigmoid(best.float()).type_as(flat)
    inputs = (flat[:, None, :] * scores[:, :, None]).flatten(0, 1)  # [tokens * top_k, hidden]
    rows, outputs = [], []
    weights = (cast("Iterable[Tensor]", part) for part in (mixture.experts.gate_up, mixture.experts.down))
    for number, (gate_up, down) in enumerate(zip(*weights, strict=True)):
        mine = torch.nonzero(chosen.flatten() == number)[:, 0]
        gate, up = (inputs[mine] @ gate_up).chunk(2, dim=-1)
        rows.append(mine)
        outputs.append((up * mixture.experts.act_fn(gate)) @ down)
    routed = torch.index_put(torch.zeros_like(inputs), (torch.cat(rows),), torch.cat(outputs))
    summed = routed.reshape(-1, mixture.top_k, flat.shape[-1]).sum(1)
    result: Tensor = mixture.shared_expert(flat) + summed
    return result.reshape(states.shape)
