"""Llama 4's text network as plain tensor code.

Dense and mixture layers, rotated chunked and unrotated global attention; a Llama network is the special case without
mixtures and with rotation everywhere. Weights are [out, in]; queries, keys and values are one matrix, gate and up too.
A ``Matrix`` is a tensor or codes with scales; nothing here asks which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the name everybody knows it by)

from llama4sdk.capacity.torch_memory import MAX_MASKED_PAIRS
from llama4sdk.llama4.config import TextConfig
from llama4sdk_torch.cache import KVCache, Slots
from llama4sdk_torch.quantized import Matrix, linear, lookup, pick

#: Positions up to this rotate by the float32 angles of the published code; at 1,000,000 those are off by 0.03 radians.
MAX_FLOAT32_POSITION = 8192


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
        """[tokens, hidden] -> the same shape."""
        scores, experts = F.linear(x, self.router).topk(self.experts_per_token, dim=-1)  # ranked by raw score
        # The score scales what goes into the expert, not what comes out of it.
        inputs = x.unsqueeze(1) * scores.float().sigmoid().to(x.dtype).unsqueeze(-1)  # [tokens, k, hidden]
        # Asking which experts were chosen makes the host wait for an accelerator; for one token it is not needed.
        waits = x.device.type != "cpu" and len(x) == 1
        routed = self.gathered(inputs, experts) if waits else self.grouped(inputs, experts)
        return self.shared(x) + routed

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


class Segment(NamedTuple):
    """The next tokens of one sequence, in a pass that takes those of others, too."""

    cache: KVCache
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Visible:
    """The slots that one segment's tokens see in layers of one kind; a mask too large is made in pieces of ``step``."""

    slots: Slots
    step: int
    mask: Tensor | None  # [tokens, slots]; None where none is needed, or it is made in pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerKind:
    """Shared by all layers of one kind during a pass: rotated or not, chunked or not."""

    visible: tuple[_Visible, ...]  # one for each segment
    rotation: Tensor | None  # [tokens, 1, dim / 2], complex; None in NoPE layers
    temperature: Tensor | None  # [tokens, 1, 1], on the query; None where it is 1 throughout


class TextModel:
    """The network with its weights. Holds no state of any sequence: that is in the caches.

    Tokens of several sequences lie end to end. Every matrix takes all of them at once; attention is computed for each
    sequence with its own cache, so it needs no padding and is the same in any company.
    """

    def __init__(self, config: TextConfig, weights: Weights) -> None:
        self.config = config
        self.weights = weights
        self.device = weights.norm.device
        self.dtype = weights.norm.dtype
        self._frequencies = _frequencies(config).to(self.device)

    def new_cache(self, capacity: int, *, origin: int = 0) -> KVCache:
        """An empty cache on the model's device; see ``KVCache``."""
        return KVCache(self.config, capacity, device=self.device, dtype=self.dtype, origin=origin)

    @torch.inference_mode()
    def embed(self, tokens: Tensor) -> Tensor:
        """[tokens] -> [tokens, hidden]: accepted in place of ids by all that follows."""
        return lookup(tokens, self.weights.embedding)

    def hidden(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """The final normed states [tokens, hidden] of a sequence's further tokens, in blocks (``KVCache.next_block``).

        Raises ContextLengthError when the cache was made for less.
        """
        return self.hidden_of([tokens], [cache])[0]

    def prefill(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """Like ``hidden``, but only the last token's state, [hidden]: long prompts leave nothing else."""
        state = tokens.new_empty(0)
        cache.reserve(cache.length + len(tokens))
        while len(tokens):
            count = cache.next_block(len(tokens))
            state = self.forward(tokens[:count], [Segment(cache, count)])[-1]
            tokens = tokens[count:]
        return state

    def hidden_of(self, texts: Sequence[Tensor], caches: Sequence[KVCache]) -> list[Tensor]:
        """The states, as of ``hidden``, of further tokens of several sequences, a block of each at a time."""
        for text, cache in zip(texts, caches, strict=True):
            cache.reserve(cache.length + len(text))
        states: list[list[Tensor]] = [[] for _ in texts]
        rest = list(texts)
        while left := [number for number, text in enumerate(rest) if len(text)]:
            segments = [Segment(caches[n], caches[n].next_block(len(rest[n]))) for n in left]
            counts = [segment.num_tokens for segment in segments]
            tokens = _concatenate([rest[n][:count] for n, count in zip(left, counts, strict=True)])
            for number, part in zip(left, torch.split(self.forward(tokens, segments), counts), strict=True):
                states[number].append(part)
                rest[number] = rest[number][len(part) :]
        return [_concatenate(parts or [self.embed(text)]) for parts, text in zip(states, texts, strict=True)]

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocabulary], float32."""
        return linear(hidden, self.weights.head).float()

    @torch.inference_mode()
    def forward(self, tokens: Tensor, segments: Sequence[Segment]) -> Tensor:
        """One pass: the final normed states [tokens, hidden] of ``tokens``, which are the segments' end to end.

        No segment may cross a chunk's border. Raises ContextLengthError when a cache was made for less.
        """
        for cache, count in segments:
            cache.reserve(cache.length + count)
        kinds: dict[tuple[bool, bool], _LayerKind] = {}
        x = self.embed(tokens) if tokens.dim() == 1 else tokens  # [tokens, hidden]
        for number, layer in enumerate(self.weights.layers):
            key = (number in self.config.nope_layers, number in self.config.chunked_layers)
            if key not in kinds:
                kinds[key] = self._layer_kind(segments, nope=key[0], chunked=key[1])
            h = self._norm(x, layer.attention_norm)
            x = x + self._attend(h, layer.attention, number, kinds[key], segments)
            x = x + layer.feed_forward(self._norm(x, layer.feed_forward_norm))
        for cache, count in segments:
            cache.advance(count)
        return self._norm(x, self.weights.norm)

    def _layer_kind(self, segments: Sequence[Segment], *, nope: bool, chunked: bool) -> _LayerKind:
        visible = tuple(self._visible(cache.slots(count, chunked=chunked)) for cache, count in segments)
        ranges = [range(v.slots.first, v.slots.end) for v in visible]
        far = max(part.stop for part in ranges) > MAX_FLOAT32_POSITION
        # Rotation is relative: counted from the chunk's beginning, its float32 angles stay exact at any length.
        rotation = None if nope else self._rotation(self._positions(ranges), far=far)
        temperature = self._temperature(segments) if nope and self.config.temperature_tuning else None
        return _LayerKind(visible=visible, rotation=rotation, temperature=temperature)

    def _visible(self, slots: Slots) -> _Visible:
        tokens, step = slots.end - slots.first, max(1, MAX_MASKED_PAIRS // slots.end)
        mask = slots.mask(0, tokens, self.device) if slots.masked and step >= tokens else None
        return _Visible(slots=slots, step=step, mask=mask)

    def _positions(self, ranges: Sequence[range]) -> Tensor:
        """Made on the device: a step of decoding sends nothing there."""
        return _concatenate([torch.arange(part.start, part.stop, device=self.device) for part in ranges])

    def _rotation(self, positions: Tensor, *, far: bool) -> Tensor:
        """``far`` says whether any position is ``MAX_FLOAT32_POSITION`` or beyond. [tokens] -> [tokens, 1, dim / 2]."""
        steps = positions.view(-1, 1, 1)
        angles = steps.float() * self._frequencies
        if far:
            angles = torch.where(steps < MAX_FLOAT32_POSITION, angles.double(), steps * self._frequencies.double())
        return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)

    def _temperature(self, segments: Sequence[Segment]) -> Tensor | None:
        starts = [cache.origin + cache.length for cache, _ in segments]
        ranges = [range(start, start + count) for start, (_, count) in zip(starts, segments, strict=True)]
        if max(part.stop for part in ranges) < self.config.floor_scale:
            return None
        return self._temperature_at(self._positions(ranges)).view(-1, 1, 1)

    def _temperature_at(self, positions: Tensor) -> Tensor:
        c = self.config
        steps = ((positions + 1).float() / c.floor_scale).floor()
        return 1 + c.attn_scale * torch.log1p(steps)

    def _attend(
        self, h: Tensor, weights: Attention, number: int, kind: _LayerKind, segments: Sequence[Segment]
    ) -> Tensor:
        c = self.config
        qkv = linear(h, weights.qkv).view(len(h), -1, c.head_dim)  # [tokens, heads, dim]
        rotated, v = torch.split(qkv, [c.num_heads + c.num_kv_heads, c.num_kv_heads], dim=1)
        if kind.rotation is not None:
            rotated = _rotate(rotated, kind.rotation)
            if c.qk_norm:
                rotated = _rms(rotated, c.norm_eps)
        q, k = torch.split(rotated, [c.num_heads, c.num_kv_heads], dim=1)
        if kind.temperature is not None:
            q = (q * kind.temperature).to(q.dtype)
        counts = [count for _, count in segments]
        outputs = []
        rows = zip(*(torch.split(part, counts) for part in (q, k, v)), strict=True)
        for segment, visible, (queries, keys, values) in zip(segments, kind.visible, rows, strict=True):
            keys, values = segment.cache.append(number, keys, values, visible.slots)
            outputs.append(_attention(queries, keys, values, visible))
        return linear(_concatenate(outputs), weights.output)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return _rms(x, self.config.norm_eps) * weight


def _attention(q: Tensor, keys: Tensor, values: Tensor, visible: _Visible) -> Tensor:
    """q: [tokens, heads, dim]; keys, values: [kv_heads, slots, dim] -> [tokens, heads * dim]."""
    tokens, heads, dim = q.shape
    slots, keys, values = visible.slots, keys.unsqueeze(0), values.unsqueeze(0)
    if tokens == 1:  # a head's queries become rows, so that shared keys are read once, not once per query head
        rows = q.reshape(1, keys.shape[1], -1, dim)  # [1, kv_heads, group, dim]
        return F.scaled_dot_product_attention(rows, keys, values).reshape(1, heads * dim)
    rotated = q.transpose(0, 1).unsqueeze(0)  # [1, heads, tokens, dim]
    if visible.mask is not None or not slots.masked:
        out = F.scaled_dot_product_attention(
            rotated, keys, values, attn_mask=visible.mask, is_causal=slots.causal, enable_gqa=True
        )
        return out[0].transpose(0, 1).reshape(tokens, heads * dim)
    pieces = []
    for begin in range(0, tokens, visible.step):
        mask = slots.mask(begin, begin + visible.step, q.device)
        part = rotated[:, :, begin : begin + visible.step]
        pieces.append(F.scaled_dot_product_attention(part, keys, values, attn_mask=mask, enable_gqa=True))
    return torch.cat(pieces, dim=2)[0].transpose(0, 1).reshape(tokens, heads * dim)


def _concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Along the first axis; a single part is given back as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _rms(x: Tensor, eps: float) -> Tensor:
    """Divide by the root mean square of the last axis, in float32."""
    return F.rms_norm(x.float(), x.shape[-1:], eps=eps).to(x.dtype)


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn adjacent pairs of the last axis as complex numbers. x: [tokens, heads, dim]."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)


def _frequencies(config: TextConfig) -> Tensor:
    """Radians per token of each pair, [dim / 2], float32."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    plain = 1.0 / config.rope_theta**exponents
    if config.rope_scaling is None:
        return plain
    return plain / torch.tensor([config.rope_scaling.divisor(f) for f in plain.tolist()])
