"""The network's equations written down once more, in float64 and as plainly as can be: the tests' own oracle.

One sequence, every token against every other, no cache, no blocks. It shares nothing with the engine but the weights.
"""

from __future__ import annotations

import torch
from llama4sdk_torch.model import Attention, Dense, Mixture, Weights
from torch import Tensor

from llama4sdk.llama4.config import TextConfig


def logits(config: TextConfig, weights: Weights, tokens: Tensor, *, origin: int = 0) -> Tensor:
    """Of one sequence [tokens] whose first token is at position ``origin``: [tokens, vocabulary], float64."""
    positions = torch.arange(origin, origin + len(tokens))
    x = weights.embedding[tokens].double()
    for number, layer in enumerate(weights.layers):
        nope, chunked = number in config.nope_layers, number in config.chunked_layers
        h = _norm(x, layer.attention_norm, config.norm_eps)
        x = x + _attention(config, layer.attention, h, positions, nope=nope, chunked=chunked)
        h = _norm(x, layer.feed_forward_norm, config.norm_eps)
        feed_forward = layer.feed_forward
        x = x + (_mixture(feed_forward, h) if isinstance(feed_forward, Mixture) else _swiglu(feed_forward, h))
    return _norm(x, weights.norm, config.norm_eps) @ weights.head.double().T


def temperature(config: TextConfig, positions: Tensor) -> Tensor:
    """1 + a ln(floor((p + 1) / floor_scale) + 1)."""
    return 1 + config.attn_scale * torch.log(torch.floor((positions.double() + 1) / config.floor_scale) + 1)


def rotate(x: Tensor, positions: Tensor, config: TextConfig) -> Tensor:
    """Turn the pairs (0, 1), (2, 3), ... of the last axis; x: [tokens, heads, dim].

    A frequency is a float32 number, as in the code that networks were trained with; everything else is exact.
    """
    turned = torch.empty_like(x)
    for pair in range(config.head_dim // 2):
        frequency = float(1 / torch.tensor(config.rope_theta) ** torch.tensor(2 * pair / config.head_dim))
        if config.rope_scaling is not None:
            frequency = float(torch.tensor(frequency) / config.rope_scaling.divisor(frequency))
        angle = (positions.double() * frequency).unsqueeze(1)
        even, odd = x[..., 2 * pair], x[..., 2 * pair + 1]
        turned[..., 2 * pair] = even * angle.cos() - odd * angle.sin()
        turned[..., 2 * pair + 1] = even * angle.sin() + odd * angle.cos()
    return turned


def _attention(c: TextConfig, weights: Attention, h: Tensor, positions: Tensor, *, nope: bool, chunked: bool) -> Tensor:
    rows = (h @ weights.qkv.double().T).unflatten(1, (-1, c.head_dim))  # [tokens, heads, dim]
    q, k, v = rows.split([c.num_heads, c.num_kv_heads, c.num_kv_heads], dim=1)
    if not nope:
        q, k = rotate(q, positions, c), rotate(k, positions, c)
        if c.qk_norm:
            q, k = _norm(q, 1.0, c.norm_eps), _norm(k, 1.0, c.norm_eps)
    elif c.temperature_tuning:
        q = q * temperature(c, positions).view(-1, 1, 1)
    visible = positions.unsqueeze(1) >= positions
    if chunked and c.chunk_size:
        visible &= (positions // c.chunk_size).unsqueeze(1) == positions // c.chunk_size
    heads = []
    for head in range(c.num_heads):
        shared = head * c.num_kv_heads // c.num_heads
        scores = q[:, head] @ k[:, shared].T * c.head_dim**-0.5
        heads.append(scores.masked_fill(~visible, -torch.inf).softmax(-1) @ v[:, shared])
    return torch.cat(heads, dim=1) @ weights.output.double().T


def _mixture(weights: Mixture, h: Tensor) -> Tensor:
    rows = []
    for token in h:
        scores = weights.router.double() @ token
        best = scores.argsort(descending=True)[: weights.experts_per_token].tolist()
        experts = (Dense(gate_up=weights.gate_up[expert], down=weights.down[expert]) for expert in best)
        routed = [_swiglu(expert, token * scores[n].sigmoid()) for expert, n in zip(experts, best, strict=True)]
        rows.append(_swiglu(weights.shared, token) + torch.stack(routed).sum(0))
    return torch.stack(rows)


def _swiglu(weights: Dense, h: Tensor) -> Tensor:
    gate, up = (h @ weights.gate_up.double().T).chunk(2, dim=-1)
    return (gate * gate.sigmoid() * up) @ weights.down.double().T


def _norm(x: Tensor, weight: Tensor | float, eps: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight
