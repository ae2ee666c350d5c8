"""Memory taken by loading, limited by the system to the promised size."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from llama4sdk_torch.backend import TorchBackend
from safetensors import TensorSpec, serialize

from llama4sdk import Client
from llama4sdk.backend import Capabilities, Need, Offer
from llama4sdk.errors import DeviceMemoryError
from llama4sdk.plan import Placement, Plan
from llama4sdk.quantization import Quantization
from llama4sdk.testing.machines import LAPTOP
from llama4sdk.weights.checkpoint import Checkpoint

from .reference import MAVERICK_LIKE, characters_tokenizer

STATUS = Path("/proc/self/status")
LAYERS, HIDDEN, EXPERTS, INNER = 5, 1024, 8, 1024

#: The limit is on memory of the process's own. Pages of mapped files are the system's: it takes them back at will.
CHILD = """
import re, resource, sys
from pathlib import Path
import torch
from llama4sdk.errors import DeviceMemoryError
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk_torch.loading import load_networks

def load(name):
    checkpoint = open_checkpoint(Path(sys.argv[1]) / name)
    return load_networks(checkpoint, device=torch.device("cpu"))

load("small")  # whatever is made once is made now
torch.ones(2**22).add_(1)  # threads, too
used = int(re.search(r"VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
for room in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_DATA, (used + room, resource.RLIM_INFINITY))
    try:
        load("large")
        print("loaded")
    except DeviceMemoryError as error:
        print(error.message)
"""


def _write(folder: Path, layers: int, hidden: int, inner: int) -> int:
    """A checkpoint in three files, of random bits that are finite numbers; its bytes."""
    folder.mkdir()
    config = {
        "model_type": "llama4_text", "vocab_size": 64, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": inner, "num_local_experts": EXPERTS,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shapes = {"model.embed_tokens.weight": (64, hidden), "lm_head.weight": (64, hidden), "model.norm.weight": (hidden,)}
    shapes |= {
        f"model.layers.{n}.{name}": shape for n in range(layers) for name, shape in _layer(hidden, inner).items()
    }
    where = {name: f"model-{number % 3}.safetensors" for number, name in enumerate(shapes)}
    for file in sorted(set(where.values())):
        held = {name: _bits(shape) for name, shape in shapes.items() if where[name] == file}
        specs = {
            name: TensorSpec(dtype="bfloat16", shape=list(v.shape), data_ptr=v.ctypes.data, data_len=v.nbytes)
            for name, v in held.items()
        }
        (folder / file).write_bytes(serialize(specs, None))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}), encoding="utf-8")
    return sum(2 * math.prod(shape) for shape in shapes.values())


def _layer(hidden: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (hidden, hidden),
        "self_attn.k_proj.weight": (hidden // 4, hidden),
        "self_attn.v_proj.weight": (hidden // 4, hidden),
        "self_attn.o_proj.weight": (hidden, hidden),
        "feed_forward.router.weight": (EXPERTS, hidden),
        "feed_forward.shared_expert.gate_proj.weight": (inner, hidden),
        "feed_forward.shared_expert.up_proj.weight": (inner, hidden),
        "feed_forward.shared_expert.down_proj.weight": (hidden, inner),
        "feed_forward.experts.gate_up_proj": (EXPERTS, hidden, 2 * inner),
        "feed_forward.experts.down_proj": (EXPERTS, inner, hidden),
    }


def _bits(shape: tuple[int, ...]) -> npt.NDArray[np.uint16]:
    """bfloat16 numbers between -2 and 2, as bits."""
    noise = np.random.default_rng(0).bytes(2 * math.prod(shape))
    return np.frombuffer(noise, np.uint16).reshape(shape) & np.uint16(0xBFFF)


def test_a_plan_for_more_than_is_free_is_refused_before_anything_is_read(demo: Checkpoint) -> None:
    """The system would end the process rather than let an allocation fail."""
    placement = Placement(kind="local", devices=("cpu",))
    size = 2**60
    plan = Plan(model="demo", backend="torch", source=str(demo.path), placement=placement, context_length=512,
                capabilities=Capabilities(), memory={"cpu": size})  # fmt: skip
    with pytest.raises(DeviceMemoryError, match="are free now") as caught:
        TorchBackend().load(plan, progress=lambda done, total: pytest.fail("something was read"))
    assert caught.value.need == size > (caught.value.have or 0) > 0


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux limits and tells what memory is a process's own")
def test_loading_takes_its_size_and_no_more(tmp_path: Path) -> None:
    """A network of 310 MB loads where there is room for it and 2% more, and is refused where there is 2% less."""
    _write(tmp_path / "small", 1, 64, 64)
    size = _write(tmp_path / "large", LAYERS, HIDDEN, INNER)
    assert size > 300e6

    command = [sys.executable, "-c", CHILD, str(tmp_path), str(int(size * 0.98)), str(int(size * 1.02))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["cpu ran out of memory.", "loaded"]


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells what memory is a process's own")
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_plan_says_what_a_process_is_seen_to_take(tmp_path_factory: pytest.TempPathFactory, precision: str) -> None:
    """A scaled-down Scout of 150 million parameters loads and answers much as planned, by its own account, too."""
    benchmarks = Path(__file__).parents[3] / "benchmarks"
    folder = tmp_path_factory.getbasetemp() / "scaled-down"
    if not folder.exists():
        command = [sys.executable, str(benchmarks / "bench_model.py"), str(folder), "--layers", "5", "--hidden", "512"]
        subprocess.run([*command, "--vocabulary", "8192", "--chunk", "512"], check=True)
    code = f"import sys; sys.path.insert(0, {str(benchmarks)!r}); import json, memory\n"
    code += f"print(json.dumps(next(memory.lines({str(folder)!r}, [{precision!r}], [1024]))))"
    line = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)

    assert line["input"] == 1024 - 16
    assert line["breakdown"]["kv_cache"] > 0
    assert line["predicted"] < line["measured"] * 1.15
    assert line["measured"] - line["predicted"] < 50e6  # each thread's own, and what an allocator keeps
    assert 0.9 < line["reported"] / line["measured"] < 1.1
    assert not line["warned"]


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells what memory is a process's own")
def test_an_answer_is_measured_beside_a_program_that_grows(
    save_tiny: Callable[..., tuple[Path, torch.nn.Module]], caplog: pytest.LogCaptureFixture
) -> None:
    """A reader that takes twice what was planned for the engine, between two tokens, causes no warning."""
    folder, _ = save_tiny(**MAVERICK_LIKE)
    (folder / "tokenizer.json").write_text(characters_tokenizer(), encoding="utf-8")
    with Client(folder, backend="torch", device="cpu", quantization="fp32", batch=1) as client:
        predicted = client.plan().memory["cpu"]
        answer = client.generate("ab", stream=True, max_tokens=20, temperature=0)
        next(answer)
        kept = np.ones(2 * predicted, np.uint8)
        assert answer.completion().finish_reason
        seen = client.memory()
    assert len(kept) > seen.predicted["cpu"]
    assert seen.measured.get("cpu", 0) < seen.predicted["cpu"]  # nothing, where what others left is enough for it
    assert not [record for record in caplog.records if "were predicted" in record.message]


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells what memory is a process's own")
def test_many_requests_at_once_take_no_more_than_was_planned_for_one(
    save_tiny: Callable[..., tuple[Path, torch.nn.Module]], caplog: pytest.LogCaptureFixture
) -> None:
    """Eight threads share the memory of one context, and ``Client.memory`` says so."""
    folder, _ = save_tiny(**MAVERICK_LIKE)
    (folder / "tokenizer.json").write_text(characters_tokenizer(), encoding="utf-8")
    with Client(folder, backend="torch", device="cpu", quantization="fp32") as client, ThreadPoolExecutor(8) as pool:
        assert client.plan().batch == 1
        answers = list(pool.map(lambda n: client.generate(f"ab{n}", max_tokens=60, temperature=0), range(8)))
        assert all(answer.finish_reason for answer in answers)
        memory = client.memory()
    assert memory.excess is None
    assert memory.measured.get("cpu", 0) < memory.predicted["cpu"]
    assert not [record for record in caplog.records if "were predicted" in record.message]


UNPACK = """
import sys, threading, time
from pathlib import Path
import gguf.quants, llama4sdk_torch.loading  # whatever is made once is made now
import torch
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.quantization_plan import QuantizationPlan
from llama4sdk_torch.loading import load_networks
from llama4sdk.local.memory_meter import own_memory

def watch():
    while True:
        peak[0] = max(peak[0], own_memory())
        time.sleep(0.0005)

torch.ones(2**22).add_(1)
checkpoint = open_checkpoint(Path(sys.argv[1]))
before = own_memory()
peak = [before]
threading.Thread(target=watch, daemon=True).start()
load_networks(checkpoint, device=torch.device("cpu"), quantization=sys.argv[2])
weights = QuantizationPlan(checkpoint, sys.argv[2])
print(peak[0] - before, weights.loading_bytes, weights.bytes)
"""


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells what memory is a process's own")
@pytest.mark.parametrize("quantization", ["bf16", "int8", "int4"])
def test_what_is_unpacked_while_loading_is_counted(demo: Checkpoint, quantization: str) -> None:
    """For a moment the demo's embedding takes more than all of it does in the end; no more than is said."""
    command = [sys.executable, "-c", UNPACK, str(demo.path), quantization]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, said, held = map(int, done.stdout.split())
    assert held < said
    assert 0.7 * said < peak < 1.02 * said + 8e6
    plan = TorchBackend().offer(Need(model=str(demo.path), quantization=Quantization(quantization)), LAPTOP)
    assert isinstance(plan, Offer)
    assert plan.memory["cpu"] >= said + plan.breakdown["cpu"]["runtime"]
