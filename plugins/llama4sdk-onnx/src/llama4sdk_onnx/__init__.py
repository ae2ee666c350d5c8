"""The ONNX Runtime backend. Importing this loads neither ONNX Runtime nor numpy."""

from llama4sdk.backend import BackendInfo, Capabilities
from llama4sdk.exporter import ExporterInfo
from llama4sdk.hookspecs import hookimpl

__all__ = ["CAPABILITIES", "llama4sdk_backends", "llama4sdk_exporters"]

CAPABILITIES = Capabilities(
    features=frozenset(
        {
            "generate",
            "chat",
            "images",
            "tools",
            "tool_choice",
            "json_schema",
            "regex",
            "grammar",
            "embed",
            "count_tokens",
            "score",
        }
    )
)


@hookimpl
def llama4sdk_backends() -> list[BackendInfo]:
    """The backend's card."""
    return [
        BackendInfo(
            name="onnx",
            summary="Runs exported models on ONNX Runtime, on CPUs and GPUs, without torch.",
            cls="llama4sdk_onnx.backend:OnnxBackend",
            requires=("onnxruntime", "jinja2", "llguidance", "numpy", "PIL", "tokenizers"),
            install="pip install 'llama4sdk-onnx[cpu]' (or 'llama4sdk-onnx[gpu]')",
            capabilities=CAPABILITIES,
        )
    ]


@hookimpl
def llama4sdk_exporters() -> list[ExporterInfo]:
    """The exporter's card."""
    return [
        ExporterInfo(
            name="onnx",
            summary="Writes checkpoints as graphs for ONNX Runtime.",
            cls="llama4sdk_onnx.export.exporter:OnnxExporter",
            requires=("onnx_ir", "onnx", "jinja2", "numpy", "tokenizers"),
            install="pip install 'llama4sdk-onnx[export]'",
        )
    ]
