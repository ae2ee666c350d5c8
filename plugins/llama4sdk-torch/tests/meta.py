"""Meta's own network, from the package ``llama-models``, on one process and without its library of parallel layers.

That library, fairscale, is written for several GPUs; on a single process its layers are plain ones. They are put in its
place while Meta's modules are imported, and taken away again.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from transformers import Llama4ForCausalLM


class _Linear(nn.Linear):
    def __init__(self, inputs: int, outputs: int, *, bias: bool = False, **_: object) -> None:
        super().__init__(inputs, outputs, bias=bias)


class _Embedding(nn.Embedding):
    def __init__(self, rows: int, width: int, **_: object) -> None:
        super().__init__(rows, width)


def _unchanged(x: Tensor) -> Tensor:
    return x


@contextmanager
def _plain_layers() -> Iterator[None]:
    """Fairscale's names, while Meta's modules are imported."""
    base = "fairscale.nn.model_parallel"
    modules = {name: ModuleType(name) for name in ("fairscale", "fairscale.nn", base)}
    layers = {"ColumnParallelLinear": _Linear, "RowParallelLinear": _Linear, "VocabParallelEmbedding": _Embedding}
    contents: dict[str, dict[str, object]] = {
        "initialize": {"get_model_parallel_world_size": lambda: 1},
        "layers": layers,
        "mappings": {"reduce_from_model_parallel_region": _unchanged},
    }
    for name, names in contents.items():
        modules[f"{base}.{name}"] = module = ModuleType(f"{base}.{name}")
        vars(module).update(names)
        setattr(modules[base], name, module)
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update(before)


@contextmanager
def _on_the_cpu() -> Iterator[None]:
    """Meta's attention makes its cache on a GPU, come what may."""
    cuda = Tensor.cuda
    Tensor.cuda = _unchanged
    try:
        yield
    finally:
        Tensor.cuda = cuda


class MetaNetwork:
    """Meta's ``Transformer`` in float32 with the weights of transformers' class."""

    def __init__(self, theirs: Llama4ForCausalLM) -> None:
        with _plain_layers():
            args = importlib.import_module("llama_models.llama4.args")
            data = importlib.import_module("llama_models.llama4.datatypes")
            model = importlib.import_module("llama_models.llama4.model")
        self._input: Callable[..., object] = data.TransformerInput
        with _on_the_cpu():
            self._network = model.Transformer(_arguments(args, theirs)).eval()
        self._network.load_state_dict(_renamed(theirs), strict=True)

    @torch.inference_mode()
    def __call__(self, tokens: Tensor) -> Tensor:
        """[batch, tokens] -> logits [batch, tokens, vocabulary]."""
        return self._network(self._input(tokens=tokens, tokens_position=0)).logits


class MetaVision:
    """Meta's vision encoder, adapter and projector in float32, with random weights.

    ``described`` is the ``vision_args`` of a ``params.json``, ``width`` that of the text network.
    """

    def __init__(self, described: dict[str, object], width: int, seed: int = 0) -> None:
        with _plain_layers(), _on_the_cpu():
            args = importlib.import_module("llama_models.llama4.args")
            embedding = importlib.import_module("llama_models.llama4.vision.embedding")
            self._tower = embedding.VisionEmbeddings(args.VisionArgs(**described)).float().eval()
        self._described = described
        self._projection = _Linear(self._tower.output_dim, width)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in (*self._tower.parameters(), *self._projection.parameters()):
                parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.2)

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, tokens: int) -> Tensor:
        """[tiles, 3, side, side] of values from 0 to 255 -> [tokens, width], ``tokens`` of all tiles together."""
        tiles = (pixels.float() / 255 - 0.5) / 0.5
        everywhere = torch.ones(1, tokens, 1, dtype=torch.bool)
        features = self._tower([[tiles]], everywhere, torch.zeros(1, tokens, 1))
        projected: Tensor = self._projection(features)[0]
        return projected

    def save(self, folder: Path) -> None:
        """As Meta saves it, on one rank and with one dense layer of a text network."""
        width = self._projection.out_features
        stored = {f"vision_embeddings.{name}": values for name, values in self._tower.state_dict().items()}
        stored["vision_projection.weight"] = self._projection.weight
        layer = {"attention.wqkv.weight": (3 * width, width), "attention.wo.weight": (width, width)}
        layer |= {"feed_forward.mlp.fc1_weight": (2 * width, width), "feed_forward.mlp.fc2_weight": (width, width)}
        layer |= {"attention.wqkv.layer_norm_weight": (width,), "feed_forward.mlp.layer_norm_weight": (width,)}
        stored |= {f"layers.0.{name}": torch.ones(shape) for name, shape in layer.items()}
        stored |= {"tok_embeddings.weight": torch.ones(8, width), "output.weight": torch.ones(8, width)}
        torch.save(stored | {"norm.weight": torch.ones(width)}, folder / "consolidated.00.pth")
        described = {"n_layers": 1, "n_heads": 2, "vision_args": self._described}
        (folder / "params.json").write_text(json.dumps(described), encoding="utf-8")


def _arguments(args: ModuleType, theirs: Llama4ForCausalLM) -> object:
    """Meta derives the inner widths from others; ``ffn_dim_multiplier`` is such that transformers' come out."""
    c = theirs.config
    rope = c.rope_parameters
    return args.ModelArgs(
        dim=c.hidden_size,
        n_layers=c.num_hidden_layers,
        n_heads=c.num_attention_heads,
        n_kv_heads=c.num_key_value_heads,
        vocab_size=c.vocab_size,
        multiple_of=1,
        ffn_dim_multiplier=1.2,
        ffn_exp=4.0,
        norm_eps=c.rms_norm_eps,
        attention_chunk_size=c.attention_chunk_size,
        rope_theta=rope["rope_theta"],
        use_scaled_rope=rope["rope_type"] == "llama3",
        nope_layer_interval=4,
        use_qk_norm=c.use_qk_norm,
        attn_temperature_tuning=c.attn_temperature_tuning,
        floor_scale=c.floor_scale,
        attn_scale=c.attn_scale,
        moe_args=args.MoEArgs(
            num_experts=c.num_local_experts,
            top_k=c.num_experts_per_tok,
            interleave_moe_layer_step=c.interleave_moe_layer_step,
        ),
        max_batch_size=4,
        max_seq_len=64,
    )


NAMES = (
    ("model.embed_tokens", "tok_embeddings"),
    ("lm_head", "output"),
    ("model.", ""),
    ("self_attn.", "attention."),
    ("q_proj", "wq"),
    ("k_proj", "wk"),
    ("v_proj", "wv"),
    ("o_proj", "wo"),
    ("input_layernorm", "attention_norm"),
    ("post_attention_layernorm", "ffn_norm"),
)


def _renamed(theirs: Llama4ForCausalLM) -> dict[str, Tensor]:
    """Transformers' weights under Meta's names."""
    state: dict[str, Tensor] = {}
    for name, values in theirs.state_dict().items():
        for old, new in NAMES:
            name = name.replace(old, new)
        for old, new in (("gate_proj", "w1"), ("down_proj", "w2"), ("up_proj", "w3")):
            if "gate_up_proj" not in name:
                name = name.replace(old, new)
        if name.endswith("experts.gate_up_proj"):
            prefix = name.removesuffix("gate_up_proj")
            state[f"{prefix}w1"], state[f"{prefix}w3"] = values.chunk(2, dim=-1)
        elif name.endswith("router.weight"):
            state[name.removesuffix("router.weight") + "router_DE"] = values.T
        else:
            state[name] = values
    return state
