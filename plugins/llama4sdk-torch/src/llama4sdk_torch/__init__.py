"""The native PyTorch engine. Importing this loads no torch: only ``backend.py``'s ``load`` does."""

from llama4sdk.backend import BackendInfo, Capabilities
from llama4sdk.hookspecs import hookimpl

__all__ = ["CAPABILITIES", "llama4sdk_backends"]

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
    """The torch backend's card."""
    return [
        BackendInfo(
            name="torch",
            summary="Runs checkpoints on this machine's GPU or CPU with PyTorch.",
            cls="llama4sdk_torch.backend:TorchBackend",
            requires=("torch", "gguf", "jinja2", "llguidance", "ml_dtypes", "numpy", "PIL", "tokenizers"),
            install="pip install llama4sdk-torch",
            capabilities=CAPABILITIES,
        )
    ]
