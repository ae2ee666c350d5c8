"""Llama 4's text network as plain tensor code.

Dense and mixture layers, rotated chunked and unrotated global attention; a Llama network is the special case without
mixtures and with rotation everywhere. Weights are [out, in]; queries, keys and values are one matrix, gate and up too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the name everybody knows it by)

from llama4sdk.llama4.config import TextConfig
from llama4sdk_torch.cache import KVCache

__all__ = ["Attention", "Dense", "Layer", "Mixture", "TextModel", "Weights"]

BLOCK = 512
"""Tokens that go through the network at once while a prompt is read: bounds the memory of a long prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """``qkv``: [(heads + 2 * kv_heads) * dim, hidden]; ``output``: [hidden, heads * dim]."""

    qkv: Tensor
    output: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A SwiGLU layer. ``gate_up``: [2 * inner, hidden], gate first; ``down``: [hidden, inner]."""

    gate_up: Tensor
    down: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]."""
        gate, up = F.linear(x, self.gate_up).chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, self.down)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Routed experts and one shared expert.

    ``router``: [experts, hidden]; ``gate_up``: [experts, 2 * inner, hidden]; ``down``: [experts, hidden, inner].
    """

    router: Tensor
    gate_up: Tensor
    down: Tensor
    shared: Dense
    experts_per_token: int

    def __call__(self, x: Tensor) -> Tensor:
        """[batch, tokens, hidden] -> the same shape."""
        tokens = x.reshape(-1, x.shape[-1])  # [tokens, hidden]
        scores, experts = F.linear(tokens, self.router).topk(self.experts_per_token, dim=-1)  # ranked by raw score
        # The score scales what goes into the expert, not what comes out of it.
        inputs = tokens.unsqueeze(1) * scores.float().sigmoid().to(tokens.dtype).unsqueeze(-1)  # [tokens, k, hidden]
        # Asking which experts were chosen makes the host wait for an accelerator; for one token it is not needed.
        waits = x.device.type != "cpu" and tokens.shape[0] == 1
        routed = self.gathered(inputs, experts) if waits else self.grouped(inputs, experts)
        return self.shared(x) + routed.view_as(x)

    def grouped(self, inputs: Tensor, experts: Tensor) -> Tensor:
        """Each expert once, on all the tokens that chose it. [tokens, k, hidden], [tokens, k] -> [tokens, hidden]."""
        k = experts.shape[1]
        flat, chosen = inputs.flatten(0, 1), experts.flatten()
        order = chosen.argsort()
        counts = chosen.bincount(minlength=self.router.shape[0]).tolist()
        out = torch.empty_like(flat)
        for expert, rows in enumerate(torch.split(order, counts)):
            if len(rows):
                out[rows] = Dense(gate_up=self.gate_up[expert], down=self.down[expert])(flat[rows])
        return out.view(-1, k, out.shape[-1]).sum(1)

    def gathered(self, inputs: Tensor, experts: Tensor) -> Tensor:
        """The same by fetching each token's own matrices: right for a few tokens, and the host need not wait."""
        flat, chosen = inputs.flatten(0, 1).unsqueeze(-1), experts.flatten()
        gate, up = self.gate_up[chosen].bmm(flat).chunk(2, dim=1)  # [tokens * k, inner, 1]
        out = self.down[chosen].bmm(F.silu(gate) * up)
        return out.view(*inputs.shape).sum(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One block; the norms are [hidden]."""

    attention_norm: Tensor
    attention: Attention
    feed_forward_norm: Tensor
    feed_forward: Dense | Mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """``embedding`` and ``head``: [vocabulary, hidden], one and the same when tied; ``norm``: [hidden]."""

    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """What all layers of one kind share while tokens [start, end) go through: computed once."""

    rotation: Tensor | None  # [tokens, 1, dim / 2], complex; None in NoPE layers
    temperature: Tensor | None  # [tokens, 1, 1], on the query; None where it is 1 throughout
    first: int  # the first position that may be seen
    mask: Tensor | None  # [tokens, end - first]
    causal: bool  # the plain triangle, for which no mask is made


class TextModel:
    """The network with its weights. Holds no state of any sequence: that is in the cache."""

    def __init__(self, config: TextConfig, weights: Weights) -> None:
        self.config = config
        self.weights = weights
        self.device = weights.embedding.device
        self.dtype = weights.embedding.dtype
        self._frequencies = _frequencies(config).to(self.device)

    def new_cache(self, capacity: int, *, batch: int = 1) -> KVCache:
        """An empty cache on the model's device."""
        return KVCache(self.config, capacity, device=self.device, dtype=self.dtype, batch=batch)

    @torch.inference_mode()
    def embed(self, tokens: Tensor) -> Tensor:
        """[batch, tokens] -> [batch, tokens, hidden]: what ``hidden`` and ``prefill`` take in place of ids, too."""
        return F.embedding(tokens, self.weights.embedding)

    @torch.inference_mode()
    def hidden(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """The final normed states of ``tokens`` [batch, tokens], which come behind what the cache holds.

        Gives [batch, tokens, hidden]. Goes through the network in blocks that end where chunks end.
        """
        states = [self._span(block, cache) for block in self._blocks(tokens, cache)]
        return states[0] if len(states) == 1 else torch.cat(states, dim=1)

    @torch.inference_mode()
    def prefill(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """Like ``hidden``, but only the last token's state, [batch, hidden]: long prompts leave nothing else."""
        *blocks, last = self._blocks(tokens, cache)
        for block in blocks:
            self._span(block, cache)
        return self._span(last, cache)[:, -1]

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocabulary], float32."""
        return F.linear(hidden, self.weights.head).float()

    def _blocks(self, tokens: Tensor, cache: KVCache) -> tuple[Tensor, ...]:
        cuts = list(_cuts(cache.length, cache.length + tokens.shape[1], self.config.chunk_size))
        return torch.split(tokens, [end - start for start, end in pairwise(cuts)], dim=1)

    def _span(self, tokens: Tensor, cache: KVCache) -> Tensor:
        start, end = cache.length, cache.length + tokens.shape[1]
        shared: dict[tuple[bool, bool], _Span] = {}
        x = self.embed(tokens) if tokens.dim() == 2 else tokens  # [batch, tokens, hidden]
        for number, layer in enumerate(self.weights.layers):
            kind = (number in self.config.nope_layers, number in self.config.chunked_layers)
            if kind not in shared:
                shared[kind] = self._prepare(start, end, nope=kind[0], chunked=kind[1])
            h = self._norm(x, layer.attention_norm)
            x = x + self._attend(h, layer.attention, number, shared[kind], cache)
            x = x + layer.feed_forward(self._norm(x, layer.feed_forward_norm))
        cache.advance(end - start)
        return self._norm(x, self.weights.norm)

    def _prepare(self, start: int, end: int, *, nope: bool, chunked: bool) -> _Span:
        first = start - start % (self.config.chunk_size or 1) if chunked else 0
        # A single token sees all it is shown; a block at the beginning is the plain triangle; else spell it out.
        plain = end - start == 1 or start == first
        mask = None if plain else torch.ones(end - start, end - first, dtype=torch.bool, device=self.device)
        return _Span(
            rotation=None if nope else self._rotation(start, end, origin=first),
            temperature=self._temperature(start, end) if nope and self.config.temperature_tuning else None,
            first=first,
            mask=None if mask is None else mask.tril(start - first),
            causal=end - start > 1 and start == first,
        )

    def _rotation(self, start: int, end: int, *, origin: int) -> Tensor:
        """Positions count from the chunk's beginning: rotation is relative, and float32 angles stay exact."""
        positions = torch.arange(start - origin, end - origin, device=self.device, dtype=torch.float32)
        angles = torch.outer(positions, self._frequencies)  # [tokens, dim / 2]
        return torch.polar(torch.ones_like(angles), angles).unsqueeze(1)

    def _temperature(self, start: int, end: int) -> Tensor | None:
        c = self.config
        if end < c.floor_scale:
            return None
        positions = torch.arange(start + 1, end + 1, device=self.device, dtype=torch.float32)
        return (1 + c.attn_scale * torch.log1p((positions / c.floor_scale).floor())).view(-1, 1, 1)

    def _attend(self, h: Tensor, weights: Attention, number: int, span: _Span, cache: KVCache) -> Tensor:
        c = self.config
        qkv = F.linear(h, weights.qkv).view(*h.shape[:2], -1, c.head_dim)  # [batch, tokens, heads, dim]
        turned, v = torch.split(qkv, [c.num_heads + c.num_kv_heads, c.num_kv_heads], dim=2)
        if span.rotation is not None:
            turned = _rotate(turned, span.rotation)
            if c.qk_norm:
                turned = _rms(turned, c.norm_eps)
        q, k = torch.split(turned, [c.num_heads, c.num_kv_heads], dim=2)
        if span.temperature is not None:
            q = (q * span.temperature).to(q.dtype)
        keys, values = cache.append(number, k.transpose(1, 2), v.transpose(1, 2), span.first)
        return F.linear(_attention(q, keys, values, span), weights.output)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return _rms(x, self.config.norm_eps) * weight


def _attention(q: Tensor, keys: Tensor, values: Tensor, span: _Span) -> Tensor:
    """q: [batch, tokens, heads, dim]; keys, values: [batch, kv_heads, seen, dim] -> [batch, tokens, heads * dim]."""
    batch, tokens, heads, dim = q.shape
    if tokens == 1:  # a head's queries become rows, so that shared keys are read once, not once per query head
        rows = q.view(batch, keys.shape[1], -1, dim)  # [batch, kv_heads, group, dim]
        return F.scaled_dot_product_attention(rows, keys, values).reshape(batch, 1, heads * dim)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), keys, values, attn_mask=span.mask, is_causal=span.causal, enable_gqa=True
    )
    return out.transpose(1, 2).reshape(batch, tokens, heads * dim)


def _rms(x: Tensor, eps: float) -> Tensor:
    """Divide by the root mean square of the last axis, in float32."""
    return F.rms_norm(x.float(), x.shape[-1:], eps=eps).to(x.dtype)


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn adjacent pairs of the last axis as complex numbers. x: [batch, tokens, heads, dim]."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)


def _frequencies(config: TextConfig) -> Tensor:
    """Radians per token of each pair, [dim / 2], float32."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    plain = 1.0 / config.rope_theta**exponents
    if config.rope_scaling is None:
        return plain
    return plain / torch.tensor([config.rope_scaling.divisor(f) for f in plain.tolist()])


def _cuts(start: int, end: int, chunk: int | None) -> Iterator[int]:
    """Where blocks begin, and the end: at most ``BLOCK`` tokens each, none across the border of a chunk."""
    while start < end:
        yield start
        border = (start // chunk + 1) * chunk if chunk else end
        start = min(end, start + BLOCK, border)
    yield end
