"""Held to transformers: what optimum exports of Llama 4, and what it then says."""

# ruff: noqa: E402  (nothing else is here without optimum)

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

REASON = "needs optimum-onnx, which wants an older transformers than the rest: tox run -e optimum"
pytest.importorskip("optimum.onnxruntime", reason=REASON)

import onnxruntime
import torch
from llama4sdk_optimum import Llama4OnnxConfig
from llama4sdk_optimum.patcher import Llama4Patcher
from optimum.exporters.onnx import main_export
from optimum.onnxruntime import ORTModelForCausalLM, ORTModelForFeatureExtraction
from torch import Tensor
from transformers import (
    Llama4Config,
    Llama4ForCausalLM,
    Llama4ForConditionalGeneration,
    Llama4TextConfig,
    Llama4VisionConfig,
)

# optimum exports through what torch is about to drop, and leaves directories to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

CHUNK, TOKENS = 8, 30
TINY = {
    "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "intermediate_size": 24, "intermediate_size_mlp": 40, "num_local_experts": 4,
    "num_experts_per_tok": 1, "attention_chunk_size": CHUNK, "floor_scale": 4, "attn_temperature_tuning": True,
    "max_position_embeddings": 256, "bos_token_id": None, "eos_token_id": 95, "pad_token_id": 0,
    "initializer_range": 0.2,
}  # fmt: skip
SCALING = {
    "rope_type": "llama3", "factor": 16.0, "low_freq_factor": 1.0, "high_freq_factor": 1.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
FLAVOURS = {
    "scout": {"interleave_moe_layer_step": 1, "use_qk_norm": True, "rope_scaling": SCALING},
    "maverick": {"interleave_moe_layer_step": 2, "use_qk_norm": False},
}


class Pair:
    """A checkpoint in transformers, and what the command exported of it in ONNX Runtime."""

    def __init__(self, source: Path, target: Path) -> None:
        self.source, self.target = source, target
        self.stock = Llama4ForCausalLM.from_pretrained(source, attn_implementation="eager").eval()
        self.exported = ORTModelForCausalLM.from_pretrained(target, session_options=quiet())


def quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def tiny(**flavour: object) -> Llama4ForCausalLM:
    """Random weights, the norms' too: every rule of the network within 30 tokens."""
    torch.manual_seed(0)
    config = Llama4TextConfig(**(TINY | flavour))
    model = Llama4ForCausalLM._from_config(config, attn_implementation="eager").eval()
    for name, values in model.state_dict().items():
        if "norm" in name:
            values.uniform_(0.5, 1.5)
    return model


def texts(count: int, length: int) -> Tensor:
    return torch.randint(1, 95, (count, length), generator=torch.Generator().manual_seed(length))


@torch.no_grad()
def greedy(model: Llama4ForCausalLM | ORTModelForCausalLM, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """The tokens that follow each row."""
    mask = torch.ones_like(ids) if mask is None else mask
    made = model.generate(ids, attention_mask=mask, do_sample=False, min_new_tokens=TOKENS, max_new_tokens=TOKENS)
    return made[:, ids.shape[1] :]


@torch.no_grad()
def logits(model: Llama4ForCausalLM | ORTModelForCausalLM, ids: Tensor) -> Tensor:
    found: Tensor = model(ids, attention_mask=torch.ones_like(ids)).logits
    return found


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Export with ``optimum-cli``, as users run it."""
    program = Path(sys.executable).with_name("optimum-cli")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module", params=FLAVOURS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    source, target = (tmp_path_factory.mktemp(f"{request.param}-{what}") for what in ("stock", "onnx"))
    tiny(**FLAVOURS[request.param]).save_pretrained(source)
    done = command("export", "onnx", "--model", source, "--task", "text-generation-with-past", target)
    assert done.returncode == 0, done.stderr
    assert "not within the set tolerance" not in done.stderr
    return Pair(source, target)


def test_logits_equal_those_of_transformers(pair: Pair) -> None:
    """Over more than three chunks, for a batch."""
    ids = texts(2, 3 * CHUNK + 5)
    assert_close(logits(pair.exported, ids), logits(pair.stock, ids))


@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_greedy_tokens_equal_those_of_transformers(pair: Pair, length: int) -> None:
    """Decoding goes over borders of chunks from prompts that end before, at and behind one."""
    ids = texts(1, length)
    assert greedy(pair.exported, ids).tolist() == greedy(pair.stock, ids).tolist()


def test_the_past_may_grow_by_any_number_of_tokens(pair: Pair) -> None:
    """Steps of many tokens, over borders too, give what one run over all gives."""
    ids, steps, past = texts(1, 29), [0, 5, 6, 11, 20, 21, 29], None
    parts = []
    for start, end in pairwise(steps):
        done = pair.exported(ids[:, start:end], attention_mask=torch.ones_like(ids[:, :end]), past_key_values=past)
        parts.append(done.logits)
        past = done.past_key_values
    assert_close(torch.cat(parts, 1), logits(pair.stock, ids))


def test_rows_of_a_padded_batch_are_what_they_are_alone(pair: Pair) -> None:
    """Padding on the left moves no border of a chunk, no rotation and no temperature."""
    short, long = texts(1, 6), texts(1, 19)
    ids = torch.cat((torch.nn.functional.pad(short, (13, 0)), long))
    mask = (torch.arange(19) >= torch.tensor([[13], [0]])).long()
    alone = [greedy(pair.stock, row)[0].tolist() for row in (short, long)]
    assert greedy(pair.exported, ids, mask).tolist() == alone


def test_beams_are_those_of_transformers(pair: Pair) -> None:
    """The past is reordered between steps."""
    ids = texts(1, CHUNK + 2)
    options = {"num_beams": 3, "do_sample": False, "max_new_tokens": 12, "attention_mask": torch.ones_like(ids)}
    assert pair.exported.generate(ids, **options).tolist() == pair.stock.generate(ids, **options).tolist()


def test_io_binding_works(pair: Pair) -> None:
    """As on GPUs, where it is the default: the shape of the past is known."""
    ids = texts(1, CHUNK + 2)
    bound = ORTModelForCausalLM.from_pretrained(pair.target, session_options=quiet(), use_io_binding=True)
    assert greedy(bound, ids).tolist() == greedy(pair.stock, ids).tolist()


def test_an_export_runs_where_this_package_is_unknown(pair: Pair) -> None:
    """On machines with optimum alone."""
    ids = texts(1, 5)
    program = f"""
import sys
import torch
from optimum.onnxruntime import ORTModelForCausalLM
model, ids = ORTModelForCausalLM.from_pretrained({str(pair.target)!r}), torch.tensor({ids.tolist()})
made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10, min_new_tokens=10)
assert "llama4sdk_optimum" not in sys.modules
print(made[0, 5:].tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == greedy(pair.stock, ids)[0, :10].tolist()


def test_from_pretrained_exports(tmp_path: Path) -> None:
    """With ``export=True``, and without a cache if none is wanted."""
    stock = tiny(**FLAVOURS["scout"])
    stock.save_pretrained(tmp_path)
    ids = texts(1, 2 * CHUNK + 3)
    for use_cache in (True, False):
        model = ORTModelForCausalLM.from_pretrained(tmp_path, export=True, use_cache=use_cache, session_options=quiet())
        assert model.can_use_cache is use_cache
        assert greedy(model, ids).tolist() == greedy(stock, ids).tolist()


def test_features_are_exported(tmp_path: Path) -> None:
    """The states after the last norm."""
    stock = tiny(**FLAVOURS["maverick"])
    stock.save_pretrained(tmp_path)
    ids = texts(2, 2 * CHUNK + 3)
    model = ORTModelForFeatureExtraction.from_pretrained(tmp_path, export=True, session_options=quiet())
    with torch.no_grad():
        expected = stock.model(ids).last_hidden_state
    assert_close(model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state, expected)


def test_the_text_network_of_a_checkpoint_that_sees(tmp_path: Path) -> None:
    """``llama4`` directories have it among others; what is exported is ``llama4_text``."""
    vision = Llama4VisionConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=12, patch_size=3,
        projector_input_dim=20, projector_output_dim=20, vision_output_dim=20,
    )  # fmt: skip
    config = Llama4Config(text_config=Llama4TextConfig(**TINY, **FLAVOURS["scout"]), vision_config=vision)
    seeing = Llama4ForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    seeing.save_pretrained(tmp_path)
    ids = texts(1, 2 * CHUNK + 3)
    model = ORTModelForCausalLM.from_pretrained(tmp_path, export=True, session_options=quiet())
    assert model.config.model_type == "llama4_text"
    assert_close(logits(model, ids), logits(seeing, ids))


def test_rotary_parameters_as_newer_checkpoints_write_them(tmp_path: Path) -> None:
    """As version 5 of transformers: ``rope_parameters``, of which older ones read nothing and say so nowhere."""
    stock = tiny(**FLAVOURS["scout"])
    stock.save_pretrained(tmp_path / "new")
    path = tmp_path / "new" / "config.json"
    config = json.loads(path.read_text())
    del config["rope_scaling"]
    config["rope_parameters"] = SCALING | {"rope_theta": config.pop("rope_theta")}
    path.write_text(json.dumps(config))
    main_export(str(tmp_path / "new"), str(tmp_path / "onnx"), task="text-generation-with-past", do_validation=False)
    ids = texts(1, 3 * CHUNK)
    model = ORTModelForCausalLM.from_pretrained(tmp_path / "onnx", session_options=quiet())
    assert_close(logits(model, ids), logits(stock, ids))


def test_only_the_experts_of_a_token_are_computed() -> None:
    """Weights that would make everything NaN do no harm where no token is sent to them."""
    stock = tiny(**FLAVOURS["scout"], num_hidden_layers=1)
    ids = texts(1, 1)
    with torch.no_grad():
        expected = logits(stock, ids)
        mixture = stock.model.layers[0].feed_forward
        chosen: list[Tensor] = []
        with mixture.router.register_forward_hook(lambda module, given, made: chosen.append(made[1].argmax())):
            logits(stock, ids)
        for number in set(range(4)) - {int(chosen[0])}:
            mixture.experts.gate_up_proj[number] = float("nan")
        with Llama4Patcher(Llama4OnnxConfig(stock.config, "text-generation"), stock):
            found = stock(input_ids=ids, attention_mask=torch.ones_like(ids))["logits"]
    assert_close(found, expected)


def test_a_model_is_itself_again_after_an_export() -> None:
    """Nothing of the traceable network stays behind."""
    stock = tiny(**FLAVOURS["scout"])
    ids, names = texts(1, 20), [name for name, _ in stock.named_parameters()]
    expected = logits(stock, ids)
    with Llama4Patcher(Llama4OnnxConfig(stock.config, "text-generation"), stock):
        assert len(list(stock.parameters())) > len(names)
    assert [name for name, _ in stock.named_parameters()] == names
    assert torch.equal(logits(stock, ids), expected)


def test_the_command_loads_nothing_heavy_before_it_exports() -> None:
    """``optimum-cli`` imports what is registered whenever it starts."""
    program = "import sys, optimum.commands.register.register_llama4sdk; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "False"
