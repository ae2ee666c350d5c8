"""Finding exports, loading them, and what is said of those that cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from llama4sdk_onnx import CAPABILITIES, llama4sdk_backends
from llama4sdk_onnx.backend import OnnxBackend

from llama4sdk import Client
from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.errors import CheckpointError, DeviceMemoryError, ModelLoadError, NoBackendError
from llama4sdk.plan import Placement, Plan
from llama4sdk.testing.machines import GPU_24GB, LAPTOP

CHAT = """
import sys
from llama4sdk import Client
with Client(sys.argv[1], backend="onnx", context_length=256) as client:
    print(client.chat("What is the capital of France?", temperature=0, max_tokens=20).text)
    client.embed(["a llama"])
print(sorted({"torch", "onnx", "onnx_ir", "onnxscript", "transformers"} & set(sys.modules)))
"""

IMPORT = """
import sys
import llama4sdk_onnx, llama4sdk_onnx.backend
from llama4sdk.backend import Need
from llama4sdk.testing.machines import LAPTOP
print(llama4sdk_onnx.backend.OnnxBackend().offer(Need(model=sys.argv[1]), LAPTOP).context_length)
print(sorted({"numpy", "onnxruntime", "torch"} & set(sys.modules)))
"""

BLOCK = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "onnxruntime":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
sys.argv = ["llama4sdk", *sys.argv[1:]]
import runpy
runpy.run_module("llama4sdk", run_name="__main__")
"""

#: How far memory reaches once the libraries are here: not to the weights, or not to a long prompt.
SQUEEZED = """
import resource, sys
from pathlib import Path
import onnxruntime
from llama4sdk import Client
from llama4sdk.errors import Llama4Error
from llama4sdk.requests import Request, SamplingParams
from llama4sdk_onnx.backend import OnnxBackend
with Client(sys.argv[1], backend="onnx", context_length=4096) as client:
    plan = client.plan()
engine = OnnxBackend().load(plan) if sys.argv[2] == "loaded" else None
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    engine = engine or OnnxBackend().load(plan)
    list(engine.stream(Request(prompt="a b c d " * 900, sampling=SamplingParams(max_tokens=20))))
except Llama4Error as error:
    print(type(error).__name__, bool(error.hint))
"""


def run(code: str, *arguments: object) -> str:
    """Standard output of a program in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def refusal(model: object, **need: object) -> Unavailable:
    """Why nothing is offered; fails when something is."""
    answer = OnnxBackend().offer(Need.model_validate({"model": str(model)} | need), LAPTOP)
    assert isinstance(answer, Unavailable), answer
    assert answer.fix
    return answer


def plan(folder: Path, **changes: object) -> Plan:
    """A plan to load an export on the processor."""
    fields: dict[str, object] = {
        "model": "tiny",
        "backend": "onnx",
        "source": str(folder),
        "placement": Placement(kind="local", devices=("cpu",)),
        "context_length": 64,
        "capabilities": CAPABILITIES,
    }
    return Plan.model_validate(fields | changes)


@pytest.fixture
def copy(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    """An export that may be spoilt."""
    import shutil

    return Path(shutil.copytree(pair[1], tmp_path / "copy"))


def test_an_export_runs_without_torch(demo_int8: Path) -> None:
    """Chatting and embedding load neither torch nor what exports are made with."""
    answer, modules = run(CHAT, demo_int8).splitlines()
    assert "Paris" in answer
    assert modules == "[]"


def test_offers_are_made_without_the_runtime(demo_int8: Path) -> None:
    """The plugin, its backend and an offer load neither ONNX Runtime nor numpy."""
    context, modules = run(IMPORT, demo_int8).splitlines()
    assert int(context) > 0
    assert modules == "[]"


def test_a_missing_runtime_is_named_with_both_ways_to_install_it() -> None:
    """Where neither build is installed, the list of backends says what is missing and which to choose from."""
    shown = run(BLOCK, "backends", "--json")
    assert "needs onnxruntime, not installed" in shown
    assert "pip install 'llama4sdk-onnx[cpu]' (or 'llama4sdk-onnx[gpu]')" in shown


def test_the_card_is_the_capabilities() -> None:
    """The kit runs with the declared capabilities."""
    (info,) = llama4sdk_backends()
    assert info.capabilities == CAPABILITIES
    assert info.missing_modules() == ()


@pytest.mark.parametrize("model", ["demo", "scout", "maverick"])
def test_a_model_that_was_not_exported_comes_with_the_command(model: str) -> None:
    """The whole command that exports it, and what to do with the outcome."""
    answer = refusal(model)
    assert "not exported" in answer.reason
    assert f"llama4sdk export {model} --to onnx -q int4" in str(answer.fix)


def test_checkpoints_and_nonsense_are_told_apart(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A checkpoint can be exported, an empty directory or a name nobody knows cannot."""
    assert f"llama4sdk export {pair[0]}" in str(refusal(pair[0]).fix)
    assert "neither an export" in refusal("no-such-org/no-such-model").reason
    assert "told" in str(OnnxBackend().offer(Need(), LAPTOP))


def test_what_an_export_lacks_is_not_offered(pair: tuple[Path, Path], demo_int8: Path) -> None:
    """Chat without a template and images without a vision network are refused, and not among its capabilities."""
    assert "chat" in refusal(pair[1], features={"chat"}).reason
    assert "images" in refusal(demo_int8, features={"images"}).reason
    answer = OnnxBackend().offer(Need(model=str(demo_int8)), LAPTOP)
    assert isinstance(answer, Offer)
    assert answer.capabilities is not None
    assert answer.capabilities.features >= {"chat", "embed", "score", "json_schema"}
    assert not answer.capabilities.features & {"images", "tools"}


def test_a_client_finds_an_export_by_itself(pair: tuple[Path, Path]) -> None:
    """Among all backends the one that can run the directory is chosen, and none offers it as a checkpoint."""
    with Client(pair[1]) as client:
        plan = client.plan()
    assert plan.backend == "onnx"
    assert "torch" in {rejection.backend for rejection in plan.rejections}


def test_devices_without_a_provider_are_refused(demo_int8: Path) -> None:
    """A GPU asked of an export for processors, and one that is not there, are errors that say what to do."""
    with (
        pytest.raises(NoBackendError, match="fp16"),
        Client(demo_int8, backend="onnx", device="cuda", hardware=GPU_24GB) as client,
    ):
        client.plan()
    with (
        pytest.raises(NoBackendError, match="no device 'cuda'"),
        Client(demo_int8, backend="onnx", device="cuda", hardware=LAPTOP) as client,
    ):
        client.plan()


def test_a_provider_that_is_absent_is_an_error(pair: tuple[Path, Path]) -> None:
    """A plan for a device that the installed ONNX Runtime does not know fails by name when it is loaded."""
    placement = Placement(kind="local", devices=("cuda:0",))
    with pytest.raises(ModelLoadError, match=r"(?i)cuda") as caught:
        OnnxBackend().load(plan(pair[1], placement=placement))
    assert caught.value.hint


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json", "weights"])
def test_tampered_and_truncated_files_are_named(copy: Path, file: str) -> None:
    """One byte changed, or missing at the end, and loading says which file it is."""
    path = min((copy / "weights").iterdir()) if file == "weights" else copy / file
    whole = path.read_bytes()
    for spoilt in (whole[:-1], whole[:20] + bytes([whole[20] ^ 1]) + whole[21:]):
        path.write_bytes(spoilt)
        with pytest.raises(CheckpointError, match=path.name) as caught:
            OnnxBackend().load(plan(copy))
        assert caught.value.hint
    path.unlink()
    with pytest.raises(CheckpointError, match=path.name):
        OnnxBackend().load(plan(copy))


def test_a_damaged_manifest_is_said_so(copy: Path) -> None:
    """Of a manifest that cannot be read or was changed nothing is offered."""
    file = copy / "manifest.json"
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    assert refusal(copy).damaged
    changed = json.loads(whole)
    changed["temperature"] = 9.0
    file.write_text(json.dumps(changed))
    assert refusal(copy).damaged
    with pytest.raises(CheckpointError):
        OnnxBackend().load(plan(copy))


def test_an_export_that_was_not_finished_is_no_export(copy: Path) -> None:
    """A journal without a manifest means that the command should be run again."""
    (copy / "manifest.json").unlink()
    (copy / "export.journal").write_text('{"format": "llama4sdk-onnx"}\n')
    answer = refusal(copy)
    assert "not finished" in answer.reason
    assert "again" in str(answer.fix)
    with pytest.raises(NoBackendError, match="not finished"), Client(copy) as client:
        client.plan()


def test_a_plan_for_more_than_is_free_is_refused_before_anything_is_read(pair: tuple[Path, Path]) -> None:
    """The system would end the process rather than let an allocation fail."""
    with pytest.raises(DeviceMemoryError, match="are free now"):
        OnnxBackend().load(
            plan(pair[1], memory={"cpu": 2**60}), progress=lambda done, total: pytest.fail("something was read")
        )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process may address")
@pytest.mark.parametrize(("when", "room"), [("before", 150), ("loaded", 70)])
def test_running_out_of_memory_has_a_name(demo_int8: Path, when: str, room: int) -> None:
    """With too little room for the weights, or for a long prompt, DeviceMemoryError says so, and nothing crashes."""
    assert run(SQUEEZED, demo_int8, when, room * 2**20).strip() == "DeviceMemoryError True"
