"""Llama 4's text network as plain tensor code.

Dense and mixture layers, rotated chunked and unrotated global attention; a Llama network is the special case without
mixtures and with rotation everywhere. Weights are [out, in]; queries, keys and values are one matrix, gate and up too.
A ``Matrix`` is a tensor or codes with scales; nothing here asks which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the name everybody knows it by)

from llama4sdk.capacity.torch_memory import MAX_MASKED_PAIRS
from llama4sdk.llama4.config import TextConfig
from llama4sdk_torch.cache import KVCache
from llama4sdk_torch.quantized import Matrix, linear, lookup, pick
from llama4sdk_torch.slot_mapping import Slots, Span

__all__ = ["Attention", "Dense", "Layer", "Mixture", "TextModel", "Weights"]

NEAR = 8192
"""Up to here angles are the float32 numbers of the published code; at 1,000,000 those would be off by 0.03 radians."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """``qkv``: [(heads + 2 * kv_heads) * dim, hidden]; ``output``: [hidden, heads * dim]."""

    qkv: Matrix
    output: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A SwiGLU layer. ``gate_up``: [2 * inner, hidden], gate first; ``down``: [hidden, inner]."""

    gate_up: Matrix
    down: Matrix

    def __call__(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]."""
        gate, up = linear(x, self.gate_up).chunk(2, dim=-1)
        return linear(F.silu(gate) * up, self.down)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Routed experts and one shared expert.

    ``router``: [experts, hidden]; ``gate_up``: [experts, 2 * inner, hidden]; ``down``: [experts, hidden, inner].
    """

    router: Tensor
    gate_up: Matrix
    down: Matrix
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
        """The same by fetching each token's own expert: right for a few tokens, and the host need not wait."""
        flat, chosen = inputs.flatten(0, 1), experts.flatten()
        out = []
        for x, expert in zip(
            torch.split(flat, 1), torch.split(chosen, 1), strict=True
        ):  # one at a time: an expert is large
            out.append(Dense(gate_up=pick(self.gate_up, expert), down=pick(self.down, expert))(x))
        return torch.cat(out).view(*inputs.shape).sum(1)


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

    embedding: Matrix
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What all layers of one kind share while a span goes through: computed once. ``rows`` is 1 where all are alike."""

    slots: Slots
    mask: Tensor | None  # [rows, 1, tokens, seen]; None where none is needed, or it is made in pieces
    step: int
    """Tokens whose mask is made at once."""
    rotation: Tensor | None  # [rows, tokens, 1, dim / 2], complex; None in NoPE layers
    temperature: Tensor | None  # [rows, tokens, 1, 1], on the query; None where it is 1 throughout


class TextModel:
    """The network with its weights. Holds no state of any sequence: that is in the cache."""

    def __init__(self, config: TextConfig, weights: Weights) -> None:
        self.config = config
        self.weights = weights
        self.device = weights.norm.device
        self.dtype = weights.norm.dtype
        self._frequencies = _frequencies(config).to(self.device)

    def new_cache(self, capacity: int, *, batch: int = 1, origin: int = 0) -> KVCache:
        """An empty cache on the model's device; see ``KVCache``."""
        return KVCache(self.config, capacity, device=self.device, dtype=self.dtype, batch=batch, origin=origin)

    @torch.inference_mode()
    def embed(self, tokens: Tensor) -> Tensor:
        """[batch, tokens] -> [batch, tokens, hidden]: what ``hidden`` and ``prefill`` take in place of ids, too."""
        return lookup(tokens, self.weights.embedding)

    @torch.inference_mode()
    def hidden(self, tokens: Tensor, cache: KVCache, counts: Sequence[int] | None = None) -> Tensor:
        """The final normed states of ``tokens`` [batch, tokens], which come behind what the cache holds.

        Of row ``r`` only the first ``counts[r]`` are real (all, by default); the rest is padding, which leaves no trace
        in the cache. Gives [batch, max(counts), hidden]; a state where there is padding means nothing. Goes through the
        network in blocks that end where chunks end. Raises ContextLengthError when the cache was made for less.
        """
        states = [self._through(tokens, span, cache) for span in cache.spans(_counts(tokens, counts))]
        return states[0] if len(states) == 1 else torch.cat(states, dim=1)

    @torch.inference_mode()
    def prefill(self, tokens: Tensor, cache: KVCache, counts: Sequence[int] | None = None) -> Tensor:
        """Like ``hidden``, but only each row's last state, [batch, hidden]: long prompts leave nothing else.

        A row may have no tokens at all, such as a finished one in a batch that goes on; its state then means nothing.
        """
        first, *others = cache.spans(_counts(tokens, counts))
        last = first.last(self._through(tokens, first, cache), None)
        for span in others:
            last = span.last(self._through(tokens, span, cache), last)
        return last

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocabulary], float32."""
        return linear(hidden, self.weights.head).float()

    def _through(self, tokens: Tensor, span: Span, cache: KVCache) -> Tensor:
        positions = span.positions(self.device)
        shared: dict[tuple[bool, bool], _Shared] = {}
        part = tokens[:, span.begin : span.end]
        x = self.embed(part) if part.dim() == 2 else part  # [batch, tokens, hidden]
        for number, layer in enumerate(self.weights.layers):
            kind = (number in self.config.nope_layers, number in self.config.chunked_layers)
            if kind not in shared:
                shared[kind] = self._share(span, positions, cache.origin, nope=kind[0], chunked=kind[1])
            h = self._norm(x, layer.attention_norm)
            x = x + self._attend(h, layer.attention, number, shared[kind], cache)
            x = x + layer.feed_forward(self._norm(x, layer.feed_forward_norm))
        cache.advance(span)
        return self._norm(x, self.weights.norm)

    def _share(self, span: Span, positions: Tensor, origin: int, *, nope: bool, chunked: bool) -> _Shared:
        slots = span.slots(positions, chunk=self.config.chunk_size if chunked else None)
        tuned = nope and self.config.temperature_tuning
        step = max(1, MAX_MASKED_PAIRS // (slots.of_tokens.shape[0] * slots.seen))
        return _Shared(
            slots=slots,
            mask=slots.mask(0, span.tokens) if slots.masked and step >= span.tokens else None,
            step=step,
            # Rotation is relative: counted from the chunk's beginning, its float32 angles stay exact at any length.
            rotation=None if nope else self._rotation(slots.of_tokens, far=slots.seen > NEAR),
            temperature=self._temperature(positions + origin) if tuned and self._tempered(span, origin) else None,
        )

    def _rotation(self, positions: Tensor, *, far: bool) -> Tensor:
        """``far`` says whether any position is ``NEAR`` or beyond. [rows, tokens] -> [rows, tokens, 1, dim / 2]."""
        steps = positions.view(*positions.shape, 1, 1)
        angles = steps.float() * self._frequencies
        if far:
            angles = torch.where(steps < NEAR, angles.double(), steps * self._frequencies.double())
        return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)

    def _tempered(self, span: Span, origin: int) -> bool:
        return origin + max(span.starts) + span.tokens >= self.config.floor_scale

    def _temperature(self, positions: Tensor) -> Tensor:
        c = self.config
        steps = ((positions + 1).float() / c.floor_scale).floor()
        return (1 + c.attn_scale * torch.log1p(steps)).view(*positions.shape, 1, 1)

    def _attend(self, h: Tensor, weights: Attention, number: int, shared: _Shared, cache: KVCache) -> Tensor:
        c = self.config
        qkv = linear(h, weights.qkv).view(*h.shape[:2], -1, c.head_dim)  # [batch, tokens, heads, dim]
        turned, v = torch.split(qkv, [c.num_heads + c.num_kv_heads, c.num_kv_heads], dim=2)
        if shared.rotation is not None:
            turned = _rotate(turned, shared.rotation)
            if c.qk_norm:
                turned = _rms(turned, c.norm_eps)
        q, k = torch.split(turned, [c.num_heads, c.num_kv_heads], dim=2)
        if shared.temperature is not None:
            q = (q * shared.temperature).to(q.dtype)
        keys, values = cache.append(number, k.transpose(1, 2), v.transpose(1, 2), shared.slots)
        return linear(_attention(q, keys, values, shared), weights.output)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return _rms(x, self.config.norm_eps) * weight


def _attention(q: Tensor, keys: Tensor, values: Tensor, shared: _Shared) -> Tensor:
    """q: [batch, tokens, heads, dim]; keys, values: [batch, kv_heads, seen, dim] -> [batch, tokens, heads * dim]."""
    batch, tokens, heads, dim = q.shape
    if tokens == 1:  # a head's queries become rows, so that shared keys are read once, not once per query head
        rows = q.view(batch, keys.shape[1], -1, dim)  # [batch, kv_heads, group, dim]
        return F.scaled_dot_product_attention(rows, keys, values, attn_mask=shared.mask).reshape(batch, 1, heads * dim)
    slots, turned = shared.slots, q.transpose(1, 2)
    if shared.mask is not None or not slots.masked:
        out = F.scaled_dot_product_attention(
            turned, keys, values, attn_mask=shared.mask, is_causal=slots.triangular, enable_gqa=True
        )
        return out.transpose(1, 2).reshape(batch, tokens, heads * dim)
    pieces, step = [], shared.step
    for begin in range(0, tokens, step):
        mask = slots.mask(begin, begin + step)
        part = turned[:, :, begin : begin + step]
        pieces.append(F.scaled_dot_product_attention(part, keys, values, attn_mask=mask, enable_gqa=True))
    return torch.cat(pieces, dim=2).transpose(1, 2).reshape(batch, tokens, heads * dim)


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


def _counts(tokens: Tensor, counts: Sequence[int] | None) -> Sequence[int]:
    if counts is None:
        return [tokens.shape[1]] * tokens.shape[0]
    if len(counts) != tokens.shape[0] or not 0 < max(counts) <= tokens.shape[1] or min(counts) < 0:
        raise ValueError(f"counts {list(counts)} do not fit tokens of shape {list(tokens.shape)}")
    return counts
