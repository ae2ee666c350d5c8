"""The network of ``checkpoints`` as Meta stores it: cut among ranks, in ``.pth`` files that torch writes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from tests.weights.checkpoints import Array

PARAMS: dict[str, object] = {
    "dim": 32,
    "n_layers": 4,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 8,
    "norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "nope_layer_interval": 4,
    "attention_chunk_size": 8,
    "use_qk_norm": True,
    "moe_args": {"num_experts": 4, "top_k": 1, "interleave_moe_layer_step": 2},
}


def write_meta(folder: Path, tensors: Mapping[str, Array], *, ranks: int = 2) -> Path:
    """A directory as ``llama download`` leaves it, from the fused tensors of a Hugging Face one."""
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(PARAMS), encoding="utf-8")
    plain = {name: torch.from_numpy(values.astype(np.float32)).bfloat16() for name, values in tensors.items()}
    for rank in range(ranks):
        stored: dict[str, object] = dict(_rank(plain, rank, ranks))
        stored |= {"layers.0.attention.wqkv._extra_state": io.BytesIO(b"\0" * 8), "rope.freqs": torch.ones(4)}
        torch.save(stored, folder / f"consolidated.{rank:02}.pth")
    return folder


def _rank(t: Mapping[str, torch.Tensor], rank: int, ranks: int) -> Iterator[tuple[str, torch.Tensor]]:
    def cut(values: torch.Tensor, axis: int) -> torch.Tensor:
        return values.chunk(ranks, axis)[rank].clone()

    yield "tok_embeddings.weight", cut(t["model.embed_tokens.weight"], 0)
    yield "output.weight", cut(t["lm_head.weight"], 0)
    yield "norm.weight", t["model.norm.weight"]
    for layer in range(4):
        theirs, ours = f"layers.{layer}.", f"model.layers.{layer}."
        qkv = [cut(t[f"{ours}self_attn.{part}_proj.weight"], 0) for part in "qkv"]
        yield f"{theirs}attention.wqkv.weight", torch.cat(qkv)
        yield f"{theirs}attention.wqkv.layer_norm_weight", t[f"{ours}input_layernorm.weight"]
        yield f"{theirs}attention.wo.weight", cut(t[f"{ours}self_attn.o_proj.weight"], 1)
        norm = "feed_forward.norm.weight" if layer % 2 else "feed_forward.mlp.layer_norm_weight"
        yield theirs + norm, t[f"{ours}post_attention_layernorm.weight"]
        part, forward = f"{ours}feed_forward.", f"{theirs}feed_forward."
        if layer % 2 == 0:
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
        yield f"{forward}global_gate_stats_3E", torch.zeros(3, 4)
