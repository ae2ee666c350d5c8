"""The networks of ``checkpoints`` as Meta stores them: sliced among ranks, in ``.pth`` files that torch writes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llama4sdk.llama4.vision_config import VisionConfig
from tests.weights.checkpoints import TINY, Array, Sizes

E4M3_MOST = 448.0


def params(sizes: Sizes = TINY, vision: VisionConfig | None = None) -> dict[str, object]:
    """The ``params.json`` of a network."""
    described: dict[str, object] = {
        "dim": sizes.hidden,
        "n_layers": sizes.layers,
        "n_heads": sizes.heads,
        "n_kv_heads": sizes.kv_heads,
        "head_dim": sizes.dim,
        "norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "nope_layer_interval": 4,
        "attention_chunk_size": 8,
        "use_qk_norm": True,
        "moe_args": {"num_experts": sizes.experts, "top_k": 1, "interleave_moe_layer_step": sizes.step},
    }
    if vision is not None:
        described["vision_args"] = {
            "image_size": {"height": vision.tile_size, "width": vision.tile_size},
            "patch_size": {"height": vision.patch_size, "width": vision.patch_size},
            "dim": vision.hidden_size,
            "n_layers": vision.num_layers,
            "n_heads": vision.num_heads,
            "mlp_ratio": vision.mlp_size / vision.hidden_size,
            "output_dim": vision.adapter_size,
            "pixel_shuffle_ratio": 1 / vision.shuffle,
        }
    return described


def write_meta(
    folder: Path,
    tensors: Mapping[str, Array],
    sizes: Sizes = TINY,
    *,
    ranks: int = 2,
    vision: VisionConfig | None = None,
    fp8: bool = False,
) -> Path:
    """A directory as ``llama download`` leaves it, from the fused tensors of a Hugging Face one, text and vision.

    ``fp8`` quantizes routed experts as Meta does: those of all layers but the first and the last.
    """
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(params(sizes, vision)), encoding="utf-8")
    plain = {name: torch.from_numpy(values.astype(np.float32)).bfloat16() for name, values in tensors.items()}
    for rank in range(ranks):
        stored: dict[str, object] = dict(_text(plain, sizes, rank, ranks))
        if vision is not None:
            stored |= _vision(plain, vision, rank, ranks)
        if fp8:
            torch.save(_quantize_experts(stored, sizes), folder / f"fp8_scales_{rank}.pt")
        stored |= {"layers.0.attention.wqkv._extra_state": io.BytesIO(b"\0" * 8), "rope.freqs": torch.ones(4)}
        torch.save(stored, folder / f"consolidated.{rank:02}.pth")
    return folder


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """8-bit values [..., out, in] and scales [..., out]: each row's largest value is the format's largest."""
    scale = weight.float().abs().amax(-1) / E4M3_MOST
    return (weight.float() / scale.unsqueeze(-1)).to(torch.float8_e4m3fn), scale


def _quantize_experts(stored: dict[str, object], sizes: Sizes) -> dict[str, Tensor]:
    """Quantize experts in place; return the scales by the names that Meta's loader uses."""
    scales: dict[str, Tensor] = {}
    names = {"w1": "moe_w_in_eD_F", "w2": "moe_w_out_eF_D", "w3": "moe_w_swiglu_eD_F"}
    for layer in range(1, sizes.layers - 1):
        for scale_name, name in names.items():
            key = f"layers.{layer}.feed_forward.experts.{name}"
            if not isinstance(weight := stored.get(key), Tensor):
                continue
            values, scale = quantized(weight.view(sizes.experts, -1, weight.shape[1]).transpose(1, 2))
            stored[key] = torch.nn.Parameter(values.transpose(1, 2).reshape(weight.shape), requires_grad=False)
            scales[f"layers.{layer}.feed_forward.experts.{scale_name}"] = scale
    return scales


def _cut(values: Tensor, axis: int, rank: int, ranks: int) -> Tensor:
    return values.chunk(ranks, axis)[rank].clone()


def _text(t: Mapping[str, Tensor], sizes: Sizes, rank: int, ranks: int) -> Iterator[tuple[str, Tensor]]:
    def cut(values: Tensor, axis: int) -> Tensor:
        return _cut(values, axis, rank, ranks)

    yield "tok_embeddings.weight", cut(t["model.embed_tokens.weight"], 0)
    yield "output.weight", cut(t["lm_head.weight"], 0)
    yield "norm.weight", t["model.norm.weight"]
    for layer in range(sizes.layers):
        theirs, ours = f"layers.{layer}.", f"model.layers.{layer}."
        mixture = (layer + 1) % sizes.step == 0
        qkv = [cut(t[f"{ours}self_attn.{part}_proj.weight"], 0) for part in "qkv"]
        yield f"{theirs}attention.wqkv.weight", torch.cat(qkv)
        yield f"{theirs}attention.wqkv.layer_norm_weight", t[f"{ours}input_layernorm.weight"]
        yield f"{theirs}attention.wo.weight", cut(t[f"{ours}self_attn.o_proj.weight"], 1)
        norm = "feed_forward.norm.weight" if mixture else "feed_forward.mlp.layer_norm_weight"
        yield theirs + norm, t[f"{ours}post_attention_layernorm.weight"]
        part, forward = f"{ours}feed_forward.", f"{theirs}feed_forward."
        if not mixture:
            yield f"{forward}mlp.fc1_weight", torch.cat([cut(t[f"{part}{n}_proj.weight"], 0) for n in ("gate", "up")])
            yield f"{forward}mlp.fc2_weight", cut(t[f"{part}down_proj.weight"], 1)
            continue
        gate, up = t[f"{part}experts.gate_up_proj"].chunk(2, -1)  # [experts, in, out]
        yield f"{forward}experts.moe_w_in_eD_F", cut(gate, 2).flatten(0, 1)
        yield f"{forward}experts.moe_w_swiglu_eD_F", cut(up, 2).flatten(0, 1)
        yield f"{forward}experts.moe_w_out_eF_D", cut(t[f"{part}experts.down_proj"], 1).flatten(0, 1)
        yield f"{forward}router_DE", t[f"{part}router.weight"].t()
        yield f"{forward}w_in_shared_FD.weight", cut(t[f"{part}shared_expert.gate_proj.weight"], 0)
        yield f"{forward}w_swiglu_FD.weight", cut(t[f"{part}shared_expert.up_proj.weight"], 0)
        yield f"{forward}w_out_shared_DF.weight", cut(t[f"{part}shared_expert.down_proj.weight"], 1)
        yield f"{forward}global_gate_stats_3E", torch.zeros(3, sizes.experts)


def _vision(t: Mapping[str, Tensor], vision: VisionConfig, rank: int, ranks: int) -> dict[str, Tensor]:
    """Slice vision matrices where Meta's parallel layers do, and biases along with their outputs."""
    encoder, adapter, model = (
        "vision_embeddings.vision_encoder.",
        "vision_embeddings.vision_adapter.mlp.",
        "vision_model.",
    )
    axes: dict[str, tuple[str, int | None]] = {
        f"{encoder}conv1._linear.weight": (f"{model}patch_embedding.linear.weight", 0),
        f"{encoder}class_embedding": (f"{model}class_embedding", None),
        f"{encoder}positional_embedding_vlm": (f"{model}positional_embedding_vlm", None),
        f"{adapter}c_fc.weight": (f"{model}vision_adapter.mlp.fc1.weight", 0),
        f"{adapter}c_proj.weight": (f"{model}vision_adapter.mlp.fc2.weight", 1),
        "vision_projection.weight": ("multi_modal_projector.linear_1.weight", 0),
    }
    for kind in ("weight", "bias"):
        axes |= {f"{encoder}ln_{end}.{kind}": (f"{model}layernorm_{end}.{kind}", None) for end in ("pre", "post")}
    for layer in range(vision.num_layers):
        theirs, ours = f"{encoder}transformer.resblocks.{layer}.", f"{model}model.layers.{layer}."
        for kind, across in (("weight", 1), ("bias", None)):
            axes |= {f"{theirs}attn.w{n}.{kind}": (f"{ours}self_attn.{n}_proj.{kind}", 0) for n in "qkv"}
            axes[f"{theirs}attn.wo.{kind}"] = f"{ours}self_attn.o_proj.{kind}", across
            axes[f"{theirs}mlp.c_fc.{kind}"] = f"{ours}mlp.fc1.{kind}", 0
            axes[f"{theirs}mlp.c_proj.{kind}"] = f"{ours}mlp.fc2.{kind}", across
            axes[f"{theirs}ln_1.{kind}"] = f"{ours}input_layernorm.{kind}", None
            axes[f"{theirs}ln_2.{kind}"] = f"{ours}post_attention_layernorm.{kind}", None
    return {name: t[ours] if axis is None else _cut(t[ours], axis, rank, ranks) for name, (ours, axis) in axes.items()}
