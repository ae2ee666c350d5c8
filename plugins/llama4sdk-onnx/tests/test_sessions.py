"""Sessions of ONNX Runtime: what they are made with, and every failure in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from llama4sdk_onnx import sessions
from llama4sdk_onnx.caches import BufferDevice
from llama4sdk_onnx.sessions import buffer_device, open_session, require_version, run_errors
from onnx import NodeProto, TensorProto, helper, numpy_helper

from llama4sdk.errors import BackendError, CheckpointError, DeviceMemoryError, Llama4Error, ModelLoadError
from llama4sdk.hardware import Cpu


def written(
    folder: Path,
    node: NodeProto,
    *,
    opset: int = 21,
    domain: str = "com.microsoft",
    version: int = 1,
    weights: np.ndarray | None = None,
    ir: int = 10,
) -> Path:
    """A graph of one node, from ``x`` [1, 4] and ``w`` to ``y``; its weights lie beside it."""
    value = helper.make_tensor_value_info
    inputs, outputs = [value("x", TensorProto.FLOAT, [1, 4])], [value("y", TensorProto.FLOAT, None)]
    constants = [] if weights is None else [numpy_helper.from_array(weights, "w")]
    graph = helper.make_graph([node], "g", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(domain, version)]
    file = folder / "model.onnx"
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir)
    onnx.save(model, file, save_as_external_data=weights is not None, location="w.bin", size_threshold=1024)
    return file


def multiply(folder: Path) -> Path:
    """A graph with weights."""
    return written(folder, helper.make_node("MatMul", ["x", "w"], ["y"]), weights=np.ones((4, 2000), np.float32))


def test_a_graph_runs_in_as_many_threads_as_there_are_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more threads than the plan says, nor than this process may use, whatever the machine has."""
    monkeypatch.setattr(sessions.cpu, "read", lambda: Cpu(name="test", cores=2))
    file = multiply(tmp_path)
    counts = [open_session(file, threads=n).get_session_options().intra_op_num_threads for n in (None, 1, 2, 64)]
    assert counts == [2, 1, 2, 2]
    session = open_session(file)
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.run(None, {"x": np.ones((1, 4), np.float32)})[0].tolist() == [[4.0] * 2000]


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ({"node": helper.make_node("Relu", ["x"], ["y"]), "opset": 99}, "operator set 99 of ai.onnx"),
        ({"node": helper.make_node("Relu", ["x"], ["y"]), "version": 7}, "operator set 7 of com.microsoft"),
        (
            {"node": helper.make_node("Draw", ["x"], ["y"], domain="org.shop"), "domain": "org.shop"},
            "operator Draw of org.shop",
        ),
        ({"node": helper.make_node("Draw", ["x"], ["y"], domain="com.microsoft")}, "operator Draw of com.microsoft"),
        ({"node": helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft", hue=3)}, "attribute hue of Gelu"),
        ({"node": helper.make_node("Relu", ["x"], ["y"]), "ir": 99}, "format 99"),
    ],
    ids=["opset", "version", "domain", "operator", "attribute", "format"],
)
def test_what_this_onnx_runtime_does_not_know_is_named(tmp_path: Path, graph: dict[str, object], words: str) -> None:
    """Graphs of newer operators: which they are, and that another version or another export helps."""
    with pytest.raises(ModelLoadError, match=words) as caught:
        open_session(written(tmp_path, **graph), threads=1)  # type: ignore[arg-type]
    assert onnxruntime.__version__ in caught.value.message
    assert caught.value.hint is not None
    assert "newer ONNX Runtime" in caught.value.hint


def test_damaged_exports_are_told_as_such(tmp_path: Path) -> None:
    """Weights cut off or gone, a graph cut off, empty or gone."""
    file = multiply(tmp_path)
    whole, weights = file.read_bytes(), tmp_path / "w.bin"
    weights.write_bytes(weights.read_bytes()[:100])
    refused(file)
    weights.unlink()
    refused(file)
    for content in (whole[: len(whole) // 2], b"", b"no graph" * 9):
        file.write_bytes(content)
        refused(file)
    file.unlink()
    refused(file)


def refused(file: Path) -> None:
    """It does not open, and the error says which it is."""
    with pytest.raises(CheckpointError, match=r"model\.onnx") as caught:
        open_session(file, threads=1)
    assert caught.value.hint == "Export the model again."


def test_a_provider_that_is_missing_is_named_with_its_package(tmp_path: Path) -> None:
    """The build of ONNX Runtime that is here has no such provider: which has."""
    with pytest.raises(ModelLoadError, match="CUDAExecutionProvider") as caught:
        open_session(multiply(tmp_path), device="cuda:1")
    assert "onnxruntime-gpu" in str(caught.value.hint)
    with pytest.raises(ModelLoadError, match="no name for the device 'tpu:0'"):
        open_session(multiply(tmp_path), device="tpu:0")


def test_a_provider_that_does_not_start_is_not_replaced_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime goes on with the CPU when a GPU's libraries are missing; that is refused."""
    providers = ["CUDAExecutionProvider", "TensorrtExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    for device in ("cuda:0", "tensorrt:0"):
        with pytest.raises(ModelLoadError, match=f"does not start on '{device}'") as caught:
            open_session(multiply(tmp_path), device=device, memory_limit=10**9)
        assert "driver" in str(caught.value.hint)


def test_devices_are_places_of_buffers() -> None:
    """Accelerators with memory of their own keep caches there, others share the processor's."""
    assert buffer_device("cpu") == buffer_device("coreml") == BufferDevice("cpu", 0)
    assert buffer_device("dml:1") == BufferDevice("cpu", 0)
    assert buffer_device("cuda:1") == buffer_device("tensorrt:1") == BufferDevice("cuda", 1)


def test_an_older_onnx_runtime_is_refused_with_both_versions() -> None:
    """Releases of ONNX Runtime: needed by the graph, and installed."""
    require_version("1.2.10")
    require_version(onnxruntime.__version__)
    with pytest.raises(ModelLoadError, match=r"1\.999 or newer, and " + onnxruntime.__version__):
        require_version("1.999")


def test_memory_that_runs_out_in_a_run_is_told_as_such(tmp_path: Path) -> None:
    """However the run is made, and how much was missing."""
    shape = np.array([1 << 38, 4])
    session = open_session(written(tmp_path, helper.make_node("Expand", ["x", "w"], ["y"]), weights=shape), threads=1)
    binding = session.io_binding()
    binding.bind_cpu_input("x", np.ones((1, 4), np.float32))
    binding.bind_output("y")
    for run in (
        lambda: session.run_with_iobinding(binding),
        lambda: session.run(None, {"x": np.ones((1, 4), np.float32)}),
    ):
        with pytest.raises(DeviceMemoryError, match="Memory ran out on 'cpu'") as caught, run_errors("cpu"):
            run()
        assert caught.value.need == 4 << 40


@pytest.mark.parametrize(
    "words",
    [
        "CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "Available memory of 100 is smaller than requested bytes of 4096",
        "std::bad_alloc",
    ],
)
def test_what_providers_say_of_memory_is_understood(words: str) -> None:
    """Each has its own words for it."""
    with pytest.raises(DeviceMemoryError, match="cuda:0"), run_errors("cuda:0"):
        raise RuntimeError(words)
    with pytest.raises(DeviceMemoryError), run_errors("cpu"):
        raise MemoryError


def test_other_failures_keep_their_words() -> None:
    """Whatever else a run says, without ONNX Runtime's codes; errors of ours pass unchanged."""
    with pytest.raises(BackendError, match=r"failed on 'cpu': Name:'x' it broke$"), run_errors("cpu"):
        raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Name:'x' it broke\nat line 3")
    ours = Llama4Error("ours")
    with pytest.raises(Llama4Error) as caught, run_errors("cpu"):
        raise ours
    assert caught.value is ours


def test_nothing_is_written_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither warnings about a graph, nor that it cannot be read."""
    file = written(tmp_path, helper.make_node("Relu", ["x"], ["y"]), weights=np.ones(4, np.float32))  # not used
    session = open_session(file, threads=1)
    session.run(None, {"x": np.ones((1, 4), np.float32)})
    file.write_bytes(b"no graph")
    with pytest.raises(CheckpointError):
        open_session(file, threads=1)
    assert capfd.readouterr() == ("", "")
